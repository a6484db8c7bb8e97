"""Deadlines: the caller's own and the server's bound every part of a request."""

import logging
from pathlib import Path

import pytest
from grpc import aio

from inference_service.deadline import Deadline
from inference_service.deadline_timer import DeadlineTimer
from lorikeet.rpc.errors import DeadlineExceededError, from_rpc_error
from protos import inference_pb2 as pb
from tests.inference.scripted_engine import Step, steps_of, tokens
from tests.inference.test_logs import lines_of
from tests.inference.world import User, World, eventually, running_world

pytestmark = pytest.mark.asyncio(loop_scope="module")


def ended(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line["outcome"] for line in lines_of(caplog) if line["message"] == "request ended"]


async def fails_in_time(user: User, timeout: float, adapter: str = "") -> DeadlineExceededError:
    call = user.call("Generate", pb.GenerateRequest(prompt="x", adapter=adapter), timeout=timeout)
    with pytest.raises(aio.AioRpcError) as raised:
        [response async for response in call]
    error = from_rpc_error(raised.value)
    assert isinstance(error, DeadlineExceededError)
    return error


@pytest.mark.parametrize("steps", [[60.0], [tokens(70), 60.0]], ids=["queue", "decoding"])
async def test_it_bounds_the_queue_and_decoding(
    world: World, caplog: pytest.LogCaptureFixture, steps: list[Step]
) -> None:
    user = await world.user("bounded", name=f"user-{len(steps)}")
    world.engine.steps = steps
    with caplog.at_level(logging.INFO):
        await fails_in_time(user, 0.5)
        await eventually(lambda: ended(caplog) == ["DEADLINE_EXCEEDED"])
    assert world.engine.calls[0].closed


async def test_it_bounds_waiting_for_an_adapter(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    user = await world.user("loading")
    await world.publish("loading", "math")
    world.engine.load_seconds = 60.0
    with caplog.at_level(logging.INFO):
        await fails_in_time(user, 1.0, "math")
        await eventually(lambda: ended(caplog) == ["DEADLINE_EXCEEDED"])
    assert not world.engine.calls


async def test_a_hopeless_one_is_answered_before_anything_is_done(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    user = await world.user("hopeless")
    with caplog.at_level(logging.INFO):
        await fails_in_time(user, 0.015)
        await eventually(lambda: ended(caplog) == ["DEADLINE_EXCEEDED"])
    assert not world.engine.calls


async def test_without_one_the_servers_maximum_holds(tmp_path: Path) -> None:
    async with running_world(tmp_path, max_request_seconds=0.5) as world:
        world.engine.steps = [tokens(70), 60.0]
        user = await world.user("patient")
        with pytest.raises(DeadlineExceededError) as refused:
            await user.generate()
        assert refused.value.reason == "MAX_REQUEST_TIME"
        world.engine.steps = steps_of([70])
        assert (await user.generate()).token_ids == [70]


async def test_one_that_passed_is_noticed_without_waiting() -> None:
    passed = Deadline(0.0, is_callers=True)
    assert passed.has_passed
    with pytest.raises(DeadlineExceededError), DeadlineTimer(passed):
        pytest.fail("there was no time for this")
