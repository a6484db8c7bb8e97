"""Logprobs, and several completions of one prompt, over gRPC."""

import asyncio

import pytest
from msgspec.structs import replace

from inference_service.engine.client import EngineRefusedError
from inference_service.engine.request import TokenOutput
from inference_service.sampling import derived_seed
from lorikeet.rpc.errors import ResourceExhaustedError
from protos import inference_pb2 as pb
from tests.inference.scripted_engine import Step, logprob_of, steps_of, tokens
from tests.inference.test_generate import ids_of
from tests.inference.world import Answer, World, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


def told(step: Step) -> TokenOutput:
    assert isinstance(step, TokenOutput)
    return replace(step, logprobs=[logprob_of(token_id) for token_id in step.token_ids])


def chunks_of(answer: Answer, index: int) -> list[pb.GenerateChunk]:
    return [chunk for chunk in answer.chunks if chunk.index == index]


async def test_logprobs_come_with_the_tokens_they_are_of(world: World) -> None:
    """Half a character and the start of a stop string are held back; the figures are not."""
    user = await world.user("told")
    ids = ids_of("a🦜stop")
    world.engine.steps = [told(step) for step in steps_of(ids, finish="")]
    asked = pb.SamplingParams(logprobs=1, stop=["stop"])
    answer = await user.generate(sampling=asked)
    assert answer.text == "a🦜"
    assert world.engine.calls[0].sampling.logprobs == 1
    assert answer.token_ids == ids
    for chunk in answer.chunks:
        assert [each.token_id for each in chunk.logprobs] == list(chunk.token_ids)
        for each in chunk.logprobs:
            expected = logprob_of(each.token_id)
            assert (each.logprob, each.rank) == (expected.logprob, expected.rank)
            assert list(each.token_ids) == expected.top_ids
            assert list(each.logprobs) == expected.top_logprobs


async def test_a_long_prompts_logprobs_come_in_messages_of_bounded_size(world: World) -> None:
    user = await world.user("prompted")
    of_prompt = [logprob_of(number, num_top=20) for number in range(1200)]
    world.engine.steps = [
        replace(tokens(), prompt_logprobs=of_prompt[:1100]),
        replace(tokens(70, finish="length"), prompt_logprobs=of_prompt[1100:], num_cached=0),
    ]
    answer = await user.generate(sampling=pb.SamplingParams(prompt_logprobs=20))
    assert world.engine.calls[0].sampling.prompt_logprobs == 20
    found = [each for chunk in answer.chunks for each in chunk.prompt_logprobs]
    assert [each.token_id for each in found] == list(range(1200))
    assert [len(chunk.prompt_logprobs) for chunk in answer.chunks] == [512, 512, 76, 100]
    assert max(chunk.ByteSize() for chunk in answer.chunks) < 200_000
    assert [list(chunk.token_ids) for chunk in answer.chunks] == [[], [], [], [70]]


async def test_three_completions_interleave_and_end_once(world: World) -> None:
    user = await world.user("three")
    world.engine.scripts = [
        steps_of(ids_of("first one"), finish="length"),
        steps_of(ids_of("second, then"), finish=""),
        steps_of([*ids_of("third"), 2], finish="stop"),
    ]
    asked = pb.SamplingParams(n=3, seed=11, stop=[", "], prompt_logprobs=0)
    answer = await user.generate(sampling=asked)
    texts = ["".join(chunk.text for chunk in chunks_of(answer, index)) for index in range(3)]
    assert texts == ["first one", "second", "third"]
    order = [chunk.index for chunk in answer.chunks]
    assert order[:6] == [0, 1, 2, 0, 1, 2]
    assert answer.complete is not None
    ends = [(r.index, r.finish_reason, r.stop_string) for r in answer.complete.results]
    assert ends == [
        (0, pb.FINISH_REASON_LENGTH, ""),
        (1, pb.FINISH_REASON_STOP, ", "),
        (2, pb.FINISH_REASON_STOP, ""),
    ]
    counts = [sum(len(c.token_ids) for c in chunks_of(answer, index)) for index in range(3)]
    assert [result.completion_tokens for result in answer.complete.results] == counts
    assert answer.complete.usage.completion_tokens == sum(counts)
    assert answer.complete.usage.prompt_tokens == answer.start.num_prompt_tokens
    assert answer.complete.finish_reason == pb.FINISH_REASON_LENGTH
    assert [call.sampling.seed for call in world.engine.calls] == [
        11,
        derived_seed(11, 1),
        derived_seed(11, 2),
    ]
    assert [call.sampling.prompt_logprobs for call in world.engine.calls] == [0, None, None]
    assert all(call.closed for call in world.engine.calls)


async def test_chat_has_the_same(world: World) -> None:
    user = await world.user("chats")
    world.engine.steps = [told(step) for step in steps_of([70, 71])]
    messages = [pb.ChatMessage(role="user", content="hi")]
    asked = pb.SamplingParams(n=2, logprobs=1, logit_bias={70: 2.5})
    answer = await user.ask(pb.ChatRequest(messages=messages, sampling=asked))
    assert sorted(answer.token_ids) == [70, 70, 71, 71]
    assert all(len(chunk.logprobs) == 1 for chunk in answer.chunks)
    assert all(call.sampling.logit_bias == {70: 2.5} for call in world.engine.calls)


async def test_a_profile_may_ask_for_completions_and_logprobs(world: World) -> None:
    user = await world.user("profile-n")
    defaults = {"n": 2, "logprobs": 0, "min_p": 0.5, "logit_bias": {"70": -1}}
    await world.publish("profile-n", "own", default_sampling=defaults)
    await user.generate("own")
    assert len(world.engine.calls) == 2
    options = world.engine.calls[0].sampling
    assert (options.logprobs, options.min_p, options.logit_bias) == (0, 0.5, {70: -1})


async def test_cancelling_leaves_the_engine_with_none_of_them(world: World) -> None:
    user = await world.user("cancel-n")
    world.engine.steps = [tokens(70), 60.0]
    request = pb.GenerateRequest(prompt="x", sampling=pb.SamplingParams(n=3))
    call = user.call("Generate", request, timeout=None)
    for _ in range(4):
        await call.read()
    call.cancel()
    await eventually(lambda: all(call.closed for call in world.engine.calls))
    assert len(world.engine.calls) == 3


async def test_one_that_fails_ends_them_all(world: World) -> None:
    user = await world.user("fail-n")
    world.engine.scripts = [
        [tokens(70), 60.0],
        [tokens(70), EngineRefusedError("OUT_OF_PAGES", "no")],
    ]
    with pytest.raises(ResourceExhaustedError):
        await user.generate(sampling=pb.SamplingParams(n=2))
    assert [call.closed for call in world.engine.calls] == [True, True]


async def test_every_completion_counts_in_the_queue(world: World) -> None:
    """Of 8 places: one request of 7 takes 7, the next whatever it needs, then it is full."""
    user = await world.user("queue-n")
    world.engine.steps = [0.5, tokens(70, finish="length")]
    seven = pb.SamplingParams(n=7)
    answers = await asyncio.gather(
        *(user.generate(sampling=seven) for _ in range(3)), return_exceptions=True
    )
    assert sum(isinstance(answer, ResourceExhaustedError) for answer in answers) == 1
    assert sum(isinstance(answer, Answer) for answer in answers) == 2
