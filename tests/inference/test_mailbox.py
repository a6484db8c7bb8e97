"""What an engine said and nobody has taken yet."""

import asyncio

import pytest

from inference_service.engine.client import EngineDiedError
from inference_service.engine.mailbox import Mailbox
from inference_service.engine.request import TokenOutput
from tests.inference.scripted_engine import logprob_of, tokens


async def test_outputs_that_wait_are_taken_as_one() -> None:
    mailbox = Mailbox()
    first = TokenOutput(1, [5], num_cached=3, logprobs=[logprob_of(5)])
    last = TokenOutput(1, [6, 7], "stop", logprobs=[logprob_of(6), logprob_of(7)])
    mailbox.put(first)
    assert await mailbox.take() is first
    mailbox.put(first)
    mailbox.put(last)
    together = await mailbox.take()
    assert (together.token_ids, together.finish_reason) == ([5, 6, 7], "stop")
    assert (together.num_cached, [each.token_id for each in together.logprobs]) == (3, [5, 6, 7])


async def test_a_long_queue_is_taken_in_parts() -> None:
    mailbox = Mailbox()
    for token_id in range(1000):
        mailbox.put(tokens(token_id))
    taken: list[int] = []
    while len(taken) < 1000:
        part = (await mailbox.take()).token_ids
        assert len(part) <= 512
        taken += part
    assert taken == list(range(1000))


async def test_what_came_before_the_end_is_read_before_it() -> None:
    mailbox = Mailbox()
    mailbox.put(tokens(5))
    mailbox.put(TokenOutput(1, [], refusal="INVALID_REQUEST"))
    mailbox.end(EngineDiedError("gone"))
    assert (await mailbox.take()).token_ids == [5]
    assert (await mailbox.take()).refusal == "INVALID_REQUEST"
    with pytest.raises(EngineDiedError):
        await mailbox.take()


async def test_a_reader_waits_for_the_next_and_may_give_up() -> None:
    mailbox = Mailbox()
    reading = asyncio.ensure_future(mailbox.take())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    reading = asyncio.ensure_future(mailbox.take())
    await asyncio.sleep(0)
    mailbox.put(tokens(5))
    assert (await reading).token_ids == [5]
