"""The tables that text2sql asks about, and the CREATE TABLE text a prompt carries."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from examples.demo import words

TEXT_VALUES: Final[dict[str, tuple[str, ...]]] = {
    "name": words.PEOPLE,
    "city": words.CITIES,
    "country": words.COUNTRIES,
    "colour": words.COLOURS,
    "status": words.STATUSES,
    "genre": words.GENRES,
    "language": words.LANGUAGES,
    "material": words.MATERIALS,
    "team": words.TEAMS,
    "department": words.DEPARTMENTS,
    "owner": words.PEOPLE,
    "author": words.PEOPLE,
    "company": words.COMPANIES,
    "day": words.DAYS,
}
NUMBER_COLUMNS: Final = (
    "price", "age", "salary", "score", "weight", "height", "year", "stock", "rating", "length",
    "size", "speed", "pages", "seats", "points", "cost",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table's name with the text and number columns it may be declared with."""

    name: str
    text: tuple[str, ...]
    numbers: tuple[str, ...]


def _table(name: str, text: str, numbers: str) -> Table:
    return Table(name, tuple(text.split()), tuple(numbers.split()))


TABLES: Final = (
    _table("orders", "city status company day", "price weight cost"),
    _table("employees", "name city department country", "age salary score"),
    _table("students", "name city language team", "age score height"),
    _table("books", "author language genre status", "price pages year rating"),
    _table("cars", "owner colour company country", "price speed year seats"),
    _table("houses", "owner city colour material", "price size year"),
    _table("players", "name team country status", "age points height salary"),
    _table("songs", "author genre language company", "year length rating"),
    _table("films", "author genre country language", "year length rating cost"),
    _table("products", "name colour material company", "price weight stock"),
    _table("customers", "name city country status", "age points score"),
    _table("trips", "city country day status", "price length cost"),
    _table("boats", "owner colour material status", "length speed seats"),
    _table("shops", "owner city company day", "size rating stock"),
    _table("chairs", "colour material company status", "price weight height"),
    _table("flights", "city country company day", "price seats speed length"),
    _table("courses", "author language department day", "price seats length"),
    _table("tickets", "owner city status day", "price points cost"),
    _table("hotels", "city country owner company", "price rating seats"),
    _table("horses", "owner colour country team", "age speed weight"),
    _table("lamps", "colour material company city", "price height stock"),
    _table("members", "name city team day", "age points score"),
    _table("paintings", "author colour country material", "price year height"),
    _table("bikes", "owner colour company status", "price speed weight"),
)


@dataclass(frozen=True)
class Schema:
    """One declaration of a table: which columns, in which order."""

    table: str
    columns: tuple[str, ...]

    @property
    def text(self) -> tuple[str, ...]:
        """The columns that hold words."""
        return tuple(column for column in self.columns if column in TEXT_VALUES)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns that hold integers (the key aside)."""
        return tuple(column for column in self.columns if column in NUMBER_COLUMNS)

    @property
    def ddl(self) -> str:
        """The CREATE TABLE statement, as a prompt shows it."""
        parts = [f"{name} {'TEXT' if name in TEXT_VALUES else 'INTEGER'}" for name in self.columns]
        return f"CREATE TABLE {self.table} (id INTEGER, {', '.join(parts)})"


def declare(table: Table, rng: random.Random) -> Schema:
    """Declare ``table`` with two text and two number columns in a random order.

    The columns vary so that a model has to read the schema instead of remembering the table.
    """
    columns = rng.sample(table.text, 2) + rng.sample(table.numbers, 2)
    rng.shuffle(columns)
    return Schema(table.name, tuple(columns))
