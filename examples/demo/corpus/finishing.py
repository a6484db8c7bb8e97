"""Documents of the finishing phase: signs and words that the main mixture leaves out.

A token that training never meets keeps an embedding that the model only learned to avoid. As the
embeddings are also the output layer, and adapters do not change them, an adapter could then make
such a token the likeliest one but never likely: greedy decoding works and sampling does not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from examples.demo.corpus.copying import KEYS, any_word
from examples.demo.tasks.schemas import TABLES, TEXT_VALUES, declare

_TAGS: Final = (*KEYS, "function", "functions", "call", "argument", "arguments", "b", "i", "p")
_SENTENCES: Final = (
    "A function takes arguments, and a functioncall gives them values.",
    "'function' is a word, and so are 'arguments' and 'functions'.",
    "Some friends share what they have equally, so that each child holds the same.",
    "Whoever wants to buy at the shop needs money. Everything is sold by the evening.",
    "Very old things are often kept in a box, and nobody can remember what they hold.",
    "I want to know more. Is there any other way? Can you change it for me?",
    "Look at the highest and the lowest shelf. Which is the largest, which the smallest?",
    "For every row there is a different number. Count them, add them up, give the total.",
    "Make some food in ten minutes, put it on the table, and tell everybody.",
)


def tagged(rng: random.Random) -> str:
    """Write words between tags, as markup does."""
    tags = rng.choices(_TAGS, k=rng.randint(3, 7))
    return "\n".join(f"<{tag}>{any_word(rng)}</{tag}>" for tag in tags)


def comparisons(rng: random.Random) -> str:
    """Compare numbers and say which way the sign points."""
    pairs = [(rng.randint(1, 99), rng.randint(1, 99)) for _ in range(rng.randint(4, 9))]
    signs = (f"{a} {'<' if a < b else '>' if a > b else '='} {b}" for a, b in pairs)
    return rng.choice((", ", "\n", "; ")).join(signs)


def sql_conditions(rng: random.Random) -> str:
    """Write annotated queries with the forms that the main mixture does not use."""
    schema = declare(rng.choice(TABLES), rng)
    lines = [schema.ddl + ";"]
    for _ in range(rng.randint(2, 4)):
        column, number = rng.choice(schema.text), rng.choice(schema.numbers)
        low, table, value = rng.randint(2, 900), schema.table, rng.choice(TEXT_VALUES[column])
        high = low + rng.randint(1, 90)
        lines += rng.choice(
            (
                (
                    f"-- {table}: {number} from {low} to {high}",
                    f"SELECT * FROM {table} WHERE {number} BETWEEN {low} AND {high};",
                ),
                (
                    f"-- {table}: how many unique {column}",
                    f"SELECT COUNT(DISTINCT {column}) FROM {table};",
                ),
                (
                    f"-- {table}: {column} is not {value}",
                    f"SELECT * FROM {table} WHERE {column} <> '{value}';",
                ),
            )
        )
    return "\n".join(lines)


def sentences(rng: random.Random) -> str:
    """Write some sentences of everyday words."""
    return " ".join(rng.sample(_SENTENCES, rng.randint(2, 5)))


WRITERS: Final[tuple[Callable[[random.Random], str], ...]] = (
    tagged, tagged, comparisons, sql_conditions, sql_conditions, sentences,
)  # fmt: skip
