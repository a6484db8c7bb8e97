"""Tools over gRPC: told to the model, and found in what it says."""

import json
from typing import Any

import pytest

from lorikeet.rpc.errors import FailedPreconditionError, InvalidArgumentError, LorikeetError
from protos import inference_pb2 as pb
from tests.inference.scripted_engine import Step, steps_of
from tests.inference.test_chat import SCHEMA, struct_of
from tests.inference.test_completions import chunks_of, told
from tests.inference.test_generate import TOKENIZER, ids_of
from tests.inference.world import Answer, World, running_world

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADD = pb.Tool(name="add", description="Adds.", parameters=struct_of(SCHEMA))
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
ASKED = [pb.ChatMessage(role="user", content="1+1?")]


def says(text: str, finish: str = "stop") -> list[Step]:
    """One token a step; the end token last where the model ends by itself."""
    return steps_of([*ids_of(text), *([2] if finish == "stop" else [])], finish=finish)


def chat(**fields: Any) -> pb.ChatRequest:
    return pb.ChatRequest(**{"messages": ASKED, "tools": [ADD], **fields})


def calls_in(answer: Answer) -> list[tuple[str, Any]]:
    """Of the chunks; those of `complete` must be the same."""
    calls = [call for chunk in answer.chunks for call in chunk.tool_calls if chunk.index == 0]
    assert answer.complete is not None
    assert list(answer.complete.tool_calls) == calls
    assert list(answer.complete.results[0].tool_calls) == calls
    return [(call.name, json.loads(call.arguments)) for call in calls]


async def test_a_call_comes_apart_from_the_text_while_it_streams(world: World) -> None:
    user = await world.user("calls")
    world.engine.steps = says(f"Let me see. {CALL}\n{CALL}")
    answer = await user.ask(chat())
    assert answer.text == "Let me see. "
    assert calls_in(answer) == [("add", {"a": 1}), ("add", {"a": 1})]
    first, second = (chunk for chunk in answer.chunks if chunk.tool_calls)
    assert first.tool_calls[0].id != second.tool_calls[0].id
    assert not any(chunk.tool_call_error for chunk in answer.chunks)
    assert answer.token_ids == [*ids_of(f"Let me see. {CALL}\n{CALL}"), 2]
    assert answer.complete is not None
    assert answer.complete.finish_reason == pb.FINISH_REASON_TOOL_CALLS
    assert answer.complete.results[0].finish_reason == pb.FINISH_REASON_TOOL_CALLS


async def test_a_malformed_call_is_text_and_says_why(world: World) -> None:
    user = await world.user("malformed")
    text = CALL.replace('"add"', '"subtract"')
    world.engine.steps = says(text)
    answer = await user.ask(chat())
    assert (answer.text, calls_in(answer)) == (text, [])
    (error,) = [chunk.tool_call_error for chunk in answer.chunks if chunk.tool_call_error]
    assert "not offered" in error
    assert answer.complete is not None
    assert answer.complete.finish_reason == pb.FINISH_REASON_STOP


async def test_a_call_cut_by_max_tokens_is_text(world: World) -> None:
    user = await world.user("cut")
    text = f"{CALL}{CALL[:-5]}"
    world.engine.steps = says(text, finish="length")
    answer = await user.ask(chat())
    assert (answer.text, calls_in(answer)) == (CALL[:-5], [("add", {"a": 1})])
    assert "ended before" in answer.chunks[-1].tool_call_error
    assert answer.complete is not None
    assert answer.complete.finish_reason == pb.FINISH_REASON_LENGTH


async def test_stop_strings_are_looked_for_before_calls(world: World) -> None:
    user = await world.user("stops")
    world.engine.steps = [*says(f"{CALL} END", finish=""), 60.0]
    answer = await user.ask(chat(sampling=pb.SamplingParams(stop=["END"])))
    assert (answer.text, calls_in(answer)) == ("", [("add", {"a": 1})])
    assert answer.complete is not None
    assert answer.complete.finish_reason == pb.FINISH_REASON_TOOL_CALLS
    assert answer.complete.stop_string == "END"
    answer = await user.ask(chat(sampling=pb.SamplingParams(stop=["arguments"])))
    assert (answer.text, calls_in(answer)) == (CALL[: CALL.index("arguments")], [])


