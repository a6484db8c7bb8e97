"""The tools of a Chat request: checked, as chat templates get them, and as the output is read."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from inference_service.tools.call_finder import ToolCallFinder
from inference_service.tools.formats import CALL_FORMATS, CallFormat
from lorikeet.rpc.errors import FailedPreconditionError, FieldViolation, InvalidArgumentError
from protos import inference_pb2

_CHOICES: Final = ("", "auto", "none")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_TOOLS: Final = 128
_MAX_BYTES: Final = 256 * 1024
# As schemas are mostly written: a Struct has no order, and prompts need one that stays.
_FIRST_KEYS: Final = ("type", "title", "description", "properties", "required", "items", "enum")

Definition = dict[str, Any]
Violations = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class OfferedTools:
    """What the model may call. `definitions` are as transformers gives them to templates."""

    definitions: Sequence[Definition]
    call_format: CallFormat

    @property
    def markup(self) -> tuple[str, ...]:
        """Texts around calls, which the finder must see even where they are special tokens."""
        return self.call_format.markup

    def finder(self) -> ToolCallFinder:
        names = frozenset(definition["function"]["name"] for definition in self.definitions)
        return ToolCallFinder(self.call_format, names)


def offered_tools(request: inference_pb2.ChatRequest, parser: str) -> OfferedTools | None:
    """None when the model may call none. `parser` is the name of the one that finds calls.

    INVALID_ARGUMENT names the tool that is wrong; FAILED_PRECONDITION without a parser.
    """
    if request.tool_choice not in _CHOICES:
        description = (
            "auto and none are supported: nothing here can make a model call a tool, or a certain"
            " one"
        )
        raise _invalid([("tool_choice", description)])
    if violations := [*_size_violations(request.tools)]:
        raise _invalid(violations)
    definitions = [_definition(tool) for tool in request.tools]
    if violations := [*_tool_violations(definitions)]:
        raise _invalid(violations)
    if not definitions or request.tool_choice == "none":
        return None
    return OfferedTools(definitions, _call_format(parser))


def _call_format(parser: str) -> CallFormat:
    if not parser:
        raise FailedPreconditionError(
            "tools need a parser that finds calls in the output: the adapter's profile names none"
            " (tool_call_parser), nor does this server (--tool-call-parser)",
            reason="NO_TOOL_CALL_PARSER",
        )
    if parser not in CALL_FORMATS:
        raise FailedPreconditionError(
            f"the adapter's tool_call_parser {parser!r} is none of {', '.join(CALL_FORMATS)}",
            reason="PROFILE_INVALID",
        )
    return CALL_FORMATS[parser]


def _definition(tool: inference_pb2.Tool) -> Definition:
    parameters = MessageToDict(tool.parameters) or {"type": "object", "properties": {}}
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": _as_written(parameters),
    }
    return {"type": "function", "function": function}


def _as_written(value: Any) -> Any:
    """With the order and the integers that a Struct does not keep."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_as_written(item) for item in value]
    if not isinstance(value, dict):
        return value
    keys = [key for key in _FIRST_KEYS if key in value]
    keys += sorted(key for key in value if key not in _FIRST_KEYS)
    return {key: _as_written(value[key]) for key in keys}


def _size_violations(tools: Sequence[inference_pb2.Tool]) -> Violations:
    """Before anything is made of them: that takes time, which is not theirs alone."""
    if len(tools) > _MAX_TOOLS:
        yield "tools", f"at most {_MAX_TOOLS} tools, got {len(tools)}"
    num_bytes = sum(tool.ByteSize() for tool in tools)
    if num_bytes > _MAX_BYTES:
        yield "tools", f"at most {_MAX_BYTES} bytes of them, got {num_bytes}"


def _tool_violations(definitions: Sequence[Definition]) -> Violations:
    names: set[str] = set()
    for index, definition in enumerate(definitions):
        name, parameters = (definition["function"][key] for key in ("name", "parameters"))
        if not _NAME.fullmatch(name):
            yield f"tools[{index}].name", "1 to 64 letters, digits, underscores and hyphens"
        elif name in names:
            yield f"tools[{index}].name", "another tool has this name"
        names.add(name)
        problem = _schema_problem(parameters)
        if problem:
            yield f"tools[{index}].parameters", problem


def _schema_problem(schema: dict[str, Any]) -> str | None:
    """Of what every JSON schema of arguments has; the rest is between the caller and the model."""
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if schema.get("type") != "object":
        return 'must be a JSON schema of "type": "object"'
    if not isinstance(properties, dict) or not all(
        isinstance(each, dict) for each in properties.values()
    ):
        return "properties must be a JSON schema for each argument"
    if not isinstance(required, list) or not all(isinstance(each, str) for each in required):
        return "required must be a list of names"
    return None


def _invalid(violations: Sequence[tuple[str, str]]) -> InvalidArgumentError:
    return InvalidArgumentError(
        "; ".join(f"{field}: {description}" for field, description in violations[:5]),
        reason="INVALID_TOOLS",
        violations=[FieldViolation(*violation) for violation in violations[:50]],
    )
