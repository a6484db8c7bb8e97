"""Waiting sequences in a fair order between tenants: a virtual token counter for each of them.

Sheng et al., "Fairness in Serving Large Language Models" (2024): who was served least is next, and
a tenant that comes back does not bring credit for the time it was away.
"""

from collections import deque
from collections.abc import Iterator

from inference_service.engine.sequence import Sequence

# What a token costs its tenant: a new one takes a step, one of a prompt shares it with the others.
PROMPT_COST = 1.0
OUTPUT_COST = 2.0


class FairQueue:
    """First come, first served within a tenant; between tenants, the least served first."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Sequence]] = {}
        self._served: dict[str, float] = {}
        self._last_left = 0.0

    def __len__(self) -> int:
        return sum(len(sequences) for sequences in self._waiting.values())

    def __iter__(self) -> Iterator[Sequence]:
        for sequences in self._waiting.values():
            yield from sequences

    def add(self, sequence: Sequence) -> None:
        self._queue_of(sequence.tenant).append(sequence)

    def add_first(self, sequence: Sequence) -> None:
        """Before all others of its tenant: for a sequence that was preempted."""
        self._queue_of(sequence.tenant).appendleft(sequence)

    def remove(self, sequence: Sequence) -> None:
        sequences = self._waiting[sequence.tenant]
        sequences.remove(sequence)
        if not sequences:
            del self._waiting[sequence.tenant]
            self._last_left = self._served[sequence.tenant]

    def charge(self, tenant: str, cost: float) -> None:
        """Counts what a tenant was served."""
        self._served[tenant] = self._served.get(tenant, 0.0) + cost

    def in_order(self) -> Iterator[Sequence]:
        """Each waiting sequence once. What is charged in between counts for the rest."""
        remaining = {tenant: deque(sequences) for tenant, sequences in self._waiting.items()}
        while remaining:
            tenant = min(remaining, key=self._served.__getitem__)
            yield remaining[tenant].popleft()
            if not remaining[tenant]:
                del remaining[tenant]

    def _queue_of(self, tenant: str) -> deque[Sequence]:
        if tenant not in self._waiting:
            others = (self._served[other] for other in self._waiting)
            floor = min(others, default=self._last_left)
            self._served[tenant] = max(self._served.get(tenant, 0.0), floor)
            self._waiting[tenant] = deque()
        return self._waiting[tenant]
