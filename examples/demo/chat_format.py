"""The chat format: its markers, its Jinja template, and the same rendering in plain Python.

Servers render conversations with the template that lies beside the tokenizer. Training renders
millions of them, for which the Python function is much faster; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

Message = dict[str, str]

BEGIN: Final = "<|begin|>"
END: Final = "<|end|>"
PAD: Final = "<|pad|>"
ROLES: Final = ("system", "user", "assistant")
SPECIAL_TOKENS: Final = (PAD, BEGIN, END, *(f"<|{role}|>" for role in ROLES))

CHAT_TEMPLATE: Final = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role: ' + message['role']) }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def render_chat(messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
    """Render a conversation as the chat template does."""
    turns = [f"<|{message['role']}|>{message['content'].strip()}{END}" for message in messages]
    return BEGIN + "".join(turns) + ("<|assistant|>" if add_generation_prompt else "")


def render_text(text: str) -> str:
    """Render a plain document: the same two markers around it, and no roles."""
    return f"{BEGIN}{text}{END}"