async def test_completions_call_on_their_own_and_tell_logprobs(world: World) -> None:
    user = await world.user("several")
    world.engine.scripts = [[told(step) for step in says(text)] for text in ("no", CALL)]
    answer = await user.ask(chat(sampling=pb.SamplingParams(n=2, logprobs=1)))
    assert calls_in(answer) == []
    assert answer.complete is not None
    assert answer.complete.finish_reason == pb.FINISH_REASON_STOP
    second = answer.complete.results[1]
    assert second.finish_reason == pb.FINISH_REASON_TOOL_CALLS
    assert [call.name for call in second.tool_calls] == ["add"]
    chunks = chunks_of(answer, 1)
    assert "".join(chunk.text for chunk in chunks) == ""
    told_of = [each.token_id for chunk in chunks for each in chunk.logprobs]
    assert told_of == [*ids_of(CALL), 2]


@pytest.mark.parametrize("choice", ["", "auto", "none"])
async def test_none_hides_the_tools_and_reads_no_calls(world: World, choice: str) -> None:
    user = await world.user("choice", name=f"user-{choice}")
    world.engine.steps = says(CALL)
    answer = await user.ask(chat(tool_choice=choice))
    prompt = TOKENIZER.decode(world.engine.calls[0].prompt_token_ids)
    assert ('"Adds."' in prompt) == (choice != "none")
    assert answer.text == (CALL if choice == "none" else "")


async def test_the_profiles_parser_and_template_go_first(world: World) -> None:
    user = await world.user("profiled")
    template = "{% for tool in tools %}[{{ tool.function.name }}]{% endfor %}"
    await world.publish("profiled", "glaive", chat_template=template, tool_call_parser="glaive")
    world.engine.steps = says("""<functioncall> {"name": "add", "arguments": '{"a": 1}'}""")
    answer = await user.ask(chat(adapter="glaive"))
    assert TOKENIZER.decode(world.engine.calls[0].prompt_token_ids) == "[add]"
    assert (answer.text, calls_in(answer)) == ("", [("add", {"a": 1})])


async def test_a_second_turn_tells_the_model_of_the_call_and_its_result(world: World) -> None:
    user = await world.user("turns")
    world.engine.steps = says(CALL)
    first = await user.ask(chat())
    assert first.complete is not None
    (call,) = first.complete.tool_calls
    turns = [
        *ASKED,
        pb.ChatMessage(role="assistant", tool_calls=[call]),
        pb.ChatMessage(role="tool", content="2", tool_call_id=call.id),
    ]
    world.engine.steps = says("It is 2.")
    answer = await user.ask(chat(messages=turns))
    assert answer.text == "It is 2."
    prompt = TOKENIZER.decode(world.engine.calls[1].prompt_token_ids, skip_special_tokens=False)
    assert '"name": "add",\n  "arguments": {\n    "a": 1' in prompt
    assert "<|user|>tool\n2<|end|>" in prompt


@pytest.mark.parametrize(
    ("fields", "violated"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [pb.Tool(name="a b")]}, "tools[0].name"),
        ({"tools": [pb.Tool()]}, "tools[0].name"),
        ({"tools": [ADD, pb.Tool(name="n" * 65)]}, "tools[1].name"),
        ({"tools": [ADD, ADD]}, "tools[1].name"),
        ({"tools": [pb.Tool(name=f"t{i}") for i in range(129)]}, "tools"),
        ({"tools": [pb.Tool(name="t", description="x" * 300_000)]}, "tools"),
        (
            {"tools": [pb.Tool(name="t", parameters=struct_of({"type": "array"}))]},
            "tools[0].parameters",
        ),
        (
            {
                "tools": [
                    pb.Tool(name="t", parameters=struct_of({**SCHEMA, "properties": {"a": 1}}))
                ]
            },
            "tools[0].parameters",
        ),
        (
            {"tools": [pb.Tool(name="t", parameters=struct_of({**SCHEMA, "required": "a"}))]},
            "tools[0].parameters",
        ),
    ],
)
async def test_wrong_tools_are_refused_by_field(
    world: World, fields: dict[str, Any], violated: str
) -> None:
    user = await world.user("wrong", name=f"user{len(world.tenants)}-{abs(hash(str(fields)))}")
    with pytest.raises(InvalidArgumentError) as refused:
        await user.ask(chat(**fields))
    assert refused.value.reason == "INVALID_TOOLS"
    assert [violation.field for violation in refused.value.violations] == [violated]
    assert not world.engine.calls


async def test_without_a_parser_tools_are_refused(tmp_path_factory: Any) -> None:
    async with running_world(tmp_path_factory.mktemp("none"), max_model_len=1024) as world:
        user = await world.user("unparsed")
        with pytest.raises(LorikeetError) as refused:
            await user.ask(chat())
        assert isinstance(refused.value, FailedPreconditionError)
        assert refused.value.reason == "NO_TOOL_CALL_PARSER"
        assert not world.engine.calls
        assert (await user.ask(chat(tool_choice="none"))).complete is not None
