"""Generate and Chat over the wire: what a caller sees of a request's life."""

import time
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from inference_service.engine.client import EngineDiedError, EngineRefusedError
from inference_service.engine.request import TokenOutput
from lorikeet.rpc.errors import (
    DataLossError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    LorikeetError,
    ResourceExhaustedError,
    UnavailableError,
)
from protos import inference_pb2 as pb
from tests.inference.scripted_engine import INFO, steps_of, tokens
from tests.inference.tokenizer_files import byte_level_json
from tests.inference.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOKENIZER = Tokenizer.from_str(byte_level_json())


def ids_of(text: str) -> list[int]:
    ids: list[int] = TOKENIZER.encode(text, add_special_tokens=False).ids
    return ids


async def test_a_stream_is_start_chunks_complete(world: World) -> None:
    user = await world.user("stream")
    text = "Grüße 🦜 to the world"
    world.engine.steps = steps_of([*ids_of(text), 2], finish="stop")
    answer = await user.generate(prompt="say hello", request_id="mine")
    assert answer.start.request_id == "mine"
    assert answer.start.base_model == "baseModels/tiny"
    assert (answer.start.adapter_version, answer.start.digest) == ("", "")
    assert answer.start.num_prompt_tokens == len(ids_of("say hello"))
    assert answer.text == text
    assert not any("�" in chunk.text for chunk in answer.chunks)
    assert answer.token_ids == [*ids_of(text), 2]
    assert answer.complete is not None
    assert answer.complete.finish_reason == pb.FINISH_REASON_STOP
    assert answer.complete.usage.prompt_tokens == len(ids_of("say hello"))
    assert answer.complete.usage.completion_tokens == len(answer.token_ids)
    (call,) = world.engine.calls
    assert call.prompt_token_ids == ids_of("say hello")
    assert (call.adapter_digest, call.tenant) == ("", "stream")
    assert call.sampling.stop_token_ids == (2, 4)
    assert call.sampling.max_tokens == INFO.max_model_len - len(call.prompt_token_ids)


async def test_token_ids_go_in_as_they_are(world: World) -> None:
    user = await world.user("ids")
    await user.ask(pb.GenerateRequest(prompt_token_ids=pb.TokenIds(ids=[5, 6, 599])))
    assert world.engine.calls[0].prompt_token_ids == [5, 6, 599]


async def test_half_a_character_waits_for_the_rest(world: World) -> None:
    user = await world.user("half")
    parrot = ids_of("🦜")
    assert len(parrot) > 1
    world.engine.steps = steps_of(parrot)
    answer = await user.generate()
    assert [chunk.text for chunk in answer.chunks[:-1]] == [""] * (len(parrot) - 1)
    assert answer.text == "🦜"
    world.engine.steps = steps_of(parrot[:-1])
    assert (await user.generate()).text == "�"


async def test_a_stop_string_ends_the_request_in_the_engine(world: World) -> None:
    user = await world.user("stops")
    ids = [ids_of(c)[0] for c in "one two three"]
    world.engine.steps = [*steps_of(ids, finish=""), 60.0]
    answer = await user.generate(sampling=pb.SamplingParams(stop=["two", "three"]))
    assert answer.text == "one "
    assert answer.complete is not None
    assert answer.complete.stop_string == "two"
    assert answer.complete.finish_reason == pb.FINISH_REASON_STOP
    assert answer.complete.usage.completion_tokens == len("one two")
    assert world.engine.calls[0].closed
    included = pb.SamplingParams(stop=["two"], include_stop_str_in_output=True)
    assert (await user.generate(sampling=included)).text == "one two"


async def test_chat_renders_the_base_models_template(world: World) -> None:
    user = await world.user("chat")
    messages = [pb.ChatMessage(role="user", content="hi")]
    await user.ask(pb.ChatRequest(messages=messages))
    prompt = TOKENIZER.decode(world.engine.calls[0].prompt_token_ids, skip_special_tokens=False)
    assert prompt == "<s><|user|>user\nhi<|end|>\n<|user|>assistant\n"


async def test_the_adapters_profile_counts(world: World) -> None:
    user = await world.user("profiled")
    await world.publish(
        "profiled",
        "own-way",
        chat_template="own: {{ messages[0].content }}",
        stop=["B"],
        default_sampling={"temperature": 0.25, "max_tokens": 7},
    )
    world.engine.steps = steps_of(ids_of("aBc"))
    messages = [pb.ChatMessage(role="user", content="hi")]
    answer = await user.ask(pb.ChatRequest(adapter="own-way", messages=messages))
    assert answer.text == "a"
    (call,) = world.engine.calls
    assert TOKENIZER.decode(call.prompt_token_ids) == "own: hi"
    assert (call.sampling.temperature, call.sampling.max_tokens) == (0.25, 7)


