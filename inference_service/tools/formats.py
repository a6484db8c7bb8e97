"""The ways in which models write calls, by the name of their parser.

glaive       <functioncall> {"name": "add", "arguments": '{"a": 1}'}
hermes       <tool_call>
             {"name": "add", "arguments": {"a": 1}}
             </tool_call>
llama3_json  {"name": "add", "parameters": {"a": 1}}; {"name": …}
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from inference_service.tools.readers import (
    MalformedCallError,
    Reader,
    read_literal,
    read_object,
    read_solid,
)
from lorikeet.rpc.tool_call_parsers import TOOL_CALL_PARSERS


@dataclass(frozen=True)
class CallFormat:
    """How calls are found and read.

    `read` reads what follows `marker`, and returns the JSON of the call. `markup` are all literal
    texts around that JSON: a tokenizer may have them as special tokens. `is_bare`: a call also
    begins with the `{` of its object where the output begins, or after a call and a semicolon.
    """

    markup: tuple[str, ...]
    read: Callable[[], Reader[str]]
    argument_keys: tuple[str, ...] = ("arguments",)
    arguments_may_be_text: bool = False
    is_bare: bool = False

    @property
    def marker(self) -> str:
        return self.markup[0]


def _read_glaive() -> Reader[str]:
    yield from _opening_brace()
    return (yield from read_object(quotes_hold_objects=True))


def _read_hermes() -> Reader[str]:
    yield from _opening_brace()
    source = yield from read_object()
    if (yield from read_solid()) != "<":
        raise MalformedCallError("something else follows its JSON object")
    yield from read_literal("/tool_call>")
    return source


def _read_llama3() -> Reader[str]:
    yield from _opening_brace()
    return (yield from read_object())


def _opening_brace() -> Reader[None]:
    if (yield from read_solid()) != "{":
        raise MalformedCallError("it does not begin with a JSON object")


CALL_FORMATS: Final = {
    "glaive": CallFormat(("<functioncall>",), _read_glaive, arguments_may_be_text=True),
    "hermes": CallFormat(("<tool_call>", "</tool_call>"), _read_hermes),
    "llama3_json": CallFormat(
        ("<|python_tag|>",), _read_llama3, ("parameters", "arguments"), is_bare=True
    ),
}
assert set(CALL_FORMATS) == set(TOOL_CALL_PARSERS)
