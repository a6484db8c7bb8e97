"""Waiting sequences in a fair order between tenants: a virtual token counter for each of them.

Sheng et al., "Fairness in Serving Large Language Models" (2024): who was served least for its
weight is next, and a tenant that comes back brings next to no credit for the time it was away.
"""

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, KeysView

from inference_service.engine.sequence import Sequence

# What a token costs its tenant: a new one takes a step, one of a prompt shares it with the others.
PROMPT_COST = 1.0
OUTPUT_COST = 2.0

# How much less than the others a tenant was served at most when its next request comes, in tokens
# of weight 1, besides the prompt of that. With no credit, the decodes of its running requests in
# that very step would put it behind all others. One that was away brings as much as lets two short
# requests start together.
_CREDIT = 256.0
_CREDIT_OF_THE_ABSENT = 64.0

_MAX_REMEMBERED = 4096  # counters of tenants without a waiting sequence


def _place(sequence: Sequence) -> tuple[int, int]:
    """Within a tenant: by priority, lowest value first, then first come, first served."""
    return sequence.priority, sequence.request_id


class FairQueue:
    """By priority and arrival within a tenant; between tenants, the least served first."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Sequence]] = {}
        self._served: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._by_id: dict[int, Sequence] = {}
        self._adapters: Counter[str] = Counter()
        self._last_left = 0.0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._by_id.values())

    def get(self, request_id: int) -> Sequence | None:
        return self._by_id.get(request_id)

    @property
    def adapters(self) -> KeysView[str]:
        """The digests that sequences wait with; "" when some wait for the base model."""
        return self._adapters.keys()

    @property
    def tenants(self) -> KeysView[str]:
        """Those that sequences wait for."""
        return self._waiting.keys()

    def num_waiting(self, adapter_digest: str) -> int:
        return self._adapters[adapter_digest]

    def add(self, sequence: Sequence, *, is_tenant_absent: bool = False) -> None:
        """One that was preempted takes the place it had when it came.

        `is_tenant_absent`: the tenant has no running sequence. Where none of it waits either, what
        this prompt costs is its credit too: once it is next, it stays so to the prompt's end.
        """
        credit = _CREDIT_OF_THE_ABSENT if is_tenant_absent else _CREDIT
        credit += PROMPT_COST * sequence.num_prompt / sequence.weight
        insort(self._queue_of(sequence.tenant, credit), sequence, key=_place)
        self._weights[sequence.tenant] = sequence.weight
        self._by_id[sequence.request_id] = sequence
        self._adapters[sequence.adapter_digest] += 1

    def remove(self, sequence: Sequence) -> None:
        sequences = self._waiting[sequence.tenant]
        index = bisect_left(sequences, _place(sequence), key=_place)
        assert sequences[index] is sequence
        del sequences[index]
        del self._by_id[sequence.request_id]
        self._adapters[sequence.adapter_digest] -= 1
        if not self._adapters[sequence.adapter_digest]:
            del self._adapters[sequence.adapter_digest]
        if not sequences:
            del self._waiting[sequence.tenant]
            self._last_left = max(self._last_left, self._served[sequence.tenant])
            self._forget_the_absent()

    def charge(self, tenant: str, cost: float) -> None:
        """Counts what a tenant was served, in tokens of weight 1."""
        weight = self._weights.get(tenant, 1.0)
        self._served[tenant] = self._served.get(tenant, 0.0) + cost / weight

    def served(self, tenant: str) -> float:
        """So far, in tokens of weight 1."""
        return self._served.get(tenant, 0.0)

    def is_served_least(self, tenant: str, tenants: Iterable[str]) -> bool:
        """Whether none of `tenants` was served less."""
        served = self.served(tenant)
        return all(self.served(other) >= served for other in tenants)

    def owes(self, tenant: str) -> bool:
        """Whether it was served more than a tenant that waits."""
        return not self.is_served_least(tenant, self._waiting)

    def in_order(self, may_start: Callable[[str], bool] = lambda _: True) -> Iterator[Sequence]:
        """Each waiting sequence once. What is charged, or removed, in between counts for the rest.

        Sequences of a tenant for which `may_start` is false, asked before each, are left out. The
        caller may remove the sequence it was given last, and charge its tenant, and no other.
        """
        order = [(self._served[t], number, t) for number, t in enumerate(self._waiting)]
        heapq.heapify(order)
        indices = dict.fromkeys(self._waiting, 0)
        while order:
            _, number, tenant = heapq.heappop(order)
            if not may_start(tenant):
                continue
            sequences = self._waiting[tenant]
            sequence = sequences[indices[tenant]]
            yield sequence
            if indices[tenant] < len(sequences) and sequences[indices[tenant]] is sequence:
                indices[tenant] += 1
            if indices[tenant] < len(sequences):
                heapq.heappush(order, (self._served[tenant], number, tenant))

    def _queue_of(self, tenant: str, credit: float) -> list[Sequence]:
        if tenant not in self._waiting:
            self._served[tenant] = max(self._served.get(tenant, 0.0), self._floor() - credit)
            self._waiting[tenant] = []
        return self._waiting[tenant]

    def _floor(self) -> float:
        """What those who wait were served at least."""
        waiting = (self._served[tenant] for tenant in self._waiting)
        return min(waiting, default=self._last_left)

    def _forget_the_absent(self) -> None:
        """A counter so low says nothing: it would be lifted anyway."""
        if len(self._served) <= len(self._waiting) + _MAX_REMEMBERED:
            return
        floor = self._floor() - _CREDIT
        for tenant in [t for t in self._served if t not in self._waiting]:
            if self._served[tenant] <= floor:
                del self._served[tenant]
                self._weights.pop(tenant, None)
