"""The demo's scoring: what counts as right, and which results miss a bar."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from examples.demo.chat_format import Message
from examples.demo.scoring import IN_FLIGHT, ROWS, Score, Scores, jobs, measure, missed_bars
from examples.demo.tasks import HELD_OUT_SIZE, TASKS, held_out

ANSWERS = {json.dumps(item.messages): item.answer for task in TASKS for item in held_out(task)}


def good_scores() -> Scores:
    return {
        (adapter, task): Score(correct=95 if adapter == task else 0, total=100)
        for adapter in ROWS
        for task in TASKS
    }


def test_jobs_cover_every_adapter_on_every_set() -> None:
    todo = jobs(limit=None)
    assert len(todo) == len(ROWS) * len(TASKS) * HELD_OUT_SIZE
    assert {adapter for adapter, _, _ in todo[:IN_FLIGHT]} == set(ROWS)
    assert len(jobs(limit=2)) == len(ROWS) * len(TASKS) * 2


async def test_measure_counts_exact_matches_only() -> None:
    answered = 0

    def count() -> None:
        nonlocal answered
        answered += 1

    async def ask(messages: Sequence[Message], adapter: str) -> str:
        right = ANSWERS[json.dumps(messages)]
        return right if adapter else right + " "

    todo = jobs(limit=5)
    scores = await measure(ask, todo, count)
    assert answered == len(todo)
    assert all(score.total == 5 for score in scores.values())
    assert all(score.correct == (5 if adapter else 0) for (adapter, _), score in scores.items())
    assert missed_bars(scores) == []


async def test_measure_fails_when_an_answer_fails() -> None:
    async def ask(messages: Sequence[Message], adapter: str) -> str:
        raise ConnectionError("gone")

    with pytest.raises(ExceptionGroup):
        await measure(ask, jobs(limit=1), lambda: None)


def test_bars() -> None:
    assert missed_bars(good_scores()) == []
    weak = good_scores()
    weak["math", "math"] = Score(89, 100)
    weak["", "text2sql"] = Score(21, 100)
    assert missed_bars(weak) == [
        "base on text2sql: 21.0%, at most 20% allowed",
        "math on its own set: 89.0%, at least 90% needed",
    ]


def test_bars_themselves_pass() -> None:
    edge = good_scores()
    edge["math", "math"] = Score(90, 100)
    edge["", "math"] = Score(20, 100)
    assert missed_bars(edge) == []
