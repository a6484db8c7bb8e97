"""The change feed: complete, in order, live, resumable."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from registry_service.config import Settings
from registry_service.feed import ChangeFeed
from tests.registry.conftest import World
from tests.registry.support import (
    DENIED,
    Client,
    make_adapter,
    make_registered,
    publish,
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"heartbeat_seconds": 0.2})


def watch(client: Client, revision: int = 0) -> AsyncIterator[Any]:
    return client.stream("WatchAdapters", pb.WatchAdaptersRequest(from_revision=revision))


async def until_heartbeat(stream: AsyncIterator[Any]) -> list[Any]:
    """Everything up to and with the next heartbeat."""
    result = []
    async with asyncio.timeout(10):
        async for response in stream:
            result.append(response)
            if response.HasField("heartbeat"):
                break
    return result


async def test_the_feed_is_complete_and_without_gaps(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "bot")
    await publish(world.publisher, adapter, make_adapter().files(), ["stable"])
    *changes, heartbeat = await until_heartbeat(watch(world.inference))
    assert [change.revision for change in changes] == list(range(1, len(changes) + 1))
    assert heartbeat.revision == len(changes)
    kinds = [c.change.kind for c in changes if c.change.resource.startswith(adapter)]
    assert kinds == ["adapters.create", "versions.create"]
    resolve = pb.ResolveAdapterRequest(tenant="tenants/acme", name=adapter)
    assert (await world.inference("ResolveAdapter", resolve)).revision == heartbeat.revision


async def test_changes_arrive_live_and_a_watcher_resumes(world: World) -> None:
    stream = watch(world.inference)
    start = (await until_heartbeat(stream))[-1].revision
    adapter = await make_registered(world.publisher, "acme", "bot")
    while (live := await anext(stream)).HasField("heartbeat"):
        assert live.revision in (start, start + 1)
    assert (live.revision, live.change.resource) == (start + 1, adapter)
    await world.publisher("DeleteAdapter", pb.DeleteAdapterRequest(name=adapter))
    resumed = await until_heartbeat(watch(world.admin, start + 1))
    assert [response.change.kind for response in resumed[:-1]] == ["adapters.delete"]


async def test_concurrent_writes_leave_no_gap(world: World) -> None:
    start = (await until_heartbeat(watch(world.inference)))[-1].revision
    names = [f"bot-{number}" for number in range(20)]
    await asyncio.gather(*(make_registered(world.publisher, "acme", name) for name in names))
    changes = (await until_heartbeat(watch(world.inference, start)))[:-1]
    assert [change.revision for change in changes] == list(range(start + 1, start + 21))


async def test_who_may_watch_and_from_where(world: World) -> None:
    for client, revision, code in (
        (world.publisher, 0, DENIED),
        (world.client(""), 0, grpc.StatusCode.UNAUTHENTICATED),
        (world.inference, -1, grpc.StatusCode.INVALID_ARGUMENT),
        (world.inference, 10**9, grpc.StatusCode.OUT_OF_RANGE),
    ):
        with pytest.raises(LorikeetError) as refused:
            await anext(watch(client, revision))
        assert refused.value.code == code


async def test_a_deleted_key_ends_its_stream(world: World) -> None:
    stream = watch(world.inference)
    await until_heartbeat(stream)
    parent = "tenants/platform/principals/inference"
    await world.admin("DeletePrincipal", pb.DeletePrincipalRequest(name=parent))
    with pytest.raises(LorikeetError) as ended:
        await until_heartbeat(stream)
    assert ended.value.reason == "CREDENTIAL_INVALID"


async def test_only_what_is_new(world: World) -> None:
    request = pb.WatchAdaptersRequest(only_new=True)
    stream = world.inference.stream("WatchAdapters", request)
    (heartbeat,) = await until_heartbeat(stream)
    assert heartbeat.revision > 0
    adapter = await make_registered(world.publisher, "acme", "bot")
    changes = (await until_heartbeat(stream))[:-1]
    assert [(c.revision, c.change.resource) for c in changes] == [(heartbeat.revision + 1, adapter)]
    with pytest.raises(LorikeetError) as refused:
        await anext(
            world.inference.stream(
                "WatchAdapters", pb.WatchAdaptersRequest(only_new=True, from_revision=1)
            )
        )
    assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_registry_without_its_database_says_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may have changed what it does not know of: watchers must not count it as heard of."""
    stream = watch(world.inference)
    await until_heartbeat(stream)
    asked = asyncio.Semaphore(0)

    def has_lost_touch(_: ChangeFeed) -> bool:
        asked.release()
        return False

    monkeypatch.setattr(ChangeFeed, "is_current", has_lost_touch)
    reading = asyncio.ensure_future(anext(stream))
    async with asyncio.timeout(10):
        for _ in range(4):  # times that a heartbeat was due
            await asked.acquire()
    assert not reading.done()
    monkeypatch.undo()
    assert (await asyncio.wait_for(reading, 10)).HasField("heartbeat")
