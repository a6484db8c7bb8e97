"""Which adapter each request is for. Every function draws without end, the same for a seed."""

import itertools
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

Popularity = Callable[[random.Random, int], Iterator[int]]
"""Draws indices below the number of adapters; lower ones are more popular, if any are."""


def identical(_: random.Random, num_adapters: int) -> Iterator[int]:
    """All for one adapter."""
    del num_adapters
    return itertools.repeat(0)


def distinct(_: random.Random, num_adapters: int) -> Iterator[int]:
    """Each for another adapter than the one before, in turn: the worst for a cache."""
    return itertools.cycle(range(num_adapters))


def uniform(draw: random.Random, num_adapters: int) -> Iterator[int]:
    """Any adapter as likely as any other."""
    while True:
        yield draw.randrange(num_adapters)


def zipf(draw: random.Random, num_adapters: int, *, exponent: float = 1.0) -> Iterator[int]:
    """The i-th most popular adapter as likely as 1 / i to the `exponent`."""
    weights = itertools.accumulate((1 + index) ** -exponent for index in range(num_adapters))
    cumulative = list(weights)
    while True:
        yield draw.choices(range(num_adapters), cum_weights=cumulative)[0]


def power(draw: random.Random, num_adapters: int, *, alpha: float = 1.0) -> Iterator[int]:
    """S-LoRA's: floor(n · x), x with density α x^(α-1). The smaller α, the fewer adapters."""
    while True:
        yield min(int(num_adapters * draw.random() ** (1 / alpha)), num_adapters - 1)


_PLAIN: Final[dict[str, Popularity]] = {
    "identical": identical,
    "distinct": distinct,
    "uniform": uniform,
}


def parse_popularity(text: str) -> Popularity:
    """`identical`, `distinct`, `uniform`, `zipf[:exponent]` or `power[:alpha]`; else ValueError."""
    name, _, number = text.partition(":")
    if name in _PLAIN and not number:
        return _PLAIN[name]
    value = float(number or 1)
    if name == "zipf" and value >= 0:
        return partial(zipf, exponent=value)
    if name == "power" and value > 0:
        return partial(power, alpha=value)
    raise ValueError(
        f"{text!r} is no popularity: identical, distinct, uniform, zipf[:exponent], power[:alpha]"
    )
