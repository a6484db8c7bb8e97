"""Engine outputs to text: independent of how steps cut the tokens."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replace_struct

from inference_service.completion import Completion, CompletionPiece
from inference_service.engine.request import SamplingOptions, TokenOutput
from inference_service.sampling import SamplingPlan
from inference_service.tokenizer import ModelTokenizer, load_tokenizer
from inference_service.tools.offered import offered_tools
from protos.inference_pb2 import ChatRequest, Tool
from tests.inference.scripted_engine import logprob_of, tokens
from tests.inference.tokenizer_files import write_model

PLAN = SamplingPlan(SamplingOptions(), (), include_stop_string=False)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    return load_tokenizer(write_model(Path(tmp_path_factory.mktemp("model"))))


def run(
    tokenizer: ModelTokenizer, plan: SamplingPlan, outputs: list[TokenOutput]
) -> CompletionPiece:
    """All pieces as one."""
    completion, token_ids, logprobs, text = Completion(tokenizer, plan), [], [], ""
    for output in outputs:
        piece = completion.add(output)
        token_ids += piece.token_ids
        logprobs += piece.logprobs
        text += piece.text
        if piece.finish_reason:
            break
    assert completion.num_tokens == len(token_ids)
    assert completion.finish_reason == piece.finish_reason
    assert completion.stop_string == piece.stop_string
    assert [each.token_id for each in logprobs] == (token_ids if logprobs else [])
    return replace(piece, token_ids=token_ids, logprobs=logprobs, text=text)


@settings(max_examples=50)
@given(data=st.data())
def test_steps_do_not_change_what_comes_out(tokenizer: ModelTokenizer, data: st.DataObject) -> None:
    token_ids = data.draw(st.lists(st.integers(0, 499), min_size=1, max_size=30))
    stops = data.draw(st.lists(st.sampled_from(["a", "he", " w", "�", "lo w"]), max_size=3))
    options = SamplingOptions(min_tokens=data.draw(st.integers(0, 5)))
    finish = data.draw(st.sampled_from(["stop", "length"]))
    plan = SamplingPlan(options, tuple(stops), data.draw(st.booleans()))
    places = sorted(data.draw(st.sets(st.integers(1, len(token_ids)))) - {len(token_ids)})
    borders = list(zip([0, *places], [*places, len(token_ids)], strict=True))
    cut = [told(*token_ids[a:b], finish=finish * (b == len(token_ids))) for a, b in borders]
    whole = run(tokenizer, plan, [told(*token_ids, finish=finish)])
    assert run(tokenizer, plan, cut) == whole
    assert len(whole.logprobs) == len(whole.token_ids)


def told(*token_ids: int, finish: str) -> TokenOutput:
    """Tokens with their logprobs."""
    logprobs = [logprob_of(token_id) for token_id in token_ids]
    return replace_struct(tokens(*token_ids, finish=finish), logprobs=logprobs)


def test_the_stop_token_is_in_the_ids_but_not_in_the_text(tokenizer: ModelTokenizer) -> None:
    ids = tokenizer.encode("hello!", add_special_tokens=False)
    outputs = [tokens(*ids, finish="stop")]
    assert run(tokenizer, PLAN, outputs) == CompletionPiece(ids, "hello", "stop")
    included = replace(PLAN, include_stop_string=True)
    assert run(tokenizer, included, outputs) == CompletionPiece(ids, "hello!", "stop")


def test_eos_never_shows(tokenizer: ModelTokenizer) -> None:
    ids = [*tokenizer.encode("hello", add_special_tokens=False), 2]
    included = replace(PLAN, include_stop_string=True)
    assert run(tokenizer, included, [tokens(*ids, finish="stop")]).text == "hello"


def test_tokens_after_a_stop_string_are_not_counted(tokenizer: ModelTokenizer) -> None:
    ids = [tokenizer.encode(c, add_special_tokens=False)[0] for c in "abcdef"]
    plan = replace(PLAN, stop_strings=("cd",))
    assert run(tokenizer, plan, [tokens(*ids)]) == CompletionPiece(ids[:4], "ab", "stop", "cd")


def test_a_stop_string_counts_only_after_min_tokens(tokenizer: ModelTokenizer) -> None:
    ids = [tokenizer.encode(c, add_special_tokens=False)[0] for c in "abab"]
    plan = SamplingPlan(SamplingOptions(min_tokens=2), ("ab",), include_stop_string=False)
    assert run(tokenizer, plan, [tokens(*ids, finish="length")]).text == "ab"


def test_what_was_held_back_comes_with_the_end(tokenizer: ModelTokenizer) -> None:
    ids = tokenizer.encode("hello wor", add_special_tokens=False)
    plan = replace(PLAN, stop_strings=("world",))
    assert run(tokenizer, plan, [tokens(*ids, finish="length")]).text == "hello wor"


def test_markup_that_is_special_tokens_is_seen_only_with_tools(tmp_path: Path) -> None:
    """As `<|python_tag|>` of Llama 3, which no text shows otherwise."""
    listed = {
        str(500 + place): {"content": content, "special": True}
        for place, content in enumerate(["<tool_call>", "</tool_call>"])
    }
    tokenizer = load_tokenizer(write_model(tmp_path, added_tokens_decoder=listed))
    text = '<tool_call>{"name": "add"}</tool_call>'
    ids = [*tokenizer.encode(text, add_special_tokens=False), 2]
    assert len(set(ids) & tokenizer.special_token_ids) == 3
    assert run(tokenizer, PLAN, [tokens(*ids, finish="stop")]).text == '{"name": "add"}'
    tools = offered_tools(ChatRequest(tools=[Tool(name="add")]), "hermes")
    piece = Completion(tokenizer, PLAN, tools).add(tokens(*ids, finish="stop"))
    assert (piece.text, piece.finish_reason) == ("", "tool_calls")
    assert [call.name for call in piece.tool_calls] == ["add"]
