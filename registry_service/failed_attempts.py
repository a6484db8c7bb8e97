"""How many failed authentications are worth a row in the audit trail."""

import time
from collections.abc import Callable

_MAX_A_MINUTE = 30
_MINUTE = 60.0


class FailedAttempts:
    """Nobody may make the database grow without a credential: past a rate they are counted only."""

    def __init__(
        self, limit: int = _MAX_A_MINUTE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._minute_began = clock()
        self._num_recorded = 0
        self._num_suppressed = 0

    def take(self) -> int | None:
        """None for an attempt to leave out; else how many were left out since the last one."""
        now = self._clock()
        if now - self._minute_began >= _MINUTE:
            self._minute_began, self._num_recorded = now, 0
        if self._num_recorded >= self._limit:
            self._num_suppressed += 1
            return None
        self._num_recorded += 1
        suppressed, self._num_suppressed = self._num_suppressed, 0
        return suppressed
