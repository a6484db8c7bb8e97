"""Conversations to prompts."""

import json
from collections.abc import Sequence
from typing import Any, Final

from inference_service.isolated_renderer import IsolatedRenderer
from inference_service.model_files import ModelFiles
from inference_service.template_rendering import TemplateRefusedError, render_template
from inference_service.tools.offered import OfferedTools
from lorikeet.rpc.errors import FailedPreconditionError, FieldViolation, InvalidArgumentError
from protos import inference_pb2

_ROLES: Final = ("system", "user", "assistant", "tool")
_MAX_MESSAGES: Final = 4096


class ChatRenderer:
    """Renders with the adapter's template if it has one, else with the base model's."""

    def __init__(self, model_files: ModelFiles) -> None:
        self._base_template = model_files.chat_template
        self._base_tool_template = model_files.tool_chat_template
        self._special_tokens = dict(model_files.tokenizer.special_tokens)
        self._isolated = IsolatedRenderer()

    async def render(
        self,
        messages: Sequence[inference_pb2.ChatMessage],
        adapter_template: str,
        tools: OfferedTools | None = None,
    ) -> str:
        """The prompt text, special tokens included.

        INVALID_ARGUMENT when the messages are wrong or the template refuses them;
        FAILED_PRECONDITION when there is no template.
        """
        conversation = conversation_of(messages)
        definitions = tools.definitions if tools else ()
        try:
            if adapter_template:
                return await self._isolated.render(
                    adapter_template, conversation, self._special_tokens, definitions
                )
            base_template = self._base_tool_template if tools else self._base_template
            if not base_template:
                raise FailedPreconditionError(
                    "neither the adapter nor the base model has a chat template: use Generate",
                    reason="NO_CHAT_TEMPLATE",
                )
            return render_template(base_template, conversation, self._special_tokens, definitions)
        except TemplateRefusedError as error:
            raise InvalidArgumentError(
                str(error),
                reason="CHAT_TEMPLATE_REFUSED",
                violations=[FieldViolation(error.field, str(error))],
            ) from error

    async def close(self) -> None:
        await self._isolated.close()


def conversation_of(messages: Sequence[inference_pb2.ChatMessage]) -> list[dict[str, Any]]:
    """Messages as chat templates expect them; INVALID_ARGUMENT names the field that is wrong."""
    if not messages:
        raise _invalid("messages", "at least one message is needed")
    if len(messages) > _MAX_MESSAGES:
        raise _invalid("messages", f"at most {_MAX_MESSAGES} messages")
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _message(message: inference_pb2.ChatMessage, field: str) -> dict[str, Any]:
    if message.role not in _ROLES:
        raise _invalid(f"{field}.role", f"use one of {', '.join(_ROLES)}")
    if message.tool_calls and message.role != "assistant":
        raise _invalid(f"{field}.tool_calls", "only the assistant calls tools")
    converted: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        converted["tool_calls"] = [
            _tool_call(call, f"{field}.tool_calls[{index}]")
            for index, call in enumerate(message.tool_calls)
        ]
    if message.tool_call_id:
        converted["tool_call_id"] = message.tool_call_id
    return converted


def _tool_call(call: inference_pb2.ToolCall, field: str) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError as error:
        raise _invalid(f"{field}.arguments", "not JSON") from error
    if not isinstance(arguments, dict):
        raise _invalid(f"{field}.arguments", "not a JSON object")
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _invalid(field: str, description: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{field}: {description}",
        reason="INVALID_MESSAGE",
        violations=[FieldViolation(field, description)],
    )
