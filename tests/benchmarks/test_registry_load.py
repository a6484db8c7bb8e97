"""The load generator asks what it is told to ask, and its figures are those of what it asked."""

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

import grpc
import pytest

from benchmarks.load import Delays, load_generator
from benchmarks.lookups import ALIAS, GUEST, OWNER, MlflowLookup, Service, name_of
from protos import registry_pb2 as pb
from tests.registry.process import Process
from tests.registry.support import (
    Client,
    make_adapter,
    make_base_model,
    make_registered,
    make_tenant,
    publish,
)


def test_percentiles() -> None:
    delays = Delays(tuple(float(n) for n in range(100, 0, -1)), 4.0)
    assert (delays.rate, delays.median, delays.percentile(0.99)) == (25.0, 50.5, 100.0)


async def _register(address: str, key: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        admin = Client(channel, key)
        for tenant in (OWNER, GUEST):
            await make_tenant(admin, tenant)
        await make_base_model(admin)
        adapter = await make_registered(admin, OWNER, name_of(0))
        await publish(admin, adapter, make_adapter().files(), [ALIAS])
        policy = pb.AccessPolicy(adapter=adapter, allowed_tenants=[f"tenants/{GUEST}"])
        await admin("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy))


def test_a_registry_under_every_kind_of_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("LORIKEET_REGISTRY_")]:
        monkeypatch.delenv(name)
    process = Process(tmp_path / "data")
    try:
        address = process.wait_ready()
        keys = json.loads((tmp_path / "data" / "credentials.json").read_text())
        asyncio.run(_register(address, keys["admin"]))
        service = Service(address, keys["inference"])
        with load_generator() as load:
            closed = load.closed(service, 1, clients=3, seconds=0.3)
            opened = load.opened(service, 1, rate=50, seconds=1)
            once = load.once(service, [0] * 7, clients=2)
            with pytest.raises(grpc.aio.AioRpcError, match="PERMISSION_DENIED"):
                load.once(service, [1], clients=1)
    finally:
        assert process.stop(signal.SIGTERM) == 0
    assert closed.rate > 3
    assert 20 < len(opened.milliseconds) < 100
    assert len(once.milliseconds) == 7
    assert all(delay > 0 for delay in closed.milliseconds)


async def test_the_lean_http_client_keeps_its_connection_and_makes_a_new_one() -> None:
    connections: list[asyncio.Event] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(ended := asyncio.Event())
        body = b'{"model_version": {"version": "1"}}'
        with contextlib.suppress(asyncio.IncompleteReadError):  # the client has closed
            for _ in range(2):
                request = await reader.readuntil(b"\r\n\r\n")
                assert f"name={name_of(7)}&alias={ALIAS}".encode() in request
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        lookup = MlflowLookup(f"127.0.0.1:{port}")
        for _ in range(3):
            await lookup.ask(7)
        lookup.close()
        for ended in connections:
            await ended.wait()
    assert len(connections) == 2
