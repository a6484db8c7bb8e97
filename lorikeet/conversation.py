"""Conversations and tools as plain mappings, OpenAI's form, and as messages of the service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import ParseDict

from protos import inference_pb2 as pb

Messages = Sequence[Mapping[str, Any]]
"""A conversation: mappings with `role` (system, user, assistant, tool) and `content`, and where
tools are called `tool_calls` and `tool_call_id`. `Completion.message` is one."""

Tools = Sequence[Mapping[str, Any]]
"""What the model may call: `{"name", "description", "parameters"}`, the last a JSON schema, or the
same as OpenAI wraps it: `{"type": "function", "function": {…}}`."""


@dataclass(frozen=True)
class ToolCall:
    """A call that the model made."""

    id: str
    name: str
    arguments: str
    """JSON, an object."""

    @classmethod
    def from_message(cls, call: pb.ToolCall) -> "ToolCall":
        return cls(call.id, call.name, call.arguments)

    def as_mapping(self) -> dict[str, Any]:
        """As a message of the assistant has it."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


def message_of(message: Mapping[str, Any]) -> pb.ChatMessage:
    """ValueError for keys that the service has no field for."""
    _check_keys(message, {"role", "content", "tool_calls", "tool_call_id"})
    return pb.ChatMessage(
        role=message["role"],
        content=message.get("content") or "",
        tool_calls=[_call_of(call) for call in message.get("tool_calls") or ()],
        tool_call_id=message.get("tool_call_id") or "",
    )


def tool_of(tool: Mapping[str, Any]) -> pb.Tool:
    """ValueError for keys that the service has no field for."""
    if "function" in tool:
        _check_keys(tool, {"type", "function"})
        tool = tool["function"]
    _check_keys(tool, {"name", "description", "parameters"})
    message = pb.Tool(name=tool["name"], description=tool.get("description", ""))
    if "parameters" in tool:
        ParseDict(tool["parameters"], message.parameters)
    return message


def _call_of(call: Mapping[str, Any] | ToolCall) -> pb.ToolCall:
    if isinstance(call, ToolCall):
        return pb.ToolCall(id=call.id, name=call.name, arguments=call.arguments)
    _check_keys(call, {"id", "type", "function"})
    function = call["function"]
    _check_keys(function, {"name", "arguments"})
    return pb.ToolCall(
        id=call.get("id", ""), name=function["name"], arguments=function["arguments"]
    )


def _check_keys(mapping: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(mapping.keys() - known)
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not known here, only {', '.join(sorted(known))}")
