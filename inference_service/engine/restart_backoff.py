"""How long to wait before an engine that ended is started again."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class RestartBackoff:
    """Twice as long after each engine that ended soon, up to a limit; as short as ever after one
    that lived. A random part keeps replicas that failed together from starting together."""

    first_seconds: float = 0.5
    max_seconds: float = 30.0
    lived_seconds: float = 60.0
    draw: Callable[[], float] = random.random  # in [0, 1)
    num_failures: int = 0

    def next(self, seconds_lived: float) -> float:
        """After an engine was ready for so long; 0 if it never was."""
        if seconds_lived >= self.lived_seconds:
            self.num_failures = 0
        limit = min(self.max_seconds, self.first_seconds * 2.0 ** min(self.num_failures, 32))
        self.num_failures += 1
        return limit * (0.5 + 0.5 * self.draw())
