"""Streams that do not end well: the engine is rid of them, and the caller knows why."""

import asyncio
import time
from typing import Any

import grpc
import pytest
from grpc import aio

from lorikeet.rpc.errors import ResourceExhaustedError, UnavailableError, from_rpc_error
from protos import inference_pb2 as pb
from tests.inference.scripted_engine import steps_of, tokens
from tests.inference.world import User, World, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
# So that a server must soon wait for its reader.
SMALL_WINDOW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1)]


async def test_a_cancelled_call_leaves_the_engine_at_once(world: World) -> None:
    user = await world.user("cancels")
    world.engine.steps = [tokens(70), 60.0]
    call = user.call("Generate", pb.GenerateRequest(prompt="x"), timeout=None)
    assert (await call.read()).WhichOneof("event") == "start"
    assert (await call.read()).WhichOneof("event") == "chunk"
    call.cancel()
    await eventually(lambda: world.engine.calls[0].closed)


async def test_a_deadline_leaves_the_engine_at_once(world: World) -> None:
    user = await world.user("deadlines")
    world.engine.steps = [tokens(70), 60.0]
    call = user.call("Generate", pb.GenerateRequest(prompt="x"), timeout=0.5)
    with pytest.raises(aio.AioRpcError) as ended:
        [response async for response in call]
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: world.engine.calls[0].closed)


async def test_a_dropped_connection_leaves_the_engine_at_once(world: World) -> None:
    key = await world.key("drops")
    world.engine.steps = [tokens(70), 60.0]
    async with aio.insecure_channel(world.address) as channel:
        call = User(channel, key).call("Generate", pb.GenerateRequest(prompt="x"))
        await call.read()
        await call.read()
    await eventually(lambda: world.engine.calls[0].closed)


async def test_an_engine_that_dies_ends_its_streams_soon(world: World) -> None:
    user = await world.user("dies")
    world.engine.steps = [tokens(70), 60.0]
    call = user.call("Generate", pb.GenerateRequest(prompt="x"))
    await call.read()
    await call.read()
    started = time.monotonic()
    world.engine.die()
    with pytest.raises(aio.AioRpcError) as ended:
        await call.read()
    error = from_rpc_error(ended.value)
    assert isinstance(error, UnavailableError)
    assert (error.reason, bool(error.retry_after)) == ("ENGINE_RESTARTING", True)
    with pytest.raises(UnavailableError) as refused:
        await user.generate()
    assert refused.value.reason == "ENGINE_RESTARTING"
    assert time.monotonic() - started < 5
    world.engine.restart()
    world.engine.steps = steps_of([70])
    assert (await user.generate()).token_ids == [70]


async def test_a_restarted_engine_gets_its_adapters_again(world: World) -> None:
    user = await world.user("again")
    version = await world.publish("again", "math")
    await user.generate("math")
    world.engine.die()
    world.engine.restart()
    assert (await user.generate("math")).start.digest == version.digest


async def test_a_full_queue_says_so_and_empties(world: World) -> None:
    user = await world.user("queue")
    world.engine.steps = [0.5, tokens(70, finish="length")]
    answers = await asyncio.gather(*(user.generate() for _ in range(12)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, ResourceExhaustedError)]
    assert len(refused) == 4
    assert all(error.reason == "QUEUE_FULL" and error.retry_after for error in refused)
    assert not [a for a in answers if isinstance(a, Exception) and a not in refused]
    world.engine.steps = steps_of([70])
    await user.generate()


async def read_to_end(call: Any) -> None:
    while await call.read() is not aio.EOF:  # type: ignore[attr-defined]  # not in the stubs
        pass


async def test_a_reader_that_stops_reading_frees_the_engine(world: World) -> None:
    key = await world.key("slow")
    world.engine.steps = [*[tokens(*[70] * 1000) for _ in range(2000)], 60.0]
    async with aio.insecure_channel(world.address, options=SMALL_WINDOW) as channel:
        call = User(channel, key).call("Generate", pb.GenerateRequest(prompt="x"))
        await call.read()
        await eventually(lambda: world.engine.calls and world.engine.calls[0].closed, 10)
        assert world.engine.calls[0].num_outputs < 2000
        with pytest.raises(aio.AioRpcError) as ended:
            await read_to_end(call)
        assert from_rpc_error(ended.value).reason == "SLOW_READER"


async def test_cancelling_while_the_server_waits_to_write_leaves_the_engine_at_once(
    world: World,
) -> None:
    key = await world.key("stuck")
    world.engine.steps = [*[tokens(*[70] * 1000) for _ in range(2000)], 60.0]
    async with aio.insecure_channel(world.address, options=SMALL_WINDOW) as channel:
        call = User(channel, key).call("Generate", pb.GenerateRequest(prompt="x"))
        await call.read()
        num_outputs = -1
        while not world.engine.calls or num_outputs != world.engine.calls[0].num_outputs:
            num_outputs = world.engine.calls[0].num_outputs if world.engine.calls else -1
            await asyncio.sleep(0.1)
        cancelled = time.monotonic()
        call.cancel()
        await eventually(lambda: world.engine.calls[0].closed)
        assert time.monotonic() - cancelled < 0.5  # not because the reader was slow
        assert world.engine.calls[0].num_outputs < 2000
