"""Counting observations by size, for histograms: cheap enough for every token and every step."""

from bisect import bisect_left
from collections.abc import Sequence

from inference_service.engine.step_stats import Distribution


class Tally:
    """Counts by upper bound. One thread adds; any may take a reading.

    A histogram of prometheus_client takes a lock and a microsecond or two for each observation.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` ascend."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float, count: int = 1) -> None:
        """`count` observations of `value`."""
        self._counts[bisect_left(self._bounds, value)] += count
        self._total += value * count

    def reading(self) -> Distribution:
        return Distribution(list(self._bounds), list(self._counts), self._total)
