"""Structured documents: schemas with annotated queries, JSON records and function references."""

from __future__ import annotations

import json
import random

from examples.demo import words
from examples.demo.corpus.copying import KEYS, any_word
from examples.demo.tasks.functions import FUNCTIONS, draw_arguments
from examples.demo.tasks.schemas import TABLES, TEXT_VALUES, Schema, declare


def _condition(schema: Schema, rng: random.Random) -> tuple[str, str]:
    """Draw a WHERE condition as (words, SQL)."""
    if rng.random() < 0.5:
        column = rng.choice(schema.text)
        value = rng.choice(TEXT_VALUES[column])
        return f"{column} is {value}", f"{column} = '{value}'"
    column, limit = rng.choice(schema.numbers), rng.randint(2, 999)
    text, sign = rng.choice((("over", ">"), ("under", "<"), ("equal to", "=")))
    return f"{column} {text} {limit}", f"{column} {sign} {limit}"


def _selection(schema: Schema, rng: random.Random) -> tuple[str, str]:
    """Draw what a query selects as (words, SQL)."""
    number = rng.choice(schema.numbers)
    column = rng.choice(schema.columns)
    return rng.choice(
        (
            ("all columns", "*"),
            ("row count", "COUNT(*)"),
            (f"mean {number}", f"AVG({number})"),
            (f"largest {number}", f"MAX({number})"),
            (f"smallest {number}", f"MIN({number})"),
            (f"sum of {number}", f"SUM({number})"),
            (column, column),
            (column, column),
            (f"unique {column}", f"DISTINCT {column}"),
        )
    )


def _suffix(schema: Schema, rng: random.Random) -> tuple[str, str]:
    """Draw what follows FROM as (words, SQL), nothing included."""
    kind = rng.randrange(4)
    if kind == 0:
        return "", ""
    if kind == 1:
        number, many = rng.choice(schema.numbers), rng.randint(1, 9)
        text, order = rng.choice((("descending", "DESC"), ("ascending", "ASC")))
        return (
            f", by {number} {text}, first {many}",
            f" ORDER BY {number} {order} LIMIT {many}",
        )
    first = _condition(schema, rng)
    if kind == 2:
        return f", {first[0]}", f" WHERE {first[1]}"
    second = _condition(schema, rng)
    joint = rng.choice(("and", "or"))
    return (
        f", {first[0]} {joint} {second[0]}",
        f" WHERE {first[1]} {joint.upper()} {second[1]}",
    )


def _annotated_query(schema: Schema, rng: random.Random) -> str:
    if rng.random() < 0.2:
        key, number = rng.choice(schema.text), rng.choice(schema.numbers)
        text, call = rng.choice((("rows", "COUNT(*)"), (f"mean {number}", f"AVG({number})")))
        return (
            f"-- {schema.table}: {text} by {key}\n"
            f"SELECT {key}, {call} FROM {schema.table} GROUP BY {key};"
        )
    what, selected = _selection(schema, rng)
    how, suffix = _suffix(schema, rng)
    return f"-- {schema.table}: {what}{how}\nSELECT {selected} FROM {schema.table}{suffix};"


def sql_file(rng: random.Random) -> str:
    """Write a SQL file: a table, then queries with a terse comment above each."""
    schema = declare(rng.choice(TABLES), rng)
    queries = [_annotated_query(schema, rng) for _ in range(rng.randint(2, 5))]
    return "\n".join([schema.ddl + ";", *queries])


def json_record(rng: random.Random) -> str:
    """Write a record as prose and then as JSON."""
    keys = rng.sample(KEYS, rng.randint(2, 5))
    values = {key: _typed(any_word(rng)) for key in keys}
    style = rng.choice(("the {} is {}", "{} {}", "{} is {}", "{}: {}"))
    prose = ", ".join(style.format(key, value) for key, value in values.items())
    return f"{prose}\n{json.dumps(values)}"


def _typed(word: str) -> str | int:
    return int(word) if word.isdigit() else word


def function_reference(rng: random.Random) -> str:
    """Write the reference of some functions, then examples of their arguments."""
    functions = rng.sample(FUNCTIONS, rng.randint(1, 3))
    lines = [function.declaration for function in functions]
    for function in rng.choices(functions, k=rng.randint(1, 3)):
        arguments = draw_arguments(function, rng)
        mentions = [f"{key} {value}" for key, value in arguments.items()]
        rng.shuffle(mentions)
        lines.append(f"Example of {function.name} with {' and '.join(mentions)}:")
        lines.append(json.dumps(arguments))
    return "\n".join(lines)


def table_of_rows(rng: random.Random) -> str:
    """Write rows of a table as text and read some of them out."""
    names = rng.sample(words.PEOPLE, 4)
    rows = {name: (rng.choice(words.CITIES), rng.randint(5, 99)) for name in names}
    lines = [
        "name | city | age",
        *(f"{name} | {city} | {age}" for name, (city, age) in rows.items()),
    ]
    rng.shuffle(names)
    for name in names[:3]:
        city, age = rows[name]
        lines.append(f"{name} lives in {city} and is {age} years old.")
    return "\n".join(lines)
