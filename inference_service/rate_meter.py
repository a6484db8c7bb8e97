"""Uses per minute, measured as a bucket that leaks."""

import math
from collections.abc import Callable


class RateMeter:
    """A minute's worth of a rate may be used at once; what was used leaks away at that rate.

    There is room while less than the whole bucket is used. What has begun may use more than there
    was room for, as a running request does: the next one waits until that has leaked away too.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._per_minute: int | None = None
        self._used = 0.0
        self._as_of = clock()

    def limit(self, per_minute: int | None) -> None:
        """Sets the rate; None: no limit, and nothing is measured.

        What was used still counts. At a lower rate it leaks away no later than it would have.
        """
        self._leak()
        if per_minute is None:
            self._used = 0.0
        elif self._per_minute:
            self._used *= min(1.0, per_minute / self._per_minute)
        self._per_minute = per_minute

    def use(self, amount: float) -> None:
        if self._per_minute is not None:
            self._leak()
            self._used += amount

    @property
    def is_idle(self) -> bool:
        """Whether it is as good as new."""
        self._leak()
        return self._used == 0.0

    @property
    def seconds_until_room(self) -> float:
        """0 when one more use has room; infinite for a rate of 0."""
        if self._per_minute is None:
            return 0.0
        if self._per_minute == 0:
            return math.inf
        self._leak()
        surplus = self._used + 1 - self._per_minute
        return max(0.0, surplus) * 60 / self._per_minute

    def _leak(self) -> None:
        now = self._clock()
        leaked = (now - self._as_of) * (self._per_minute or 0) / 60
        self._used, self._as_of = max(0.0, self._used - leaked), now
