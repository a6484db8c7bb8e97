"""Exact-match scoring of any service that answers conversations, and the bars it must meet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from examples.demo.chat_format import Message
from examples.demo.tasks import TASKS, Example, held_out

# Answers a conversation with the named adapter; the empty name is the base model.
Ask = Callable[[Sequence[Message], str], Awaitable[str]]

BASE: Final = ""
ROWS: Final = (BASE, *TASKS)
OWN_SET_BAR: Final = 0.90
BASE_BAR: Final = 0.20
IN_FLIGHT: Final = 16


@dataclass
class Score:
    """How many of a set's answers were exactly right."""

    correct: int = 0
    total: int = 0

    @property
    def share(self) -> float:
        """The share of exact matches."""
        return self.correct / self.total if self.total else 0.0


# (adapter, task) -> score
Scores = dict[tuple[str, str], Score]
Job = tuple[str, str, Example]


def jobs(limit: int | None) -> list[Job]:
    """List every question to ask.

    Neighbours differ in adapter, so that the requests in flight together mix all of them: the
    service is measured on the batches it was made for.
    """
    sets = {task: held_out(task)[:limit] for task in TASKS}
    longest = max(len(items) for items in sets.values())
    return [
        (adapter, task, items[index])
        for index in range(longest)
        for task, items in sets.items()
        for adapter in ROWS
        if index < len(items)
    ]


async def measure(ask: Ask, todo: Sequence[Job], on_answer: Callable[[], None]) -> Scores:
    """Ask every question, several at a time, and count the exact matches."""
    scores: Scores = {(adapter, task): Score() for adapter, task, _ in todo}
    pending: Iterator[Job] = iter(todo)

    async def work() -> None:
        for adapter, task, example in pending:
            text = await ask(example.messages, adapter)
            score = scores[adapter, task]
            score.total += 1
            score.correct += text == example.answer
            on_answer()

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(work())
    return scores


def missed_bars(scores: Mapping[tuple[str, str], Score]) -> list[str]:
    """Say which bars were missed: each adapter on its own set, the base on every set."""
    missed = []
    for task in TASKS:
        own, plain = scores[task, task].share, scores[BASE, task].share
        if own < OWN_SET_BAR:
            missed.append(f"{task} on its own set: {own:.1%}, at least {OWN_SET_BAR:.0%} needed")
        if plain > BASE_BAR:
            missed.append(f"base on {task}: {plain:.1%}, at most {BASE_BAR:.0%} allowed")
    return missed
