"""Readers of what calls are written in: generators that are sent one character at a time.

A reader returns with the last character of what it reads, so it does not matter in which pieces a
text comes. It is strict: MalformedCallError at the first character that cannot belong there.
"""

import json
from collections.abc import Generator
from typing import Final, TypeVar

_T = TypeVar("_T")
Reader = Generator[None, str, _T]

_CLOSING: Final = {"{": "}", "[": "]"}
SPACE: Final = " \t\r\n"
# What JSON has outside of strings and brackets: punctuation, numbers, true, false, null.
_PLAIN: Final = frozenset(SPACE + ":,+-.0123456789eE" + "truefalsenull")
_MAX_DEPTH: Final = 64  # json.loads recurses


class MalformedCallError(ValueError):
    """What began as a call is none; the message says why."""


def read_object(*, quotes_hold_objects: bool = False) -> Reader[str]:
    """The source of a JSON object whose `{` has come.

    With `quotes_hold_objects`, single quotes may stand around an object inside it: in the source
    that is returned, they are a JSON string with that object's source.
    """
    return (yield from _object(quotes_hold_objects=quotes_hold_objects, is_quoted=False))


def read_solid() -> Reader[str]:
    """The next character that is no space."""
    while (character := (yield)) in SPACE:
        pass
    return character


def read_literal(text: str) -> Reader[None]:
    """Exactly `text`."""
    for expected in text:
        if (yield) != expected:
            raise MalformedCallError(f"{text!r} was expected")


def _object(*, quotes_hold_objects: bool, is_quoted: bool) -> Reader[str]:
    parts, closing = ["{"], ["}"]
    while closing:
        character = yield
        parts.append(character)
        if character == '"':
            parts.append((yield from _rest_of_string(is_quoted=is_quoted)))
        elif character == "'" and quotes_hold_objects:
            parts[-1] = json.dumps((yield from _quoted_object()), ensure_ascii=False)
        elif character in _CLOSING:
            closing.append(_CLOSING[character])
            if len(closing) > _MAX_DEPTH:
                raise MalformedCallError(f"its JSON is more than {_MAX_DEPTH} levels deep")
        elif character == closing[-1]:
            closing.pop()
        elif character not in _PLAIN:
            raise MalformedCallError(f"{character!r} is out of place in its JSON")
    return "".join(parts)


def _rest_of_string(*, is_quoted: bool) -> Reader[str]:
    """A JSON string whose first quote has come. In single quotes, an apostrophe may be escaped."""
    parts: list[str] = []
    while True:
        character = yield
        if character < " ":
            raise MalformedCallError("its JSON has a line break or control character in a string")
        parts.append(character)
        if character == '"':
            return "".join(parts)
        if character == "\\":
            escaped = yield
            if escaped == "'" and is_quoted:
                parts.pop()
            parts.append(escaped)


def _quoted_object() -> Reader[str]:
    """`{…}'`, an object's source and the end of the single quotes that have begun."""
    if (yield from read_solid()) != "{":
        raise MalformedCallError("its single quotes do not hold a JSON object")
    source = yield from _object(quotes_hold_objects=False, is_quoted=True)
    if (yield from read_solid()) != "'":
        raise MalformedCallError("the object in single quotes is not all that is in them")
    return source
