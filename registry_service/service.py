"""The registry as one object: built from settings, started, stopped."""

import asyncio
import os

from sqlalchemy.orm import Session

from lorikeet.rpc.call_log import CallLog
from lorikeet.rpc.metrics import MetricsServer, RpcMetrics, serve_metrics
from lorikeet.rpc.observation import Observer
from lorikeet.rpc.server import GrpcServer, is_loopback
from lorikeet.rpc.telemetry import open_tracing
from lorikeet.rpc.tls import server_tls_files
from protos import registry_pb2 as pb
from protos import registry_pb2_grpc as rpc
from registry_service.access_servicer import AccessServicer
from registry_service.adapter_servicer import AdapterServicer
from registry_service.artifact_keeper import ArtifactKeeper
from registry_service.artifact_servicer import ArtifactServicer
from registry_service.artifacts.observed_store import ObservedStore
from registry_service.authentication import Authenticator
from registry_service.bootstrap import (
    create_first_principals,
    lock_data_directory,
    open_database,
    serialise_starts,
    starting,
    upgrade_database,
)
from registry_service.caller_cache import CallerCache
from registry_service.calls import CallRunner
from registry_service.catalog import Catalog
from registry_service.catalog_reader import CatalogReader
from registry_service.config import Settings
from registry_service.feed import ChangeFeed
from registry_service.metrics import RegistryMetrics
from registry_service.pages import PageTokens
from registry_service.publisher import Publisher
from registry_service.repository import server_secrets
from registry_service.resolver import Resolver
from registry_service.store_owner import check_owner
from registry_service.stores import open_store
from registry_service.sweeper import Sweeper
from registry_service.tail import Tail
from registry_service.tokens import token_verifier
from registry_service.upload_gate import UploadGate
from registry_service.usage_sampler import UsageSampler
from registry_service.watch import Watchers

_STOP_SECONDS = 1.0
_SERVICES = ("AdapterRegistry", "ArtifactService", "AccessService")


class RegistryService:
    """Everything the process owns. `start` once, then `stop` once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        tls = server_tls_files(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        self._authenticator = Authenticator(token_verifier(settings))
        self._metrics = RegistryMetrics()
        self._metrics_server: MetricsServer | None = None
        self._tracing = open_tracing("lorikeet-registry", settings.otlp_endpoint)
        self._server = GrpcServer(
            settings.listen,
            insecure=settings.insecure,
            tls=tls,
            observers=self._observers(),
        )
        self._lock = lock_data_directory(settings.data_dir)
        self._database = open_database(settings)
        self._metrics.database.watch(self._database.engine)
        self._store = ObservedStore(
            open_store(settings, exclusive=True), self._metrics.object_store
        )
        self._keeper = ArtifactKeeper(
            self._store,
            settings.data_dir / "scratch",
            num_threads=settings.num_artifact_threads,
            max_rank=settings.max_lora_rank,
            patience=_patience(settings),
        )
        self._gate = UploadGate()
        self._feed = ChangeFeed()
        self._tail = Tail(self._database, self._feed)
        self._metrics.feed.watch(self._feed)
        self._catalog = Catalog(self._feed)
        self._metrics.feed.show_catalog(self._catalog)
        self._reader = CatalogReader(self._database, self._catalog)
        self._sweeper = Sweeper(self._database, self._keeper, settings, self._metrics.collected)
        self._sampler = UsageSampler(self._database, self._metrics.tenants)
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> str:
        """Prepares the database, serves, and returns the address with the real port."""
        secret = self._prepare()
        self._add_servicers(self._runner(secret), self._feed)
        await self._tail.start()
        names = [pb.DESCRIPTOR.services_by_name[name].full_name for name in _SERVICES]
        if self._settings.metrics_listen is not None:
            self._metrics_server = self._serve_metrics(self._settings.metrics_listen)
        address = await self._server.start(names)
        tasks = [self._sweeper.run(), self._reader.run()]
        self._background = [asyncio.create_task(task) for task in tasks]
        if self._metrics_server is not None:
            self._background.append(asyncio.create_task(self._sampler.run()))
        await self._server.set_serving(True)
        return address

    async def stop(self) -> None:
        """Ends running calls within about a second, then closes what they used."""
        await self._server.stop(_STOP_SECONDS)
        await self._authenticator.close()
        if self._metrics_server is not None:
            await asyncio.to_thread(self._metrics_server.close)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._gate.settle(_STOP_SECONDS)
        await self._tail.stop()
        self._keeper.close()
        self._store.close()
        self._database.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)
        os.close(self._lock)

    @property
    def metrics_address(self) -> str | None:
        """Where metrics are served, once the service has started."""
        return self._metrics_server.address if self._metrics_server else None

    async def sweep(self) -> None:
        """Forgets expired uploads and old request ids now; it also happens by itself."""
        await self._sweeper.sweep()

    async def sample_usage(self) -> None:
        """Measures what tenants store now; it also happens by itself while metrics are served."""
        await self._sampler.sample()

    def _observers(self) -> list[Observer]:
        counting: list[Observer] = [RpcMetrics(self._metrics.registry), CallLog()]
        return [*counting, self._tracing.observer()] if self._tracing else counting

    def _serve_metrics(self, listen: str) -> MetricsServer:
        settings = self._settings
        return serve_metrics(
            self._metrics.registry,
            listen,
            certificate=settings.tls_cert,
            key=settings.tls_key,
            insecure=settings.insecure,
        )

    def _prepare(self) -> bytes:
        """Blocks: nothing is served yet. Returns the secret of the page tokens."""
        engine, settings = self._database.engine, self._settings
        credentials = settings.data_dir / "credentials.json"
        allowed = settings.bootstrap_credentials or is_loopback(settings.listen)
        with starting():
            upgrade_database(engine)
            with Session(engine) as session, session.begin():
                serialise_starts(session.connection())
                create_first_principals(session, credentials, allowed=allowed)
                secret = server_secrets.get_or_create(session, "page_tokens")
                check_owner(session, self._store, secret)
                return secret

    def _runner(self, secret: bytes) -> CallRunner:
        feed = self._feed
        callers = CallerCache(self._database, feed.is_current)
        feed.tell(callers.changed, callers.clear)
        self._database.on_commit(feed.committed)
        pages = PageTokens(secret)
        return CallRunner(self._database, pages, self._settings, callers, self._authenticator)

    def _add_servicers(self, runner: CallRunner, feed: ChangeFeed) -> None:
        server = self._server.server
        settings = self._settings
        resolver = Resolver(runner, self._database, self._catalog, feed, self._metrics.feed)
        watchers = Watchers(runner, feed, settings.heartbeat_seconds, settings.slow_watcher_seconds)
        adapters = AdapterServicer(runner, resolver, watchers)
        publisher = Publisher(runner, self._keeper, settings.max_artifact_bytes)
        artifacts = ArtifactServicer(
            runner, self._keeper, publisher, self._gate, settings.download_url_seconds
        )
        rpc.add_AdapterRegistryServicer_to_server(adapters, server)  # type: ignore[no-untyped-call]
        rpc.add_ArtifactServiceServicer_to_server(artifacts, server)  # type: ignore[no-untyped-call]
        rpc.add_AccessServiceServicer_to_server(AccessServicer(runner), server)  # type: ignore[no-untyped-call]


def _patience(settings: Settings) -> float:
    """Seconds for one step of a stream: what S3 may take by its own limits, and some more."""
    once = settings.s3_connect_seconds + settings.s3_read_seconds
    return once * settings.s3_attempts + 2.0
