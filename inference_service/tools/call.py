"""A call of a tool, and the checks that make one of JSON that a model wrote."""

import json
import math
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NoReturn

from inference_service.tools.formats import CallFormat
from inference_service.tools.readers import MalformedCallError


@dataclass(frozen=True)
class ToolCall:
    """A call that the model may make. `arguments` is the source of a JSON object."""

    id: str
    name: str
    arguments: str


def checked_call(source: str, call_format: CallFormat, tool_names: Collection[str]) -> ToolCall:
    """The call, with an id of its own; MalformedCallError when it is none of an offered tool."""
    fields = _parsed(source)
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        raise MalformedCallError("it has no name")
    if name not in tool_names:
        raise MalformedCallError("it names a tool that was not offered")
    arguments = _arguments(fields, call_format)
    return ToolCall(f"call_{uuid.uuid4().hex}", name, json.dumps(arguments, ensure_ascii=False))


def _arguments(fields: dict[str, Any], call_format: CallFormat) -> dict[str, Any]:
    given = [fields[key] for key in call_format.argument_keys if key in fields]
    if len(given) > 1:
        raise MalformedCallError(f"it has both {' and '.join(call_format.argument_keys)}")
    arguments = given[0] if given else {}
    if isinstance(arguments, str) and call_format.arguments_may_be_text:
        return _parsed(arguments)
    if not isinstance(arguments, dict):
        raise MalformedCallError("its arguments are not a JSON object")
    return arguments


def _parsed(source: str) -> dict[str, Any]:
    """An object in which every key comes once and that can be written again."""
    try:
        source.encode()
        value = json.loads(
            source,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_with_unique_keys,
        )
        json.dumps(value, ensure_ascii=False).encode()  # an escape may be half a character
    except MalformedCallError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedCallError("it is not valid JSON") from error
    if not isinstance(value, dict):
        raise MalformedCallError("its arguments are not a JSON object")
    return value


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise MalformedCallError("its JSON has a key twice")
    return fields


def _refuse_constant(constant: str) -> NoReturn:
    raise MalformedCallError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise MalformedCallError("it has a number that is too large")
    return value
