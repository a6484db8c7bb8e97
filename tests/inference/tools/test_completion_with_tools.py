"""Tokens to text and calls: the same however steps and stop strings meet the markup."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.completion import Completion
from inference_service.engine.request import SamplingOptions
from inference_service.sampling import SamplingPlan
from inference_service.tokenizer import ModelTokenizer, load_tokenizer
from inference_service.tools.offered import offered_tools
from lorikeet.rpc.tool_call_parsers import TOOL_CALL_PARSERS
from protos.inference_pb2 import ChatRequest, Tool
from tests.inference.scripted_engine import tokens
from tests.inference.tokenizer_files import write_model
from tests.inference.tools.test_call_finder import PARTS

Seen = tuple[str, list[tuple[str, object]], list[str], str, str, int]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    """Some of the markup is special tokens, some is many tokens."""
    listed = {
        str(500 + place): {"content": content, "special": True}
        for place, content in enumerate(["<tool_call>", "</tool_call>", "<|python_tag|>"])
    }
    model = Path(tmp_path_factory.mktemp("model"))
    return load_tokenizer(write_model(model, added_tokens_decoder=listed))


def run(
    tokenizer: ModelTokenizer, parser: str, stop: list[str], steps: list[list[int]], finish: str
) -> Seen:
    """(text, calls, errors, finish reason, stop string, tokens) of all pieces."""
    plan = SamplingPlan(SamplingOptions(), tuple(stop), include_stop_string=False)
    tools = offered_tools(ChatRequest(tools=[Tool(name="add")]), parser)
    completion, text = Completion(tokenizer, plan, tools), ""
    errors: list[str] = []
    for place, token_ids in enumerate(steps, 1):
        piece = completion.add(tokens(*token_ids, finish=finish * (place == len(steps))))
        text += piece.text
        errors += filter(None, piece.tool_call_error.split("; "))
        if piece.finish_reason:
            break
    calls = [(call.name, json.loads(call.arguments)) for call in completion.tool_calls]
    ended = (completion.finish_reason, completion.stop_string, completion.num_tokens)
    return text, calls, errors, *ended


@settings(max_examples=200)
@given(data=st.data())
def test_steps_do_not_change_what_comes_out(tokenizer: ModelTokenizer, data: st.DataObject) -> None:
    parser = data.draw(st.sampled_from(TOOL_CALL_PARSERS))
    part = st.sampled_from([*PARTS[parser], " ", "text", "}", "🦜"])
    text = "".join(data.draw(st.lists(part, min_size=1, max_size=6)))
    ids = [*tokenizer.encode(text, add_special_tokens=False), 2]
    stop = data.draw(st.lists(st.sampled_from(["te", '"name"', "call>", "} "]), max_size=1))
    finish = data.draw(st.sampled_from(["stop", "length"]))
    places = data.draw(st.lists(st.integers(1, len(ids)), max_size=8).map(sorted))
    borders = sorted({0, *places, len(ids)})
    steps = [ids[a:b] for a, b in pairwise(borders)]
    whole = run(tokenizer, parser, stop, [ids], finish)
    assert run(tokenizer, parser, stop, steps, finish) == whole
    if not stop and not whole[1]:
        assert whole[0] == text
