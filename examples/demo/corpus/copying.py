"""Documents that can only be predicted by copying: they teach a small model to look things up."""

from __future__ import annotations

import random
from typing import Final

from examples.demo import words

_ONSETS: Final = (
    "b", "c", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z",
    "br", "cl", "dr", "fl", "gr", "pl", "st", "tr", "sh",
)  # fmt: skip
_VOWELS: Final = ("a", "e", "i", "o", "u", "ai", "ea", "oo")
_CODAS: Final = ("", "", "n", "r", "s", "t", "l", "m", "nd", "ck")

WORD_LISTS: Final = (
    words.PEOPLE, words.CITIES, words.COUNTRIES, words.COLOURS, words.OBJECTS, words.ANIMALS,
    words.PLACES, words.FOODS, words.GENRES, words.LANGUAGES, words.STATUSES, words.MATERIALS,
    words.TEAMS, words.DEPARTMENTS, words.DAYS, words.CURRENCIES, words.COMPANIES,
    words.CONTAINERS, words.FEELINGS,
)  # fmt: skip
KEYS: Final = (
    "name", "city", "country", "colour", "status", "genre", "language", "material", "team",
    "department", "owner", "author", "company", "day", "price", "age", "salary", "score",
    "weight", "height", "year", "stock", "rating", "length", "size", "speed", "pages", "seats",
    "points", "cost", "to", "subject", "amount", "source", "target", "guests", "hour", "word",
    "item", "quantity", "origin", "destination", "level", "food", "minutes",
)  # fmt: skip


def invented_word(rng: random.Random) -> str:
    """Make up a word, so that copying cannot be replaced by knowing."""
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
        for _ in range(rng.randint(1, 3))
    )


def any_word(rng: random.Random) -> str:
    """Draw a word: known, invented or a number."""
    kind = rng.random()
    if kind < 0.15:
        return invented_word(rng)
    if kind < 0.35:
        return str(rng.randint(1, 10 ** rng.randint(1, 4)))
    return rng.choice(rng.choice(WORD_LISTS))


def repeated_list(rng: random.Random) -> str:
    """Write a list of words, then the same list again, at times in other punctuation."""
    items = [any_word(rng) for _ in range(rng.randint(3, 9))]
    separator, again = rng.choice((", ", " ", "\n", " - ")), rng.choice((", ", " ", "\n"))
    quoted = rng.random() < 0.4
    first = separator.join(items)
    second = again.join(f'"{item}"' if quoted else item for item in items)
    return f"{first}\n{rng.choice(('Again', 'Copy', 'Once more', 'The same'))}:\n{second}"


def lookup(rng: random.Random) -> str:
    """Write key-value lines, then ask for some of the values back."""
    keys = rng.sample(KEYS, rng.randint(3, 6))
    values = {key: any_word(rng) for key in keys}
    style = rng.choice(("{}: {}", "{} = {}", "the {} is {}", "{} {}"))
    lines = [style.format(key, value) for key, value in values.items()]
    rng.shuffle(keys)
    quote = rng.choice(("", "'", '"'))
    answers = [f"{key} -> {quote}{values[key]}{quote}" for key in keys]
    return "\n".join(lines) + "\nLookup\n" + "\n".join(answers)


def reversed_pairs(rng: random.Random) -> str:
    """Write pairs one way round and then the other, so that position is no help."""
    pairs = [(any_word(rng), any_word(rng)) for _ in range(rng.randint(3, 6))]
    forward = "; ".join(f"{left} and {right}" for left, right in pairs)
    rng.shuffle(pairs)
    backward = "; ".join(f"{right} with {left}" for left, right in pairs)
    return f"{forward}.\n{backward}."


def membership(rng: random.Random) -> str:
    """Write a list and say of some words whether it holds them."""
    pool = rng.sample(rng.choice(WORD_LISTS), 6)
    held = pool[:4]
    checks = [f"{word}: {'yes' if word in held else 'no'}" for word in rng.sample(pool, 3)]
    return f"The list holds {', '.join(held)}.\n" + "\n".join(checks)
