"""The front end on a real registry, both in this process; only the engine is scripted."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpc import aio

from inference_service.config import Settings
from inference_service.service import InferenceService
from lorikeet.rpc.errors import from_rpc_error
from protos import inference_pb2, inference_pb2_grpc, registry_pb2
from registry_service.config import load_settings
from registry_service.service import RegistryService
from tests.inference.scripted_engine import ScriptedEngine
from tests.inference.tokenizer_files import write_model
from tests.registry.support import (
    BASE,
    BASE_CONFIG,
    USE,
    Client,
    grants,
    make_adapter,
    make_base_model,
    make_key,
    make_tenant,
    publish,
)

BASE_MODEL = BASE.removeprefix("baseModels/")
Stop = Callable[[], Awaitable[None]]


@dataclass
class Answer:
    """A whole stream."""

    start: inference_pb2.GenerateStart
    chunks: list[inference_pb2.GenerateChunk] = field(default_factory=list)
    complete: inference_pb2.GenerateComplete | None = None

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def token_ids(self) -> list[int]:
        return [token_id for chunk in self.chunks for token_id in chunk.token_ids]


class User:
    """Calls the inference service with one API key; failures are typed errors."""

    def __init__(self, channel: aio.Channel, api_key: str) -> None:
        make: Any = inference_pb2_grpc
        self._stubs = [make.InferenceStub(channel), make.AdapterRuntimeStub(channel)]
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()

    def call(
        self,
        method: str,
        request: Any,
        timeout: float | None = 20,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> Any:
        stub = next(stub for stub in self._stubs if hasattr(stub, method))
        return getattr(stub, method)(
            request, metadata=(*self._metadata, *metadata), timeout=timeout
        )

    async def __call__(self, method: str, request: Any) -> Any:
        try:
            return await self.call(method, request)
        except aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def stream(self, method: str, request: Any) -> list[Any]:
        try:
            return [response async for response in self.call(method, request)]
        except aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def ask(self, request: Any) -> Answer:
        """A whole Generate or Chat: one start, chunks, one complete, in this order."""
        chat = isinstance(request, inference_pb2.ChatRequest)
        responses = await self.stream("Chat" if chat else "Generate", request)
        kinds = [response.WhichOneof("event") for response in responses]
        assert kinds == ["start", *["chunk"] * (len(kinds) - 2), "complete"]
        chunks = [response.chunk for response in responses[1:-1]]
        return Answer(responses[0].start, chunks, responses[-1].complete)

    async def generate(self, adapter: str = "", prompt: str = "hello", **fields: Any) -> Answer:
        request = inference_pb2.GenerateRequest(adapter=adapter, prompt=prompt, **fields)
        return await self.ask(request)


@dataclass
class World:
    """Everything a test needs to reach."""

    stop_registry: Stop
    registry_address: str
    admin: Client
    service: InferenceService
    engine: ScriptedEngine
    data_dir: Path
    address: str
    channel: aio.Channel
    tenants: set[str] = field(default_factory=set)
    adapters: set[str] = field(default_factory=set)

    async def user(self, tenant: str, *granted: tuple[int, str], name: str = "user") -> User:
        """A principal of a tenant, with USE on it unless told otherwise."""
        return User(self.channel, await self.key(tenant, *granted, name=name))

    async def key(self, tenant: str, *granted: tuple[int, str], name: str = "user") -> str:
        if tenant not in self.tenants:
            self.tenants.add(tenant)
            await make_tenant(self.admin, tenant)
        return await make_key(
            self.admin, tenant, name, grants(*(granted or [(USE, f"tenants/{tenant}")]))
        )

    async def publish(
        self, tenant: str, adapter: str, seed: int = 0, aliases: Sequence[str] = (), **profile: Any
    ) -> registry_pb2.AdapterVersion:
        """The next version of an adapter, which is created if it is not there."""
        name = f"tenants/{tenant}/adapters/{adapter}"
        request = registry_pb2.CreateAdapterRequest(
            parent=f"tenants/{tenant}",
            adapter_id=adapter,
            adapter=registry_pb2.Adapter(
                base_model=BASE, profile=registry_pb2.AdapterProfile(**profile)
            ),
        )
        if name not in self.adapters:
            self.adapters.add(name)
            await self.admin("CreateAdapter", request)
        return await publish(self.admin, name, make_adapter(seed=seed).files(), aliases)

    async def allow(self, adapter: str, *tenants: str) -> None:
        """Replaces the allow-list of tenants/{t}/adapters/{a}."""
        policy = registry_pb2.AccessPolicy(
            adapter=adapter, allowed_tenants=[f"tenants/{tenant}" for tenant in tenants]
        )
        await self.admin("SetAccessPolicy", registry_pb2.SetAccessPolicyRequest(policy=policy))


@asynccontextmanager
async def running_registry(root: Path) -> AsyncIterator[tuple[Stop, str, Client]]:
    """A registry that knows the tiny base model: how to stop it, its address, its admin."""
    registry = RegistryService(
        load_settings(["--listen", "127.0.0.1:0", "--data-dir", str(root / "registry")])
    )
    address = await registry.start()
    credentials = json.loads((root / "registry" / "credentials.json").read_text())
    async with aio.insecure_channel(address) as channel:
        admin = Client(channel, credentials["admin"])
        model = write_base_model(root)
        await make_base_model(admin, config_json=(model / "config.json").read_text())
        async with AsyncExitStack() as stopping:
            stopping.push_async_callback(registry.stop)
            yield stopping.aclose, address, admin


def write_base_model(root: Path) -> Path:
    """The checkpoint directory: config and tokenizer, no weights."""
    model = write_model(root / "model")
    (model / "config.json").write_text(json.dumps(dict(BASE_CONFIG)))
    return model


def settings_for(root: Path, registry_address: str, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "model": root / "model",
        "base_model": BASE_MODEL,
        "registry": registry_address,
        "credentials": root / "registry" / "credentials.json",
        "listen": "127.0.0.1:0",
        "data_dir": root / "inference",
        "shutdown_grace_seconds": 1.0,
        **changes,
    }
    return Settings(**values)


@asynccontextmanager
async def running_world(root: Path, **changes: Any) -> AsyncIterator[World]:
    async with running_registry(root) as (stop_registry, registry_address, admin):
        engine = ScriptedEngine()
        settings = settings_for(root, registry_address, **changes)
        service = InferenceService(settings, engine.attach)
        address = await service.start()
        async with aio.insecure_channel(address) as channel:
            yield World(
                stop_registry=stop_registry,
                registry_address=registry_address,
                admin=admin,
                service=service,
                engine=engine,
                data_dir=settings.data_dir,
                address=address,
                channel=channel,
            )
        if not engine.closed:
            await service.stop()
        assert engine.closed


async def eventually(condition: Callable[[], object], seconds: float = 1.0) -> None:
    """Waits until something is so; fails when it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


async def until(ask: Callable[[], Awaitable[object]], expected: object, seconds: float = 5) -> None:
    """Asks again and again, for as long as a change in the registry may take to be seen."""
    async with asyncio.timeout(seconds):
        while True:
            if await ask() == expected:
                return
            await asyncio.sleep(0.01)
