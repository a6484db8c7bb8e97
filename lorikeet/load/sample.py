"""What was measured of one request."""

from dataclasses import dataclass

from lorikeet.load.workload import PlannedRequest


@dataclass(frozen=True)
class Arrival:
    """Tokens that came together. `at`: time.monotonic, as all times here."""

    at: float
    num_tokens: int


@dataclass(frozen=True)
class Sample:
    """One request, however it ended. `failure` is the reason of its error, empty without one.

    `prompt_tokens` and `output_tokens` are those asked for: what was planned, cut to the model.
    """

    request: PlannedRequest
    due: float
    sent: float
    ended: float
    arrivals: tuple[Arrival, ...]
    failure: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    @property
    def num_tokens(self) -> int:
        return sum(arrival.num_tokens for arrival in self.arrivals)

    @property
    def to_first_token(self) -> float | None:
        """From when it was due, so that what a late generator hides is seen."""
        return self.arrivals[0].at - self.due if self.arrivals else None

    @property
    def end_to_end(self) -> float:
        return self.ended - self.due

    @property
    def is_cut(self) -> bool:
        """Whether the model has no room for all that was planned."""
        planned = self.request.prompt_tokens, self.request.output_tokens
        return planned != (self.prompt_tokens, self.output_tokens)

    def gaps(self) -> list[float]:
        """The time before each token but the first; tokens that came together share theirs."""
        gaps = []
        for before, arrival in zip(self.arrivals, self.arrivals[1:], strict=False):
            each = (arrival.at - before.at) / arrival.num_tokens
            gaps += [each] * arrival.num_tokens
        return gaps
