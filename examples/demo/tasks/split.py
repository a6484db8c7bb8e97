"""Which examples may be trained on.

A held-out example is one of two kinds. Either its whole (template, entity) pair is held out, so
that training never asks that question about that table, object or argument. Or the pair is known
and its values are new to the template, whatever the entity. Both are decided by a hash, so they
hold for any seed and any count.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Final, Literal

from examples.demo.tasks.example import Draft, Draw, Example

Split = Literal["train", "held_out"]

_PAIR_SHARE: Final = 0.08
_VALUES_SHARE: Final = 0.08


def _position(*parts: str) -> float:
    """Place some text evenly in [0, 1)."""
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_held_out_pair(template: str, entity: str) -> bool:
    """Tell whether training sees this template with this entity at all."""
    return _position("pair", template, entity) < _PAIR_SHARE


def split_of(draft: Draft) -> Split:
    """Assign a draft to its split."""
    if is_held_out_pair(draft.template, draft.entity):
        return "held_out"
    place = _position("values", draft.template, draft.values)
    return "held_out" if place < _VALUES_SHARE else "train"


def drafts(draw: Draw, split: Split, seed: int) -> Iterator[Draft]:
    """Yield the drafts of a split without end; the same seed gives the same stream."""
    rng = random.Random(f"{split}-{seed}")
    while True:
        draft = draw(rng)
        if split_of(draft) == split:
            yield draft


def examples(draw: Draw, split: Split, count: int, seed: int) -> list[Example]:
    """Draw ``count`` examples of a split, all of different conversations."""
    chosen: dict[str, Example] = {}
    stream = drafts(draw, split, seed)
    while len(chosen) < count:
        example = next(stream).example
        chosen.setdefault(str(example.messages), example)
    return list(chosen.values())
