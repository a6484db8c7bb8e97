"""How many tokens prompts and answers have."""

import math
import random
import re
from dataclasses import dataclass
from typing import Protocol


class Lengths(Protocol):
    """A distribution of numbers of tokens."""

    def draw(self, draw: random.Random) -> int:
        """At least 1."""


@dataclass(frozen=True)
class UniformLengths:
    """Any number in [low, high]."""

    low: int
    high: int

    def draw(self, draw: random.Random) -> int:
        return draw.randint(self.low, self.high)


@dataclass(frozen=True)
class LognormalLengths:
    """Many short ones and a few long ones, cut to [low, high]; `mean` is that before the cut."""

    mean: float
    sigma: float = 1.0
    low: int = 4
    high: int = 1024

    def draw(self, draw: random.Random) -> int:
        mu = math.log(self.mean) - self.sigma**2 / 2
        return min(max(round(draw.lognormvariate(mu, self.sigma)), self.low), self.high)


def parse_lengths(text: str) -> Lengths:
    """`64`, `8-512` or `lognormal:161`, the mean; else ValueError."""
    if match := re.fullmatch(r"(\d+)(?:-(\d+))?", text):
        low, high = int(match[1]), int(match[2] or match[1])
        if 1 <= low <= high:
            return UniformLengths(low, high)
    match = re.fullmatch(r"lognormal:(\d+(?:\.\d+)?)", text)
    if match and float(match[1]) >= 1:
        return LognormalLengths(float(match[1]))
    raise ValueError(f"{text!r} is no length in tokens: 64, 8-512, or lognormal:161 for a mean")
