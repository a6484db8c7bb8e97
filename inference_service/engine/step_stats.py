"""What is told of the engine's steps."""

import msgspec


class Distribution(msgspec.Struct, frozen=True):
    """Observations counted by upper bound: counts[i] of at most bounds[i], not of a lower one.

    `counts` has one more, for those above all bounds. `total` is the sum of what was observed.
    """

    bounds: list[float]
    counts: list[int]
    total: float


class StepStats(msgspec.Struct, frozen=True):
    """The engine's steps since its start: sequences in each, tokens computed in each, seconds."""

    sizes: Distribution
    tokens: Distribution
    seconds: Distribution
    num_prefill_tokens: int
    num_decode_tokens: int
