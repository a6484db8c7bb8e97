"""Answers from memory and the changes that end them, where the two come from different processes.

The registry is scripted here: a real one is one process, whose answers are never behind its feed.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from inference_service.access.resolutions import Resolutions, ServedModel
from inference_service.adapters.artifact import Artifact, Profile, ResolvedAdapter
from inference_service.adapters.registry_client import RegistryClient
from inference_service.adapters.registry_watch import RegistryWatch
from lorikeet.rpc.errors import UnavailableError
from protos import registry_pb2 as pb
from tests.inference.world import eventually

NAME = "tenants/acme/adapters/math"


class Replicas:
    """A registry of two processes: one tells changes, the other, a little behind, answers."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[pb.WatchAdaptersResponse] = asyncio.Queue()
        self.revision = 10  # of the feed
        self.answers_at = 10  # of the process that answers
        self.num_asked = 0
        self.answering = asyncio.Event()
        self.answering.set()

    def change(self, resource: str = NAME) -> None:
        self.revision += 1
        response = pb.WatchAdaptersResponse(revision=self.revision)
        response.change.resource = resource
        self.changes.put_nowait(response)

    async def watch(self, _: int | None) -> AsyncGenerator[pb.WatchAdaptersResponse, None]:
        yield pb.WatchAdaptersResponse(revision=self.revision, heartbeat=pb.Heartbeat())
        while True:
            yield await self.changes.get()

    async def resolve(self, name: str, *, tenant: str, **_: Any) -> ResolvedAdapter:
        self.num_asked += 1
        artifact = Artifact(f"{name}/versions/{self.num_asked}", "sha256:0", ())
        answer = ResolvedAdapter(tenant, artifact, Profile(), revision=self.answers_at)
        await self.answering.wait()
        return answer


@asynccontextmanager
async def resolutions_of(replicas: Replicas) -> AsyncIterator[tuple[Resolutions, RegistryWatch]]:
    registry = cast(RegistryClient, replicas)
    watch = RegistryWatch(registry, 60.0)
    resolutions = Resolutions(registry, watch, ServedModel("tiny", "r1"))
    await watch.start(5.0)
    yield resolutions, watch
    await watch.stop()


async def version(resolutions: Resolutions) -> int:
    found = await resolutions.resolve(NAME, "acme")
    return int(found.artifact.version_name.rpartition("/")[2])


async def test_what_is_known_costs_no_question() -> None:
    replicas = Replicas()
    async with resolutions_of(replicas) as (resolutions, watch):
        assert [await version(resolutions) for _ in range(5)] == [1] * 5
        replicas.change("tenants/acme/adapters/other")
        await eventually(lambda: watch.position == 11)
        assert await version(resolutions) == 1
        replicas.change(f"{NAME}/aliases/stable")
        replicas.answers_at = 12
        await eventually(lambda: watch.position == 12)
        assert [await version(resolutions) for _ in range(5)] == [2] * 5


async def test_an_answer_older_than_what_was_told_is_asked_for_again() -> None:
    replicas = Replicas()
    async with resolutions_of(replicas) as (resolutions, watch):
        replicas.change()
        await eventually(lambda: watch.position == 11)
        asking = asyncio.create_task(version(resolutions))
        await eventually(lambda: replicas.num_asked >= 2)
        assert not asking.done()
        replicas.answers_at = 11
        assert await asking > 2


async def test_a_process_that_stays_behind_is_not_believed() -> None:
    replicas = Replicas()
    async with resolutions_of(replicas) as (resolutions, watch):
        replicas.change()
        await eventually(lambda: watch.position == 11)
        with pytest.raises(UnavailableError):
            await version(resolutions)


async def test_an_answer_that_a_change_overtook_is_not_kept() -> None:
    replicas = Replicas()
    async with resolutions_of(replicas) as (resolutions, watch):
        replicas.answering.clear()
        asking = asyncio.create_task(version(resolutions))
        await eventually(lambda: replicas.num_asked == 1)
        replicas.change()
        await eventually(lambda: watch.position == 11)
        replicas.answers_at = 11
        replicas.answering.set()
        assert await asking == 1, "who asked before the change may hear what was before it"
        assert await version(resolutions) == 2
