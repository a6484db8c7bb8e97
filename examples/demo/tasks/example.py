"""What a task yields: a conversation, the one right answer, and what the pair was made from."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from examples.demo.chat_format import Message


@dataclass(frozen=True)
class Example:
    """A conversation that ends with the user's turn, and the exact answer expected."""

    messages: tuple[Message, ...]
    answer: str


@dataclass(frozen=True)
class Draft:
    """An example with its origin, by which it is assigned to a split.

    ``template`` names the phrasing, ``entity`` the table, object or main argument it is about, and
    ``values`` what was filled in: the whole question where words decide, the numbers in a sum.
    """

    template: str
    entity: str
    values: str
    example: Example


Draw = Callable[[random.Random], Draft]
