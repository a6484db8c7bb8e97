"""How many tokens the engine made, and how far apart."""

from typing import Final

from inference_service.engine.step_stats import Distribution
from inference_service.engine.tally import Tally

_BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
)


class TokenClock:
    """Written for every output of the engine, by the event loop alone."""

    def __init__(self) -> None:
        self._intervals = Tally(_BOUNDS)
        self.num_tokens = 0

    @property
    def intervals(self) -> Distribution:
        """Seconds between the tokens of a completion."""
        return self._intervals.reading()

    def first(self, count: int) -> None:
        """The first output of a completion, of `count` tokens: they come after nothing."""
        self.num_tokens += count

    def later(self, count: int, seconds: float) -> None:
        """`count` tokens in one output, `seconds` after the output before."""
        self.num_tokens += count
        self._intervals.add(seconds / count, count)
