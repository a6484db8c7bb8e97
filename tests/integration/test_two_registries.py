"""Two registries on one database and one bucket are one registry."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from grpc import aio

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from tests.backends import ON_SERVERS
from tests.integration.conftest import MakeRegistry
from tests.registry.support import (
    WEIGHTS,
    Client,
    chunks,
    declared,
    make_adapter,
    make_base_model,
    make_registered,
    publish,
    read_file,
    start_and_write,
)

pytestmark = pytest.mark.parametrize("backend", ON_SERVERS, indirect=True)

ADAPTER = "tenants/platform/adapters/bot"
SECONDS_TO_SEE = 5.0  # far more than it takes, for machines that are busy


@dataclass(frozen=True)
class Pair:
    """The platform's administrator on each of the two, which started at the same time."""

    first: Client
    second: Client


@pytest.fixture
async def pair(make_registry: MakeRegistry) -> AsyncIterator[Pair]:
    registries = [make_registry("--heartbeat-seconds=1") for _ in range(2)]
    addresses = await asyncio.gather(
        *(asyncio.to_thread(registry.start) for registry in registries)
    )
    # The one that made the first principals has their keys.
    (key,) = {
        registry.admin_key
        for registry in registries
        if (registry.data_dir / "credentials.json").exists()
    }
    async with aio.insecure_channel(addresses[0]) as one, aio.insecure_channel(addresses[1]) as two:
        clients = Pair(Client(one, key), Client(two, key))
        await make_base_model(clients.first)
        await make_registered(clients.second, "platform", "bot")
        yield clients


async def test_an_upload_begun_on_one_is_finished_on_the_other(pair: Pair) -> None:
    files = make_adapter().files()
    request = pb.StartUploadRequest(adapter=ADAPTER, files=declared(files))
    upload = (await pair.first("StartUpload", request)).name
    begun = list(chunks(upload, {WEIGHTS: files[WEIGHTS]}))[:2]
    await pair.first("WriteArtifact", iter(begun))
    stands = await pair.second("GetUpload", pb.GetUploadRequest(name=upload))
    offsets = {file.file.file_name: file.committed_bytes for file in stands.files}
    assert offsets[WEIGHTS] == 2000
    rest = [
        message for message in chunks(upload, files) if message.offset >= offsets[message.file_name]
    ]
    rest[0].upload = upload
    await pair.second("WriteArtifact", iter(rest))
    commit = pb.CommitUploadRequest(name=upload)
    both = await asyncio.gather(
        pair.first("CommitUpload", commit), pair.second("CommitUpload", commit)
    )
    assert both[0] == both[1]
    for client in (pair.first, pair.second):
        for name, data in files.items():
            assert await read_file(client, both[0].name, name) == data


async def test_what_one_writes_the_other_resolves_and_watches(pair: Pair) -> None:
    watcher = pair.second.stream("WatchAdapters", pb.WatchAdaptersRequest())
    await anext(watcher)
    resolve = pb.ResolveAdapterRequest(tenant="tenants/platform", name=f"{ADAPTER}/aliases/stable")
    version = await publish(pair.first, ADAPTER, make_adapter().files(), ["stable"])
    began = time.monotonic()
    while await _resolved(pair.second, resolve) != version:
        assert time.monotonic() - began < SECONDS_TO_SEE
    print(f"\nresolved by the other registry after {time.monotonic() - began:.3f} s")
    async with asyncio.timeout(SECONDS_TO_SEE):
        async for event in watcher:
            if event.change.resource == version.name and event.change.kind == "versions.create":
                break
    print(f"watched on the other registry after {time.monotonic() - began:.3f} s")
    await pair.second("DeleteAdapter", pb.DeleteAdapterRequest(name=ADAPTER))
    began = time.monotonic()
    while await _resolved(pair.first, resolve) is not None:
        assert time.monotonic() - began < SECONDS_TO_SEE
    print(f"gone from the other registry after {time.monotonic() - began:.3f} s")


async def test_both_at_once_leave_no_gap(pair: Pair) -> None:
    files = [make_adapter(seed=seed).files() for seed in range(12)]
    both = (pair.first, pair.second)
    uploads = await asyncio.gather(
        *(start_and_write(both[n % 2], ADAPTER, each) for n, each in enumerate(files))
    )
    versions = await asyncio.gather(
        *(
            client("CommitUpload", pb.CommitUploadRequest(name=upload))
            for upload in uploads
            for client in both
        )
    )
    assert sorted({version.version for version in versions}) == list(range(1, 13))
    feeds = await asyncio.gather(*(_until_heartbeat(client) for client in both))
    assert feeds[0] == feeds[1]
    assert [revision for revision, _ in feeds[0]] == list(range(1, len(feeds[0]) + 1))


async def _resolved(client: Client, request: pb.ResolveAdapterRequest) -> pb.AdapterVersion | None:
    try:
        version: pb.AdapterVersion = (await client("ResolveAdapter", request)).version
    except LorikeetError:
        return None
    return version


async def _until_heartbeat(client: Client) -> list[tuple[int, str]]:
    changes = []
    async for event in client.stream("WatchAdapters", pb.WatchAdaptersRequest()):
        if event.HasField("heartbeat"):
            break
        changes.append((event.revision, event.change.resource))
    return changes
