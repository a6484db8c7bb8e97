"""More calls than the server takes, and messages larger than it reads."""

import asyncio
from pathlib import Path

import pytest

from lorikeet.rpc.errors import LorikeetError, ResourceExhaustedError
from lorikeet.rpc.server import MAX_MESSAGE_BYTES
from protos import inference_pb2 as pb
from tests.inference.scripted_engine import steps_of, tokens
from tests.inference.world import running_world

MAX_CALLS = 8


async def test_calls_beyond_the_limit_are_refused_and_the_others_are_served(tmp_path: Path) -> None:
    async with running_world(tmp_path, max_concurrent_calls=MAX_CALLS) as world:
        user = await world.user("flood")
        world.engine.steps = [0.3, tokens(70, finish="length")]
        flood = [user.generate() for _ in range(5 * MAX_CALLS)]
        answers = await asyncio.gather(*flood, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, LorikeetError)]
        assert {type(error) for error in refused} == {ResourceExhaustedError}
        assert len(answers) - len(refused) == MAX_CALLS
        world.engine.steps = steps_of([70])
        assert (await user.generate()).token_ids == [70]


async def test_a_message_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        user = await world.user("large")
        with pytest.raises(ResourceExhaustedError):
            await user.generate(prompt="x" * (MAX_MESSAGE_BYTES + 1))
        request = pb.TokenizeRequest(text="x" * (MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ResourceExhaustedError):
            await user("Tokenize", request)
        assert not world.engine.calls
        assert (await user.generate()).token_ids == [70, 71, 72]
