"""The inference service put together: what starts when, and what ends when."""

import asyncio
import importlib.metadata
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from inference_service.access.access_control import AccessControl
from inference_service.access.resolutions import ServedModel
from inference_service.adapter_loads import AdapterLoads
from inference_service.adapters.registry_client import RegistryClient
from inference_service.adapters.registry_watch import RegistryWatch
from inference_service.adapters.s3_reader import artifact_reader
from inference_service.adapters.store import AdapterStore
from inference_service.admission import Admission
from inference_service.chat import ChatRenderer
from inference_service.config import Settings
from inference_service.engine.client import EngineClient
from inference_service.engine.config import EngineConfig
from inference_service.generation import Generations
from inference_service.generation_request import GenerationLimits
from inference_service.known_adapters import KnownAdapters
from inference_service.metrics.download_metrics import ObservedReader
from inference_service.metrics.sample_reader import SampleReader
from inference_service.model_files import ModelFiles, read_model_files
from inference_service.running_requests import RunningRequests
from inference_service.sampling_ranges import ModelLimits
from inference_service.servicer import InferenceServicer, ServerIdentity
from inference_service.servicer_runtime import AdapterRuntimeServicer
from inference_service.serving_health import ServingHealth
from inference_service.start_checks import (
    StartError,
    check_registry_address,
    follow_registry,
    registered_base_model,
)
from inference_service.telemetry import Telemetry
from inference_service.tenant_limits import TenantLimits
from inference_service.warm.warm_adapters import WarmAdapters, make_warm_adapters
from lorikeet.rpc.server import GrpcServer
from lorikeet.rpc.tls import server_tls_files
from protos import inference_pb2, inference_pb2_grpc, registry_pb2

logger = logging.getLogger(__name__)

MakeEngine = Callable[[EngineConfig, Callable[[bool], None]], EngineClient]
_SERVICE_NAMES = tuple(
    inference_pb2.DESCRIPTOR.services_by_name[name].full_name
    for name in ("Inference", "AdapterRuntime")
)
_ABORT_SECONDS = 0.2  # for what still runs when the grace is over to hear of it


