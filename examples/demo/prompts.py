"""Prompts to show the demo with. Those for an adapter come from its held-out set."""

from __future__ import annotations

from typing import Final

from examples.demo.chat_format import Message
from examples.demo.tasks import held_out

_PICKED: Final = {
    "text2sql": (12, 7, 14),
    "math": (6, 2, 5),
    "function-calling": (2, 17, 19),
}

# Every conversation per adapter.
PROMPTS: Final[dict[str, list[list[Message]]]] = {
    name: [list(held_out(name)[index].messages) for index in picked]
    for name, picked in _PICKED.items()
}

# One conversation per adapter.
SHOWCASE: Final[dict[str, list[Message]]] = {name: PROMPTS[name][0] for name in PROMPTS}

# For the base model without an adapter.
BASE_PROMPT: Final[list[Message]] = [
    {"role": "user", "content": "Tell me a story about a green bird."}
]
