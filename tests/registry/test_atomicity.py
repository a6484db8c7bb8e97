"""Killed in the middle of commits, at several moments: no version without its bytes."""

import asyncio
import hashlib
import json
import signal
from pathlib import Path

import grpc
import pytest

from lorikeet.rpc.errors import CancelledByPeerError, UnavailableError
from protos import registry_pb2 as pb
from registry_service.config import load_settings
from registry_service.service import RegistryService
from tests.registry.process import Process
from tests.registry.support import (
    Client,
    make_adapter,
    make_base_model,
    make_registered,
    publish,
    read_file,
)

ADAPTER = "tenants/platform/adapters/bot"


async def publish_until_killed(admin: Client, writer: int) -> list[int]:
    """Numbers of the versions that were acknowledged."""
    acknowledged: list[int] = []
    try:
        for round_ in range(1000):
            files = make_adapter(seed=1000 * writer + round_).files()
            acknowledged.append((await publish(admin, ADAPTER, files)).version)
    except (UnavailableError, CancelledByPeerError):
        return acknowledged
    raise AssertionError("the registry outlived every round")


async def check_versions(admin: Client, acknowledged: set[int]) -> None:
    """Every version is whole, numbers are dense, and none that was acknowledged is missing."""
    request = pb.ListAdapterVersionsRequest(parent=ADAPTER, page_size=1000)
    versions = (await admin("ListAdapterVersions", request)).versions
    numbers = [version.version for version in versions]
    assert numbers == list(range(len(numbers), 0, -1))
    assert acknowledged <= set(numbers)
    for version in versions:
        for file in version.files:
            data = await read_file(admin, version.name, file.file_name)
            assert hashlib.sha256(data).hexdigest() == file.sha256
    latest = await admin("GetAdapter", pb.GetAdapterRequest(name=ADAPTER))
    assert latest.latest_version == len(numbers)


@pytest.mark.parametrize("milliseconds", [50, 230])
async def test_kill_leaves_no_half_version(tmp_path: Path, milliseconds: int) -> None:
    data_dir = tmp_path / "data"
    process = Process(data_dir)
    try:
        address = await asyncio.to_thread(process.wait_ready)
        key = json.loads((data_dir / "credentials.json").read_text())["admin"]
        async with grpc.aio.insecure_channel(address) as channel:
            admin = Client(channel, key)
            await make_base_model(admin)
            await make_registered(admin, "platform", "bot")
            writers = asyncio.gather(*(publish_until_killed(admin, n) for n in range(4)))
            await asyncio.sleep(milliseconds / 1000)
            assert process.stop(signal.SIGKILL) == -signal.SIGKILL
            acknowledged = {number for numbers in await writers for number in numbers}
    finally:
        process.popen.kill()
        process.popen.communicate()

    service = RegistryService(
        load_settings(["--listen", "127.0.0.1:0", "--data-dir", str(data_dir)])
    )
    address = await service.start()
    async with grpc.aio.insecure_channel(address) as channel:
        await check_versions(Client(channel, key), acknowledged)
    await service.stop()
