"""text2sql: a table's declaration and a question about it, answered by one SQL statement."""

from __future__ import annotations

import random
from typing import Final

from examples.demo.tasks.example import Draft, Example
from examples.demo.tasks.schemas import TABLES, TEXT_VALUES, Schema, declare

# Placeholders: {t} table; {a}, {b} text columns with values {v}, {w}; {n} number column with
# limits {x} < {y}; {k} a small count.
TEMPLATES: Final = (
    ("How many {t} are there?", "SELECT COUNT(*) FROM {t};"),
    ("Count all {t}.", "SELECT COUNT(*) FROM {t};"),
    ("How many {t} have {a} {v}?", "SELECT COUNT(*) FROM {t} WHERE {a} = '{v}';"),
    ("What is the number of {t} whose {a} is {v}?", "SELECT COUNT(*) FROM {t} WHERE {a} = '{v}';"),
    ("How many {t} have a {n} above {x}?", "SELECT COUNT(*) FROM {t} WHERE {n} > {x};"),
    ("How many {t} have a {n} below {x}?", "SELECT COUNT(*) FROM {t} WHERE {n} < {x};"),
    ("List the {a} of all {t}.", "SELECT {a} FROM {t};"),
    ("Show the {a} and {n} of every row in {t}.", "SELECT {a}, {n} FROM {t};"),
    ("Show all {t} where the {a} is {v}.", "SELECT * FROM {t} WHERE {a} = '{v}';"),
    ("Which {t} have {a} {v}? Give the {b}.", "SELECT {b} FROM {t} WHERE {a} = '{v}';"),
    ("What is the {n} of the {t} with {a} {v}?", "SELECT {n} FROM {t} WHERE {a} = '{v}';"),
    ("Find the {a} of {t} whose {n} is more than {x}.", "SELECT {a} FROM {t} WHERE {n} > {x};"),
    ("Find the {a} of {t} whose {n} is less than {x}.", "SELECT {a} FROM {t} WHERE {n} < {x};"),
    ("Which {t} have a {n} of exactly {x}?", "SELECT * FROM {t} WHERE {n} = {x};"),
    ("List the {t} that do not have {a} {v}.", "SELECT * FROM {t} WHERE {a} <> '{v}';"),
    ("What is the average {n} of all {t}?", "SELECT AVG({n}) FROM {t};"),
    (
        "What is the average {n} of {t} with {a} {v}?",
        "SELECT AVG({n}) FROM {t} WHERE {a} = '{v}';",
    ),
    ("What is the highest {n} in {t}?", "SELECT MAX({n}) FROM {t};"),
    ("What is the lowest {n} in {t}?", "SELECT MIN({n}) FROM {t};"),
    (
        "What is the highest {n} among {t} where {a} is {v}?",
        "SELECT MAX({n}) FROM {t} WHERE {a} = '{v}';",
    ),
    ("What is the total {n} of all {t}?", "SELECT SUM({n}) FROM {t};"),
    ("Add up the {n} of the {t} with {a} {v}.", "SELECT SUM({n}) FROM {t} WHERE {a} = '{v}';"),
    ("Which different {a} values occur in {t}?", "SELECT DISTINCT {a} FROM {t};"),
    ("How many different {a} values are in {t}?", "SELECT COUNT(DISTINCT {a}) FROM {t};"),
    ("Sort the {t} by {n}, largest first.", "SELECT * FROM {t} ORDER BY {n} DESC;"),
    ("Sort the {t} by {n}, smallest first.", "SELECT * FROM {t} ORDER BY {n} ASC;"),
    (
        "Show the {a} of the {k} {t} with the highest {n}.",
        "SELECT {a} FROM {t} ORDER BY {n} DESC LIMIT {k};",
    ),
    (
        "Show the {a} of the {k} {t} with the lowest {n}.",
        "SELECT {a} FROM {t} ORDER BY {n} ASC LIMIT {k};",
    ),
    (
        "Which single row of {t} has the largest {n}?",
        "SELECT * FROM {t} ORDER BY {n} DESC LIMIT 1;",
    ),
    ("Count the {t} for each {a}.", "SELECT {a}, COUNT(*) FROM {t} GROUP BY {a};"),
    ("What is the average {n} per {a} in {t}?", "SELECT {a}, AVG({n}) FROM {t} GROUP BY {a};"),
    ("Give the total {n} of {t} by {a}.", "SELECT {a}, SUM({n}) FROM {t} GROUP BY {a};"),
    (
        "For every {a}, what is the highest {n} in {t}?",
        "SELECT {a}, MAX({n}) FROM {t} GROUP BY {a};",
    ),
    (
        "Find {t} with {a} {v} and {n} over {x}.",
        "SELECT * FROM {t} WHERE {a} = '{v}' AND {n} > {x};",
    ),
    (
        "Find {t} with {a} {v} or {b} {w}.",
        "SELECT * FROM {t} WHERE {a} = '{v}' OR {b} = '{w}';",
    ),
    (
        "Which {t} have a {n} between {x} and {y}?",
        "SELECT * FROM {t} WHERE {n} BETWEEN {x} AND {y};",
    ),
)


def _fill_ins(schema: Schema, rng: random.Random) -> dict[str, str | int]:
    a, b = rng.sample(schema.text, 2)
    x = rng.randint(2, 900)
    return {
        "t": schema.table,
        "a": a,
        "b": b,
        "v": rng.choice(TEXT_VALUES[a]),
        "w": rng.choice(TEXT_VALUES[b]),
        "n": rng.choice(schema.numbers),
        "x": x,
        "y": x + rng.randint(1, 90),
        "k": rng.randint(2, 9),
    }


def draw_sql_question(rng: random.Random) -> Draft:
    """Draw a table, a declaration of it, and a question with its statement."""
    schema = declare(rng.choice(TABLES), rng)
    question, statement = rng.choice(TEMPLATES)
    fill_ins = _fill_ins(schema, rng)
    asked = question.format(**fill_ins)
    messages = (
        {"role": "system", "content": schema.ddl},
        {"role": "user", "content": asked},
    )
    example = Example(messages, statement.format(**fill_ins))
    return Draft(template=question, entity=schema.table, values=asked, example=example)