async def test_an_adapter_is_fetched_loaded_and_used(world: World) -> None:
    user = await world.user("loads")
    version = await world.publish("loads", "math", aliases=["stable"])
    await world.publish("loads", "math", seed=1)
    answer = await user.generate("math@stable")
    assert answer.start.adapter_version == version.name
    assert (answer.start.digest, answer.start.alias) == (version.digest, "stable")
    assert world.engine.calls[0].adapter_digest == version.digest
    path = world.engine.paths[version.digest]
    assert path == world.data_dir / "adapters" / version.digest.replace(":", "-")
    latest = (await user.generate("math")).start
    assert latest.adapter_version.endswith("/versions/2")
    assert latest.alias == "latest"
    by_number = (await user.generate("tiny:loads/math@1")).start
    assert (by_number.digest, by_number.alias) == (version.digest, "")


async def test_priority_goes_to_the_engine_with_every_completion(world: World) -> None:
    user = await world.user("urgent")
    await user.generate(priority=-7, sampling=pb.SamplingParams(n=2))
    messages = [pb.ChatMessage(role="user", content="hi")]
    await user.ask(pb.ChatRequest(messages=messages, priority=1000))
    assert [call.priority for call in world.engine.calls] == [-7, -7, 1000]
    with pytest.raises(InvalidArgumentError) as refused:
        await user.generate(priority=1001)
    assert [violation.field for violation in refused.value.violations] == ["priority"]


@pytest.mark.parametrize(
    ("request_fields", "error", "reason"),
    [
        ({}, InvalidArgumentError, "INVALID_PROMPT"),
        ({"prompt": ""}, InvalidArgumentError, "INVALID_PROMPT"),
        ({"prompt": "a " * 200}, InvalidArgumentError, "PROMPT_TOO_LONG"),
        (
            {"prompt_token_ids": pb.TokenIds(ids=[600])},
            InvalidArgumentError,
            "INVALID_TOKEN_ID",
        ),
        ({"prompt_token_ids": pb.TokenIds()}, InvalidArgumentError, "INVALID_PROMPT"),
        (
            {"prompt": "x", "sampling": pb.SamplingParams(top_p=2)},
            InvalidArgumentError,
            "INVALID_SAMPLING",
        ),
        (
            {"prompt": "x", "sampling": pb.SamplingParams(logit_bias={600: 1.0})},
            InvalidArgumentError,
            "INVALID_SAMPLING",
        ),
        ({"prompt": "x", "request_id": "a\nb"}, InvalidArgumentError, "INVALID_REQUEST_ID"),
        ({"prompt": "x", "adapter": "../x"}, InvalidArgumentError, "INVALID_NAME"),
        ({"prompt": "x", "adapter": "big:x"}, FailedPreconditionError, "BASE_MODEL_MISMATCH"),
    ],
)
async def test_bad_requests_are_refused_before_the_engine(
    world: World, request_fields: dict[str, Any], error: type[LorikeetError], reason: str
) -> None:
    user = await world.user("bad", name=f"user{time.monotonic_ns()}")
    with pytest.raises(error) as refused:
        await user.ask(pb.GenerateRequest(**request_fields))
    assert refused.value.reason == reason
    assert not world.engine.calls


@pytest.mark.parametrize(
    ("raised", "error", "reason"),
    [
        (EngineRefusedError("OUT_OF_PAGES", "no"), ResourceExhaustedError, "OUT_OF_PAGES"),
        (EngineRefusedError("ADAPTER_INVALID", "no"), FailedPreconditionError, "ADAPTER_INVALID"),
        (EngineDiedError("it was killed"), UnavailableError, "ENGINE_RESTARTING"),
        (RuntimeError("secret"), InternalError, "INTERNAL"),
    ],
)
async def test_what_the_engine_raises_has_a_status(
    world: World, raised: Exception, error: type[LorikeetError], reason: str
) -> None:
    user = await world.user("raises", name=f"user-{reason.lower()}")
    world.engine.steps = [tokens(70), raised]
    with pytest.raises(error) as ended:
        await user.generate()
    assert ended.value.reason == reason
    assert "secret" not in ended.value.message
    assert reason != "OUT_OF_PAGES" or ended.value.retry_after


async def test_a_request_the_engine_gives_up_is_an_internal_error(world: World) -> None:
    user = await world.user("gives-up")
    world.engine.steps = [TokenOutput(request_id=0, token_ids=[], error="secret detail")]
    with pytest.raises(InternalError) as ended:
        await user.generate()
    assert ended.value.reason == "ENGINE_REQUEST_FAILED"
    assert "secret" not in ended.value.message


def flip_a_bit(directory: Path) -> None:
    (file,) = directory.rglob("adapter_model.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o600)
    file.write_bytes(data)


async def test_artifacts_that_the_registry_lost_are_data_loss(world: World) -> None:
    user = await world.user("lost")
    version = await world.publish("lost", "math", seed=404)  # bytes that no other test has
    flip_a_bit(world.data_dir.parent / "registry" / "objects" / version.storage_path)
    with pytest.raises(DataLossError) as ended:
        await user.generate("math")
    assert ended.value.reason == "ARTIFACT_CORRUPT"
    assert not world.engine.calls
