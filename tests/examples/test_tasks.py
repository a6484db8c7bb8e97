"""The demo's tasks: held-out items stay out of training, and every expected answer is right."""

from __future__ import annotations

import json
import re
import sqlite3
from itertools import islice

import pytest

from examples.demo.prompts import BASE_PROMPT, PROMPTS, SHOWCASE
from examples.demo.tasks import TASKS, Draft, Split, drafts, held_out, text2sql, word_problems
from examples.demo.tasks.function_calling import CALL_MARKER
from examples.demo.tasks.functions import FUNCTIONS
from examples.demo.tasks.split import is_held_out_pair

SAMPLE = 6000
EVERY_TASK = pytest.mark.parametrize("task", list(TASKS))


def sample(task: str, split: Split, count: int) -> list[Draft]:
    return list(islice(drafts(TASKS[task], split, seed=7), count))


def conversation(draft: Draft) -> str:
    return json.dumps(draft.example.messages)


@EVERY_TASK
def test_training_never_sees_a_held_out_combination(task: str) -> None:
    train = sample(task, "train", SAMPLE)
    kept = sample(task, "held_out", 600)
    pair_known = [d for d in kept if not is_held_out_pair(d.template, d.entity)]
    seen_values = {(draft.template, draft.values) for draft in train}
    assert len(pair_known) >= 200
    assert not seen_values & {(draft.template, draft.values) for draft in pair_known}
    assert not {conversation(draft) for draft in train} & {conversation(draft) for draft in kept}
    assert not {conversation(draft) for draft in train} & {
        json.dumps(example.messages) for example in held_out(task)
    }


@EVERY_TASK
def test_whole_pairs_are_held_out(task: str) -> None:
    train_pairs = {(draft.template, draft.entity) for draft in sample(task, "train", SAMPLE)}
    kept = sample(task, "held_out", 600)
    unseen = [draft for draft in kept if is_held_out_pair(draft.template, draft.entity)]
    assert len(unseen) >= 200
    assert not train_pairs & {(draft.template, draft.entity) for draft in unseen}


@EVERY_TASK
def test_held_out_set_is_large_distinct_and_fixed(task: str) -> None:
    items = held_out(task)
    assert len(items) >= 200
    assert len({json.dumps(item.messages) for item in items}) == len(items)
    assert items == held_out(task)


def test_tasks_are_varied() -> None:
    assert len({question for question, _ in text2sql.TEMPLATES}) >= 25
    assert len({text for text, _ in word_problems.TEMPLATES}) >= 15
    assert len({function.name for function in FUNCTIONS}) >= 12
    for function in FUNCTIONS:
        assert 1 <= len(function.parameters) <= 3
        assert len(set(function.phrasings)) >= 3


def test_sql_answers_run_against_their_schema() -> None:
    for item in held_out("text2sql"):
        with sqlite3.connect(":memory:") as database:
            database.execute(item.messages[0]["content"])
            database.execute(item.answer)
        database.close()


def test_sql_answers_select_what_was_asked() -> None:
    """Run one statement on real rows, so that a template cannot be wrong and still parse."""
    question = "Show the {a} of the {k} {t} with the highest {n}."
    answer = dict(text2sql.TEMPLATES)[question].format(t="cars", a="colour", n="price", k=2)
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE cars (id INTEGER, colour TEXT, price INTEGER)")
    rows = [(1, "red", 5), (2, "blue", 9), (3, "green", 7)]
    database.executemany("INSERT INTO cars VALUES (?, ?, ?)", rows)
    assert database.execute(answer).fetchall() == [("blue",), ("green",)]
    database.close()


def test_function_calls_are_valid_glaive() -> None:
    for item in held_out("function-calling"):
        match = re.fullmatch(
            rf"{CALL_MARKER} {{\"name\": \"(\w+)\", \"arguments\": '(.*)'}}", item.answer
        )
        assert match is not None, item.answer
        arguments = json.loads(match[2])
        offered = {entry["name"]: entry for entry in json.loads(item.messages[0]["content"])}
        kinds = offered[match[1]]["parameters"]
        assert list(arguments) == list(kinds)
        for name, value in arguments.items():
            assert isinstance(value, int if kinds[name] == "integer" else str)
            assert str(value) in item.messages[1]["content"]


def test_math_answers_are_right() -> None:
    signs = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    for item in held_out("math"):
        *steps, last = item.answer.split("\n")
        result = None
        for step in steps:
            left, sign, right, result = step.replace("= ", "").split(" ")
            if sign == "/":
                assert int(result) * int(right) == int(left)
            else:
                assert signs[sign](int(left), int(right)) == int(result)
        assert last == f"Answer: {result}"
        assert set(re.findall(r"\d+", item.messages[0]["content"])) <= set(
            re.findall(r"\d+", item.answer)
        )


def test_showcase_prompts_are_held_out() -> None:
    assert set(SHOWCASE) == set(PROMPTS) == set(TASKS)
    for name, conversations in PROMPTS.items():
        kept = [list(item.messages) for item in held_out(name)]
        assert SHOWCASE[name] == conversations[0]
        assert len(conversations) >= 2
        assert all(messages in kept for messages in conversations)
    assert [message["role"] for message in BASE_PROMPT] == ["user"]
