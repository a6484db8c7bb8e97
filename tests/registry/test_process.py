"""The command: starts, stops, and survives being killed."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos import registry_pb2 as pb
from tests.registry.process import ROOT, Process
from tests.registry.support import (
    USE,
    WEIGHTS,
    Client,
    chunks,
    declared,
    failure,
    grants,
    make_adapter,
    make_base_model,
    make_key,
    make_registered,
    make_tenant,
    publish,
    read_file,
    start_and_write,
)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Process]]:
    """Processes to be ended whatever happens."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.popen.kill()
        process.popen.communicate()


async def test_nothing_acknowledged_is_lost_by_kill(tmp_path: Path, started: list[Process]) -> None:
    data_dir = tmp_path / "data"
    files = make_adapter().files()
    process = Process(data_dir)
    started.append(process)
    address = await asyncio.to_thread(process.wait_ready)
    key = json.loads((data_dir / "credentials.json").read_text())["admin"]
    async with grpc.aio.insecure_channel(address) as channel:
        admin = Client(channel, key)
        await make_tenant(admin, "acme")
        user_key = await make_key(admin, "acme", "user", grants((USE, "tenants/acme")))
        await make_base_model(admin)
        adapter = await make_registered(admin, "acme", "bot")
        version = await publish(admin, adapter, files, ["stable"])
        request = pb.StartUploadRequest(adapter=adapter, files=declared(files))
        half = (await admin("StartUpload", request)).name
        await admin("WriteArtifact", iter(list(chunks(half, {WEIGHTS: files[WEIGHTS]}))[:2]))
        whole = await start_and_write(admin, adapter, files)
    assert process.stop(signal.SIGKILL) == -signal.SIGKILL

    process = Process(data_dir)
    started.append(process)
    address = await asyncio.to_thread(process.wait_ready)
    async with grpc.aio.insecure_channel(address) as channel:
        user = Client(channel, user_key)
        resolve = pb.ResolveAdapterRequest(tenant="tenants/acme", name=f"{adapter}/aliases/stable")
        assert (await user("ResolveAdapter", resolve)).version == version
        assert await read_file(user, version.name, WEIGHTS) == files[WEIGHTS]
        admin = Client(channel, key)
        resumed = await admin("GetUpload", pb.GetUploadRequest(name=half))
        assert sum(file.committed_bytes for file in resumed.files) == 2000
        committed = await admin("CommitUpload", pb.CommitUploadRequest(name=whole))
        assert committed.version == 2
    started_stopping = time.monotonic()
    assert process.stop(signal.SIGTERM) == 0
    assert time.monotonic() - started_stopping < 3


async def test_a_stop_ends_open_streams_as_unavailable(
    tmp_path: Path, started: list[Process]
) -> None:
    process = Process(tmp_path / "data")
    started.append(process)
    address = await asyncio.to_thread(process.wait_ready)
    key = json.loads((tmp_path / "data" / "credentials.json").read_text())["admin"]
    files = make_adapter().files()
    async with grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "lorikeet.registry.v1.AdapterRegistry"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        admin = Client(channel, key)
        await make_base_model(admin)
        adapter = await make_registered(admin, "platform", "bot")
        request = pb.StartUploadRequest(adapter=adapter, files=declared(files))
        upload = (await admin("StartUpload", request)).name
        stopping = asyncio.Event()

        async def endless() -> AsyncIterator[pb.WriteArtifactRequest]:
            yield next(iter(chunks(upload, files)))
            stopping.set()
            await asyncio.Event().wait()

        stream = asyncio.create_task(failure(admin, "WriteArtifact", endless()))
        await stopping.wait()
        began = time.monotonic()
        assert await asyncio.to_thread(process.stop, signal.SIGTERM) == 0
        assert time.monotonic() - began < 3
        assert (await stream).code == grpc.StatusCode.UNAVAILABLE


def test_what_cannot_be_started_says_why(tmp_path: Path, started: list[Process]) -> None:
    first = Process(tmp_path / "data")
    started.append(first)
    first.wait_ready()
    for arguments, complaint in (
        ([], "another registry is running"),
        (["--listen", "0.0.0.0:0"], "without TLS"),
        (["--data-dir", str(tmp_path / "other"), "--listen", "0.0.0.0:0", "--insecure"], "--boot"),
    ):
        process = Process(tmp_path / "data", *arguments)
        started.append(process)
        assert process.popen.wait(timeout=30) == 2
        assert complaint in process.errors
    assert not (tmp_path / "other" / "credentials.json").exists()


def test_importing_the_service_brings_no_torch() -> None:
    code = "import sys, registry_service.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
