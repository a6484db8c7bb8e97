"""What to ask: drawn from a seed, so that a run can be repeated, on another server too.

The distributions are those of S-LoRA's and Punica's papers, and of ShareGPT's conversations; the
draws are this module's own.
"""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lorikeet.load.lengths import Lengths, LognormalLengths, UniformLengths
from lorikeet.load.popularity import Popularity, distinct, parse_popularity, power, zipf

_PROMPT: Final = UniformLengths(64, 64)
_OUTPUT: Final = UniformLengths(32, 32)


@dataclass(frozen=True)
class Workload:
    """`burstiness` is the coefficient of variation of the gaps between requests: 1 is Poisson.

    `shares`: of the requests, by tenant in the order in which they are given; the others have 1.
    """

    popularity: Popularity
    prompt_tokens: Lengths = _PROMPT
    output_tokens: Lengths = _OUTPUT
    burstiness: float = 1.0
    shares: tuple[float, ...] = ()


@dataclass(frozen=True)
class PlannedRequest:
    """`due`: seconds after the start; 0 where one begins when another has ended."""

    number: int
    due: float
    adapter: str
    tenant: str
    prompt_tokens: int
    output_tokens: int


_NAMED: Final[Mapping[str, Workload]] = {
    "slora": Workload(power, UniformLengths(8, 512), UniformLengths(8, 512)),
    "sharegpt": Workload(zipf, LognormalLengths(161), LognormalLengths(338)),
    "thrash": Workload(distinct),
    "fairness": Workload(zipf, shares=(1, 10)),
}


def parse_workload(text: str) -> Workload:
    """A name (`slora`, `sharegpt`, `thrash`, `fairness`) or a popularity; else ValueError."""
    if text in _NAMED:
        return _NAMED[text]
    try:
        return Workload(parse_popularity(text))
    except ValueError as error:
        raise ValueError(f"{error}; or {', '.join(_NAMED)}") from None


def plan(
    workload: Workload,
    *,
    adapters: Sequence[str],
    tenants: Sequence[str],
    rate: float | None,
    seed: int,
) -> Iterator[PlannedRequest]:
    """Requests without end; `rate`: per second, None for one when another has ended.

    What is drawn for one purpose does not depend on what is drawn for another.
    """

    def source(purpose: str) -> random.Random:
        return random.Random(f"{seed} {purpose}")

    prompts, outputs, owners = source("prompts"), source("outputs"), source("tenants")
    indices = workload.popularity(source("adapters"), len(adapters))
    dues = _dues(source("gaps"), rate, workload.burstiness) if rate else itertools.repeat(0.0)
    shares = [*workload.shares, *(1.0 for _ in tenants)][: len(tenants)]
    for number, (index, due) in enumerate(zip(indices, dues, strict=False)):
        yield PlannedRequest(
            number=number,
            due=due,
            adapter=adapters[index],
            tenant=owners.choices(tenants, shares)[0],
            prompt_tokens=workload.prompt_tokens.draw(prompts),
            output_tokens=workload.output_tokens.draw(outputs),
        )


def _dues(draw: random.Random, rate: float, burstiness: float) -> Iterator[float]:
    """Times whose gaps are of a gamma distribution with the mean 1 / rate."""
    shape = burstiness**-2
    due = 0.0
    while True:
        yield due
        due += draw.gammavariate(shape, 1 / (rate * shape))
