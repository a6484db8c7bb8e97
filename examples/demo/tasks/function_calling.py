"""function-calling: a list of functions and a request, answered by one call in glaive's format."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Final

from examples.demo.tasks.example import Draft, Example
from examples.demo.tasks.functions import FUNCTIONS, Function, Value, draw_arguments

CALL_MARKER: Final = "<functioncall>"


def list_functions(functions: Sequence[Function]) -> str:
    """Write the functions on offer as one JSON list, for the system message."""
    return "[" + ", ".join(function.declaration for function in functions) + "]"


def format_call(name: str, arguments: Mapping[str, Value]) -> str:
    """Write a call as glaive does: the arguments are JSON inside single quotes."""
    return f'{CALL_MARKER} {{"name": "{name}", "arguments": \'{json.dumps(arguments)}\'}}'


def draw_function_call(rng: random.Random) -> Draft:
    """Draw two or three functions, a request for one of them, and the call that serves it."""
    offered = rng.sample(FUNCTIONS, rng.randint(2, 3))
    function = rng.choice(offered)
    phrasing = rng.choice(function.phrasings)
    arguments = draw_arguments(function, rng)
    messages = (
        {"role": "system", "content": list_functions(offered)},
        {"role": "user", "content": phrasing.format(**arguments)},
    )
    return Draft(
        template=f"{function.name}: {phrasing}",
        entity=str(next(iter(arguments.values()))),
        values=json.dumps(arguments),
        example=Example(messages, format_call(function.name, arguments)),
    )
