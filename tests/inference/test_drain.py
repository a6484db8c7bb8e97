"""Draining, and stopping: what is refused, what goes on, and what the health says meanwhile."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lorikeet.rpc.errors import PermissionDeniedError, UnavailableError
from protos import inference_pb2 as pb
from tests.inference.scripted_engine import tokens
from tests.inference.world import User, World, eventually, running_world
from tests.registry.support import ADMIN

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def administrator_of(world: World) -> User:
    return await world.user("ops", (ADMIN, "*"), name="administrator")


def drain(user: User) -> "asyncio.Task[Any]":
    return asyncio.create_task(user("Drain", pb.DrainRequest()))


async def health_of(world: World) -> int:
    stub = health_pb2_grpc.HealthStub(world.channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest())).status)


async def until_not_serving(world: World) -> None:
    watch = health_pb2_grpc.HealthStub(world.channel).Watch(health_pb2.HealthCheckRequest())
    async with asyncio.timeout(2):
        while (await watch.read()).status != NOT_SERVING:
            pass


async def test_a_drain_ends_with_the_last_request_and_admits_no_other(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        user, administrator = await world.user("busy"), await administrator_of(world)
        world.engine.steps = [tokens(70), 0.3, tokens(71, finish="length")]
        running = asyncio.create_task(user.generate())
        await eventually(lambda: world.engine.calls)
        first, second = drain(administrator), drain(administrator)
        await until_not_serving(world)
        with pytest.raises(UnavailableError) as refused:
            await user.generate()
        assert (refused.value.reason, bool(refused.value.retry_after)) == ("SHUTTING_DOWN", True)
        info: pb.ServerInfo = await user("GetServerInfo", pb.GetServerInfoRequest())
        assert (info.draining, info.num_running) == (True, 1)
        assert not first.done()
        assert (await running).token_ids == [70, 71]
        await asyncio.gather(first, second)
        assert await administrator("Drain", pb.DrainRequest()) == pb.DrainResponse()
        world.engine.die()  # whatever the engine does, a drained service stays so
        world.engine.restart()
        await asyncio.sleep(0.05)
        assert await health_of(world) == NOT_SERVING
        with pytest.raises(UnavailableError):
            await user.generate()


async def test_only_administrators_drain(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        user = await world.user("acme")
        with pytest.raises(PermissionDeniedError):
            await user("Drain", pb.DrainRequest())
        assert await health_of(world) == SERVING
        await user.generate()


async def test_who_stops_waiting_for_a_drain_does_not_end_it(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        user, administrator = await world.user("busy"), await administrator_of(world)
        world.engine.steps = [tokens(70), 0.5, tokens(71, finish="length")]
        running = asyncio.create_task(user.generate())
        await eventually(lambda: world.engine.calls)
        waiting = drain(administrator)
        await until_not_serving(world)
        waiting.cancel()
        with pytest.raises(UnavailableError):
            await user.generate()
        assert (await running).token_ids == [70, 71]


async def test_stopping_during_a_drain_keeps_the_grace(tmp_path: Path) -> None:
    async with running_world(tmp_path, shutdown_grace_seconds=5) as world:
        user, administrator = await world.user("busy"), await administrator_of(world)
        world.engine.steps = [tokens(70), 0.3, tokens(71, finish="length")]
        running = asyncio.create_task(user.generate())
        await eventually(lambda: world.engine.calls)
        draining = drain(administrator)
        await until_not_serving(world)
        stopping = asyncio.create_task(world.service.stop())
        assert (await running).token_ids == [70, 71]
        await draining
        await stopping


async def test_a_drain_of_a_server_that_stops_waits_with_it(tmp_path: Path) -> None:
    async with running_world(tmp_path, shutdown_grace_seconds=5) as world:
        user, administrator = await world.user("busy"), await administrator_of(world)
        world.engine.steps = [tokens(70), 0.3, tokens(71, finish="length")]
        running = asyncio.create_task(user.generate())
        await eventually(lambda: world.engine.calls)
        stopping = asyncio.create_task(world.service.stop())
        await until_not_serving(world)
        await drain(administrator)
        assert (await running).token_ids == [70, 71]
        await stopping


async def test_routers_are_given_time_to_notice(tmp_path: Path) -> None:
    async with running_world(tmp_path, shutdown_delay_seconds=0.5) as world:
        user = await world.user("late")
        stopping = asyncio.create_task(world.service.stop())
        await until_not_serving(world)
        assert (await user.generate()).token_ids == [70, 71, 72]
        await stopping


async def test_stopping_is_cut_short_when_nobody_wants_to_wait(tmp_path: Path) -> None:
    changes = {"shutdown_delay_seconds": 60.0, "shutdown_grace_seconds": 60.0}
    async with running_world(tmp_path, **changes) as world:
        user = await world.user("endless")
        world.engine.steps = [tokens(70), 60.0]
        running = asyncio.create_task(user.generate())
        await eventually(lambda: world.engine.calls)
        stopping = asyncio.create_task(world.service.stop())
        await until_not_serving(world)
        stopping.cancel()
        async with asyncio.timeout(3):
            await asyncio.gather(stopping, return_exceptions=True)
            with pytest.raises(UnavailableError):
                await running
        assert world.engine.closed
