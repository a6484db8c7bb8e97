"""One question in two protocols: which version does this alias of this name mean?"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from grpc import aio

from protos import registry_pb2 as pb
from protos import registry_pb2_grpc as rpc

ALIAS = "stable"
OWNER = "acme"
GUEST = "globex"
_SECONDS = 10.0


@dataclass(frozen=True)
class Service:
    """Where to ask. With an API key it is our registry, without one it is MLflow."""

    address: str
    api_key: str = ""


class Lookup(Protocol):
    """One client; it asks one question at a time, or more if its protocol allows."""

    async def ask(self, index: int) -> None:
        """Asks for the name with this index; raises unless the answer is right."""


def name_of(index: int) -> str:
    return f"bot-{index}"


@asynccontextmanager
async def connect(service: Service, clients: int) -> AsyncIterator[list[Lookup]]:
    """`clients` of a service; those of the registry share a connection, as HTTP/2 means them to."""
    async with AsyncExitStack() as stack:
        if service.api_key:
            channel = await stack.enter_async_context(aio.insecure_channel(service.address))
            yield [RegistryLookup(channel, service.api_key)] * clients
            return
        lookups: list[Lookup] = []
        for _ in range(clients):
            lookup = MlflowLookup(service.address)
            stack.callback(lookup.close)
            lookups.append(lookup)
        yield lookups


class RegistryLookup:
    """ResolveAdapter as the inference service calls it: for a tenant of the allow-list."""

    def __init__(self, channel: aio.Channel, api_key: str) -> None:
        self._stub = rpc.AdapterRegistryStub(channel)  # type: ignore[no-untyped-call]
        self._metadata = (("authorization", f"Bearer {api_key}"),)

    async def ask(self, index: int) -> None:
        request = pb.ResolveAdapterRequest(
            tenant=f"tenants/{GUEST}",
            name=f"tenants/{OWNER}/adapters/{name_of(index)}/aliases/{ALIAS}",
        )
        answer = await self._stub.ResolveAdapter(request, metadata=self._metadata, timeout=_SECONDS)
        assert answer.version.version == 1


class MlflowLookup:
    """GET registered-models/alias on a kept connection, with no more HTTP than it needs."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def ask(self, index: int) -> None:
        path = f"/api/2.0/mlflow/registered-models/alias?name={name_of(index)}&alias={ALIAS}"
        request = f"GET {path} HTTP/1.1\r\nHost: {self._address}\r\nConnection: keep-alive\r\n\r\n"
        async with self._lock, asyncio.timeout(_SECONDS):
            try:
                head, body = await self._exchange(request.encode())
            except (ConnectionError, asyncio.IncompleteReadError):
                self.close()  # its supervisor kills workers that are slow
                head, body = await self._exchange(request.encode())
        assert " 200 " in head[0], body
        assert json.loads(body)["model_version"]["version"] == "1"

    async def _exchange(self, request: bytes) -> tuple[list[str], bytes]:
        if self._streams is None:
            host, _, port = self._address.rpartition(":")
            self._streams = await asyncio.open_connection(host, int(port))
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        length = next(field for field in head if field.startswith("content-length:"))
        return head, await reader.readexactly(int(length.partition(":")[2]))
