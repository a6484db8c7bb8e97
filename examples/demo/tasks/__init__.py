"""The three tasks that the demo's adapters learn, each with a training and a held-out split."""

from __future__ import annotations

from typing import Final

from examples.demo.tasks.example import Draft, Draw, Example
from examples.demo.tasks.function_calling import draw_function_call
from examples.demo.tasks.split import Split, drafts, examples
from examples.demo.tasks.text2sql import draw_sql_question
from examples.demo.tasks.word_problems import draw_word_problem

HELD_OUT_SIZE: Final = 240

TASKS: Final[dict[str, Draw]] = {
    "text2sql": draw_sql_question,
    "math": draw_word_problem,
    "function-calling": draw_function_call,
}


def held_out(task: str) -> list[Example]:
    """The fixed evaluation set of a task: the same items in the same order, every time."""
    return examples(TASKS[task], "held_out", HELD_OUT_SIZE, seed=1)


__all__ = [
    "HELD_OUT_SIZE",
    "TASKS",
    "Draft",
    "Draw",
    "Example",
    "Split",
    "drafts",
    "examples",
    "held_out",
]
