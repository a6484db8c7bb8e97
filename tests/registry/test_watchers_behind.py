"""Watchers that do not keep up, and a database that is older than what they have seen."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from sqlalchemy import delete, insert, update

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from registry_service.config import Settings
from registry_service.models import ChangeRow, CounterRow
from tests.registry.conftest import World
from tests.registry.support import make_adapter, make_registered, publish
from tests.registry.test_watch import until_heartbeat, watch

# Together more than gRPC takes ahead of a reader, and more changes than a registry keeps in memory.
NUM_CHANGES = 12_000
LONG_NAME = "tenants/acme/adapters/" + "x" * 2000


@pytest.fixture
def slow_watcher_seconds() -> float:
    return 60.0


@pytest.fixture
def settings(settings: Settings, slow_watcher_seconds: float) -> Settings:
    update = {"heartbeat_seconds": 0.2, "slow_watcher_seconds": slow_watcher_seconds}
    return settings.model_copy(update=update)


def add_changes(world: World, after: int, resources: Sequence[str]) -> None:
    """As other registry processes on the same database would."""
    with world.registry.database() as session:
        now = datetime.now(UTC)
        rows = [
            {"revision": number, "resource": resource, "kind": "adapters.update", "time": now}
            for number, resource in enumerate(resources, start=after + 1)
        ]
        session.execute(insert(ChangeRow), rows)
        session.execute(update(CounterRow).values(value=after + len(rows)))


async def current_revision(world: World) -> int:
    return int((await until_heartbeat(watch(world.admin)))[-1].revision)


async def test_one_that_fell_behind_what_is_kept_misses_nothing(world: World) -> None:
    start = await current_revision(world)
    slow = watch(world.inference, start)
    await until_heartbeat(slow)
    add_changes(world, start, [LONG_NAME] * NUM_CHANGES)
    last = start + NUM_CHANGES
    quick = watch(world.admin, last)
    while (await until_heartbeat(quick))[-1].revision < last:
        pass  # until the registry's memory has moved on to the last ones
    assert await revisions(slow, last) == list(range(start + 1, last + 1))


@pytest.mark.parametrize("slow_watcher_seconds", [0.3])
async def test_one_that_takes_nothing_is_ended(world: World) -> None:
    start = await current_revision(world)
    slow = watch(world.inference, start)
    await until_heartbeat(slow)
    for pause in (1, 4, 16):  # a busy machine needs longer to notice
        add_changes(world, start, [LONG_NAME] * NUM_CHANGES)
        start += NUM_CHANGES
        await asyncio.sleep(pause)
        error = await end_of(slow, start)
        if error is not None:
            break
    assert error is not None
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "WATCHER_TOO_SLOW")


async def test_one_that_has_seen_more_than_the_database_is_told_so(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "bot")
    await publish(world.publisher, adapter, make_adapter().files())
    resolve = pb.ResolveAdapterRequest(tenant="tenants/acme", name=adapter)
    await world.inference("ResolveAdapter", resolve)
    stream = watch(world.inference)
    last = (await until_heartbeat(stream))[-1].revision
    await world.publisher("DeleteAdapter", pb.DeleteAdapterRequest(name=adapter))
    await revisions(stream, last + 1)
    restored_to(world, last)
    error = await end_of(stream, last + 2)
    assert error is not None
    assert error.code == grpc.StatusCode.OUT_OF_RANGE
    assert (await until_heartbeat(watch(world.inference, last)))[-1].revision == last


def restored_to(world: World, revision: int) -> None:
    """The feed as a backup has it that was made at `revision`."""
    with world.registry.database() as session:
        session.execute(delete(ChangeRow).where(ChangeRow.revision > revision))
        session.execute(update(CounterRow).values(value=revision))


async def revisions(stream: AsyncIterator[Any], last: int) -> list[int]:
    """Of the changes up to `last`."""
    seen = []
    async for response in stream:
        if response.HasField("change"):
            seen.append(response.revision)
        if response.revision >= last:
            break
    return seen


async def end_of(stream: AsyncIterator[Any], last: int) -> LorikeetError | None:
    """The error that ends a stream before it tells of `last`."""
    try:
        await revisions(stream, last)
    except LorikeetError as error:
        return error
    return None