class InferenceService:
    """Owns the engine, the store, the registry channel and the server."""

    def __init__(self, settings: Settings, make_engine: MakeEngine) -> None:
        registry_tls = settings.registry_tls_files()
        if registry_tls is None:
            check_registry_address(settings)
        self._settings = settings
        self._telemetry = Telemetry(settings)
        self.requests = RunningRequests(self._telemetry.request_observers)
        tls = server_tls_files(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        self._server = GrpcServer(
            settings.listen,
            insecure=settings.insecure,
            tls=tls,
            observers=self._telemetry.call_observers,
            max_concurrent_calls=settings.max_concurrent_calls,
        )
        self._registry = RegistryClient(
            settings.registry,
            settings.registry_api_key(),
            tls=registry_tls,
            deadline=settings.registry_deadline_seconds,
            interceptors=self._telemetry.client_interceptors,
        )
        self._watch = RegistryWatch(self._registry, settings.registry_lease_seconds)
        self._access: AccessControl | None = None
        reader = artifact_reader(settings.artifact_source, self._registry, settings.artifact_s3_ca)
        self._store = AdapterStore(
            settings.data_dir / "adapters",
            ObservedReader(reader, self._telemetry.downloads),
            max_bytes=int(settings.adapter_disk_budget),
            is_busy=self._are_processors_busy,
        )
        per_tenant = settings.max_waiting_requests_per_tenant or settings.max_waiting_requests
        self._admission = Admission(
            max_waiting=settings.max_waiting_requests,
            max_waiting_per_tenant=per_tenant,
            max_prefetches_per_tenant=settings.max_prefetches_per_tenant,
        )
        self._loop = asyncio.get_running_loop()
        self._health = ServingHealth()
        self._engine = make_engine(settings.engine_config(), self._engine_changed)
        self._chat: ChatRenderer | None = None
        self._warm: WarmAdapters | None = None
        self._publishing: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Starts everything and serves; returns the address. StartError says why it cannot."""
        engine_started = asyncio.ensure_future(self._engine.start())
        try:
            model_files = await asyncio.to_thread(read_model_files, self._settings.model)
            registered = await registered_base_model(self._registry, self._settings, model_files)
            await follow_registry(self._watch, self._settings)
            await self._store.open()
            await engine_started
        finally:
            engine_started.cancel()
            await asyncio.gather(engine_started, return_exceptions=True)
        self._warm = self._add_servicers(model_files, registered)
        await self._warm.start(self._watch)
        try:
            address = await self._server.start(_SERVICE_NAMES)
        except RuntimeError as error:  # gRPC's word for a port that is taken
            raise StartError(f"cannot listen on {self._settings.listen}: {error}") from error
        await self._server.set_serving(self._health.is_serving)
        self._publishing = asyncio.create_task(self._health.publish(self._server))
        logger.info("serving %s on %s", self._settings.base_model, address)
        return address

    def _are_processors_busy(self) -> bool:
        """Whether steps run on all of them, for streams that wait for their next token."""
        return self._engine.info.fills_processors and self.requests.are_generating

    async def stop(self) -> None:
        """Lets running streams end within the grace, then ends everything; also after a failure."""
        async with AsyncExitStack() as last_to_first:  # each is closed even if another fails to
            last_to_first.push_async_callback(self._telemetry.close)
            last_to_first.push_async_callback(self._registry.close)
            last_to_first.push_async_callback(self._watch.stop)
            last_to_first.push_async_callback(self._engine.close)
            if self._access is not None:
                last_to_first.push_async_callback(self._access.close)
            if self._chat is not None:
                last_to_first.push_async_callback(self._chat.close)
            last_to_first.push_async_callback(self._store.close)
            if self._warm is not None:
                last_to_first.push_async_callback(self._warm.stop)
            if self._publishing is not None:
                last_to_first.push_async_callback(self._stop_serving, self._publishing)

    @property
    def metrics_address(self) -> str | None:
        """Where metrics are served, once the service has started."""
        return self._telemetry.metrics_address

    def _engine_changed(self, is_up: bool) -> None:
        self._loop.call_soon_threadsafe(self._note_engine, is_up)

    def _note_engine(self, is_up: bool) -> None:
        if is_up and self._warm is not None:
            self._warm.engine_restarted()
        self._health.set("the engine is down", against=not is_up)

    async def _stop_serving(self, publishing: asyncio.Task[None]) -> None:
        """NOT_SERVING at once; requests are refused when whoever sends them had time to see it."""
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        try:
            await self._server.set_serving(False)
            if not self._admission.is_closed:  # after a drain nobody sends any
                await asyncio.sleep(self._settings.shutdown_delay_seconds)
            self._admission.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.shutdown_grace_seconds):
                    await self._admission.wait_until_idle()
        finally:  # also when the operator would not wait
            await self._server.stop(_ABORT_SECONDS)

    def _add_servicers(
        self, model_files: ModelFiles, registered: registry_pb2.BaseModel
    ) -> WarmAdapters:
        settings = self._settings
        known_adapters = KnownAdapters()
        loads = AdapterLoads(self._store, self._engine)
        served = ServedModel(settings.base_model, registered.revision)
        self._access = access = AccessControl(
            self._registry, self._watch, served, self._engine, known_adapters
        )
        warm = make_warm_adapters(
            *(settings, self._registry, access.gate, known_adapters),
            *(self._store, self._engine, loads, self._health),
        )
        defaults = settings.default_serving_limits()
        limits = TenantLimits(self._registry, self._watch, defaults)
        self._telemetry.serve(self._sample_reader(known_adapters, warm))
        generations = self._generations(model_files, access, known_adapters, loads, limits)
        self._chat = ChatRenderer(model_files)
        parser = settings.tool_call_parser or ""
        inference = InferenceServicer(
            self._identity(model_files, registered), generations, self._chat, warm.set, parser
        )
        runtime = AdapterRuntimeServicer(
            *(access.gate, known_adapters, self._store, self._engine, self.requests),
            *(loads, self._admission, limits, self._health, warm),
        )
        add: Any = inference_pb2_grpc
        add.add_InferenceServicer_to_server(inference, self._server.server)
        add.add_AdapterRuntimeServicer_to_server(runtime, self._server.server)
        return warm

    def _sample_reader(self, known_adapters: KnownAdapters, warm: WarmAdapters) -> SampleReader:
        return SampleReader(
            *(self._engine, self._admission, self.requests, self._store),
            *(known_adapters, self._watch, self._health, warm.set),
        )

    def _generations(
        self,
        model_files: ModelFiles,
        access: AccessControl,
        known_adapters: KnownAdapters,
        loads: AdapterLoads,
        tenant_limits: TenantLimits,
    ) -> Generations:
        settings, info = self._settings, self._engine.info
        return Generations(
            base_model=settings.base_model,
            gate=access.gate,
            admission=self._admission,
            tenant_limits=tenant_limits,
            known_adapters=known_adapters,
            loads=loads,
            engine=self._engine,
            tokenizer=model_files.tokenizer,
            model_limits=ModelLimits(
                info.max_model_len, info.vocab_size, model_files.eos_token_ids
            ),
            limits=GenerationLimits(settings.max_request_seconds, settings.slow_reader_seconds),
            requests=self.requests,
            revocations=access.revocations,
        )

    def _identity(
        self, model_files: ModelFiles, registered: registry_pb2.BaseModel
    ) -> ServerIdentity:
        return ServerIdentity(
            version=importlib.metadata.version("lorikeet"),
            base_model=self._settings.base_model,
            base_model_revision=registered.revision,
            config_digest=model_files.config_digest,
        )
