"""Calls in text: read strictly, whatever pieces the text comes in; nothing lost, nothing twice."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference_service.tools.call_finder import Found, ToolCallFinder
from inference_service.tools.formats import CALL_FORMATS
from tests.inference.test_stop_strings import cut

TOOLS = frozenset({"add", "look-up", "now"})
FORMATS = sorted(CALL_FORMATS)
Seen = tuple[str, list[tuple[str, object]], list[str]]


def read(parser: str, pieces: Sequence[str]) -> Found:
    finder = ToolCallFinder(CALL_FORMATS[parser], TOOLS)
    found = Found()
    for piece in pieces:
        found += finder.push(piece)
    return found + finder.flush()


def seen(parser: str, *pieces: str) -> Seen:
    """(text, [(name, arguments)], errors)."""
    found = read(parser, pieces)
    assert len({call.id for call in found.calls}) == len(found.calls)
    calls = [(call.name, json.loads(call.arguments)) for call in found.calls]
    return found.text, calls, found.errors


GLAIVE = """<functioncall> {"name": "add", "arguments": '{"a": 1, "b": [2, {"c": null}]}'}"""
HERMES = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": [2, {"c": null}]}}\n</tool_call>'
LLAMA = '{"name": "add", "parameters": {"a": 1, "b": [2, {"c": null}]}}'
CALLED = ("add", {"a": 1, "b": [2, {"c": None}]})


@pytest.mark.parametrize(
    ("parser", "text", "calls"),
    [
        ("glaive", GLAIVE, [CALLED]),
        ("glaive", f"{GLAIVE}\n{GLAIVE} ", [CALLED, CALLED]),
        ("glaive", """<functioncall>{"name":"add","arguments":{"a":1}}""", [("add", {"a": 1})]),
        (
            "glaive",
            r"""<functioncall> {"name": "look-up", "arguments": '{"q": "don't", "p": "it\'s"}'}""",
            [("look-up", {"q": "don't", "p": "it's"})],
        ),
        (
            "glaive",
            r"""<functioncall> {"name": "look-up", "arguments": '{"q": "say \"hi\"\n"}'}""",
            [("look-up", {"q": 'say "hi"\n'})],
        ),
        (
            "glaive",
            r"""<functioncall> {"name": "add", "arguments": "{\"a\": 1}"}""",
            [("add", {"a": 1})],
        ),
        ("glaive", """<functioncall> {"name": "now"}""", [("now", {})]),
        ("hermes", HERMES, [CALLED]),
        ("hermes", f"\n{HERMES}\n{HERMES}\n", [CALLED, CALLED]),
        ("hermes", '<tool_call>{"arguments":{},"name":"now"}</tool_call>', [("now", {})]),
        (
            "hermes",
            '<tool_call>{"name": "now", "arguments": {"q": "a</tool_call>}{ \\" é"}}</tool_call>',
            [("now", {"q": 'a</tool_call>}{ " é'})],
        ),
        ("llama3_json", LLAMA, [CALLED]),
        ("llama3_json", f" {LLAMA} ; {LLAMA};{LLAMA}", [CALLED] * 3),
        ("llama3_json", f"<|python_tag|>{LLAMA}; {LLAMA}", [CALLED] * 2),
        ("llama3_json", f"<|python_tag|>{LLAMA}; <|python_tag|>{LLAMA}", [CALLED] * 2),
        ("llama3_json", '{"name": "add", "arguments": {"a": 1}}', [("add", {"a": 1})]),
    ],
)
def test_calls_are_found_and_leave_no_text(
    parser: str, text: str, calls: list[tuple[str, object]]
) -> None:
    assert seen(parser, text) == ("", calls, [])
    assert seen(parser, *text) == ("", calls, [])


@pytest.mark.parametrize(
    ("parser", "text", "rest"),
    [
        ("glaive", f"Sure. {GLAIVE} Done.", "Sure.  Done."),
        ("hermes", f"Let me see.\n{HERMES}\nand\n{HERMES}", "Let me see.\n\nand\n"),
        ("hermes", f"a <tool_calls> <tool {HERMES} <tool", "a <tool_calls> <tool  <tool"),
        ("llama3_json", f"Say <|python_tag|>{LLAMA}", "Say "),
        ("llama3_json", f"{LLAMA}; and more", "; and more"),
    ],
)
def test_text_around_calls_stays(parser: str, text: str, rest: str) -> None:
    found, calls, errors = seen(parser, text)
    assert (found, errors) == (rest, [])
    assert set(map(str, calls)) == {str(CALLED)}


@pytest.mark.parametrize("text", ["no call", " \n ", "", "{}; {", 'a {"name": "add"}', "<tool_cal"])
@pytest.mark.parametrize("parser", ["glaive", "hermes"])
def test_other_text_is_left_alone(parser: str, text: str) -> None:
    assert seen(parser, text) == (text, [], [])


def test_a_bare_object_counts_only_where_the_output_begins() -> None:
    text = f"The call is {LLAMA}"
    assert seen("llama3_json", text) == (text, [], [])


MALFORMED = [
    ("hermes", "<tool_call>oops</tool_call>", "begin with a JSON object"),
    ("hermes", '<tool_call>{"name": "add" "arguments": {}}</tool_call>', "not valid JSON"),
    ("hermes", '<tool_call>{"name": add}</tool_call>', "out of place"),
    ("hermes", '<tool_call>{"name": "add"]}</tool_call>', "out of place"),
    ("hermes", '<tool_call>{"arguments": {}}</tool_call>', "no name"),
    ("hermes", '<tool_call>{"name": 3, "arguments": {}}</tool_call>', "no name"),
    ("hermes", '<tool_call>{"name": "rm", "arguments": {}}</tool_call>', "not offered"),
    ("hermes", '<tool_call>{"name": "add", "arguments": [1]}</tool_call>', "not a JSON object"),
    ("hermes", '<tool_call>{"name": "add", "arguments": "{}"}</tool_call>', "not a JSON object"),
    ("hermes", '<tool_call>{"name": "add", "arguments": {}} x</tool_call>', "something else"),
    ("hermes", '<tool_call>{"name": "add", "arguments": {}}<tool_call>', "was expected"),
    ("hermes", '<tool_call>{"name": "add", "name": "now"}</tool_call>', "twice"),
    ("hermes", '<tool_call>{"name": "add", "arguments": {"a": 1e999}}</tool_call>', "too large"),
    ("hermes", '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>', "out of place"),
    (
        "hermes",
        '<tool_call>{"name": "look-up", "arguments": {"q": "\\ud800"}}</tool_call>',
        "valid",
    ),
    ("hermes", '<tool_call>{"name": "look-up", "arguments": {"q": "a\nb"}}</tool_call>', "line"),
    ("hermes", '<tool_call>{"name": "add", "arguments": {"a": 1', "ended before"),
    ("hermes", '<tool_call>{"name": "add", "arguments": {}}</tool', "ended before"),
    ("hermes", "<tool_call>" + '{"a":' * 100 + "1" + "}" * 100 + "</tool_call>", "levels deep"),
    ("glaive", """<functioncall> {'name': 'add', 'arguments': {}}""", "single quotes"),
    ("glaive", """<functioncall> {"name": "add", "arguments": '{"a": 1} x'}""", "all that is in"),
    ("glaive", """<functioncall> {"name": "add", "arguments": 'a'}""", "do not hold"),
    ("glaive", """<functioncall> {"name": "add", "arguments": "a"}""", "not valid JSON"),
    ("glaive", """<functioncall> {"name": "add", "arguments": "[1]"}""", "not a JSON object"),
    ("glaive", """<functioncall> __import__("os")""", "begin with a JSON object"),
    ("llama3_json", '{"answer": 42}', "no name"),
    ("llama3_json", '<|python_tag|>search.call(q="x")', "begin with a JSON object"),
    ("llama3_json", '{"name": "add", "parameters": {}, "arguments": {}}', "both"),
    ("llama3_json", "{", "ended before"),
]


@pytest.mark.parametrize(("parser", "text", "reason"), MALFORMED)
def test_a_malformed_call_is_text_with_a_reason(parser: str, text: str, reason: str) -> None:
    found, calls, errors = seen(parser, text)
    assert found == text
    assert calls == []
    assert reason in "; ".join(errors)
    assert len(errors) == text.count("<tool_call>") or len(errors) == 1
    assert seen(parser, *text) == (found, calls, errors)


def test_a_good_call_follows_a_malformed_one() -> None:
    bad = '<tool_call>{"name": "add", '
    found, calls, errors = seen("hermes", f"{bad}{HERMES}")
    assert (found, calls, len(errors)) == (bad, [CALLED], 1)
    found, calls, errors = seen("llama3_json", f'{LLAMA}; {{"x": 1}}')
    assert (found, calls, len(errors)) == ('; {"x": 1}', [CALLED], 1)


PARTS = {
    "glaive": [GLAIVE, "<functioncall>", "<functioncall> {", "'", '{"name"'],
    "hermes": [HERMES, "<tool_call>", "</tool_call>", '{"name": "add"', "<", '"\\'],
    "llama3_json": [LLAMA, "<|python_tag|>", ";", "{", '"name": "add"}', "\\'"],
}


@given(st.data())
def test_pieces_do_not_change_what_is_found(data: st.DataObject) -> None:
    parser = data.draw(st.sampled_from(FORMATS))
    part = st.sampled_from([*PARTS[parser], " ", "\n", "text", "}", '"'])
    text = "".join(data.draw(st.lists(part, max_size=12)))
    assert seen(parser, *cut(text, data)) == seen(parser, text)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def written(parser: str, arguments: dict[str, object]) -> str:
    as_json = json.dumps(arguments, ensure_ascii=False)
    if parser == "glaive":
        return f"""<functioncall> {{"name": "add", "arguments": '{as_json}'}}"""
    if parser == "hermes":
        return f'<tool_call>\n{{"name": "add", "arguments": {as_json}}}\n</tool_call>'
    return f'{{"name": "add", "parameters": {as_json}}}'


@given(st.data(), st.dictionaries(st.text(), json_values, max_size=3))
@example(None, {"q": "don't \\' \" </tool_call> <functioncall> {"})
def test_any_arguments_arrive_as_they_were(
    data: st.DataObject | None, arguments: dict[str, object]
) -> None:
    for parser in FORMATS:
        text = written(parser, arguments)
        pieces = cut(text, data) if data else [*text]
        assert seen(parser, *pieces) == ("", [("add", arguments)], [])


@given(st.data())
def test_without_a_call_not_a_character_is_lost(data: st.DataObject) -> None:
    parser = data.draw(st.sampled_from(FORMATS))
    part = st.sampled_from([*PARTS[parser][1:], " ", "text", "}"])
    text = "".join(data.draw(st.lists(part, max_size=12)))
    found, calls, _ = seen(parser, *cut(text, data))
    assert calls or found == text
