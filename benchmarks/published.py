"""Loads of the published evaluations, drawn as they were drawn there, as `PlannedRequest`s.

What papers give as distributions only is `lorikeet.load`'s: its workloads are used where they do.
"""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lorikeet.load.workload import PlannedRequest

_PUNICA_TOTAL = 2048  # tokens of prompt and answer together, at most


@dataclass(frozen=True)
class SloraLoad:
    """S-LoRA's synthetic load: `alpha` of the power law over adapters, `cv` of the gaps.

    The smaller `alpha`, the fewer adapters get the requests.
    """

    num_adapters: int
    rate: float
    seconds: float
    alpha: float = 1.0
    cv: float = 1.0
    low: int = 8
    high: int = 512

    def requests(self, adapters: Sequence[str], seed: int = 42) -> list[PlannedRequest]:
        """Draws in the published order: adapters, prompts' lengths, answers', gaps."""
        assert len(adapters) == self.num_adapters
        draw = np.random.RandomState(seed)
        count = int(self.rate * self.seconds)
        indices = (draw.power(self.alpha, count) * self.num_adapters).astype(int)
        prompts = draw.randint(self.low, self.high, count)
        answers = draw.randint(self.low, self.high, count)
        gaps = draw.gamma(self.cv**-2, self.cv**2 / self.rate, count)
        dues = np.cumsum(gaps)
        return [
            PlannedRequest(
                number=number,
                due=float(dues[number]),
                adapter=adapters[indices[number]],
                tenant="",
                prompt_tokens=int(prompts[number]),
                output_tokens=int(answers[number]),
            )
            for number in range(count)
        ]


def punica_requests(popularity: str, count: int, seed: int = 0) -> list[PlannedRequest]:
    """Punica's: `distinct`, `identical`, `uniform` (⌈√n⌉ adapters) or `zipf:1.5`, all at once.

    Punica's zipf gives each adapter 1.5 times the requests of the next. Prompts are lognormal
    (s 0.8, loc -1, scale 18), a total of up to 2,048 is drawn, and the answer is what is left of
    it, one token at least. Adapters are numbered "0", "1", and so on.
    """
    draw = random.Random(seed)
    adapters = [str(index) for index, size in enumerate(_groups(popularity, count)) for _ in size]
    draw.shuffle(adapters)
    return [
        PlannedRequest(number, 0.0, adapter, "", *_punica_lengths(draw))
        for number, adapter in enumerate(adapters)
    ]


def _groups(popularity: str, count: int) -> Iterator[range]:
    """As many as there are adapters, each as large as its number of requests."""
    if popularity in ("distinct", "identical", "uniform"):
        num_groups = {"distinct": count, "identical": 1}.get(popularity, math.isqrt(count - 1) + 1)
        for group in range(num_groups):
            yield range(group, count, num_groups)
        return
    name, _, ratio = popularity.partition(":")
    assert name == "zipf", popularity
    sizes: list[int] = []
    size = 1.0
    while sum(sizes) + int(size) < count:
        sizes.append(int(size))
        size *= float(ratio)
    yield from map(range, sorted([*sizes, count - sum(sizes)], reverse=True))


def _punica_lengths(draw: random.Random) -> tuple[int, int]:
    prompt = round(draw.lognormvariate(math.log(18), 0.8) - 1)
    prompt = min(max(prompt, 1), _PUNICA_TOTAL - 2)
    return prompt, max(draw.randrange(_PUNICA_TOTAL) - prompt, 1)


def scaled(requests: Iterable[PlannedRequest], scale: float) -> Iterator[PlannedRequest]:
    """Every length times `scale`, one token at least: for a machine that bears less."""
    for request in requests:
        yield replace(
            request,
            prompt_tokens=max(1, round(scale * request.prompt_tokens)),
            output_tokens=max(1, round(scale * request.output_tokens)),
        )
