"""Which requests begin: a full queue, or a tenant's limit, says so at once instead of growing."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from inference_service.serving_limits import ServingLimits
from inference_service.tenant_meters import TenantMeter, TenantMeters
from lorikeet.rpc.errors import ResourceExhaustedError, UnavailableError

_NO_LIMITS: Final = ServingLimits()


class Ticket:
    """A request's place. Each of its completions waits until its first token, then runs.

    `weight` is its tenant's share of a busy engine.
    """

    def __init__(
        self,
        admission: "Admission",
        tenant: str,
        num_waiting: int,
        meter: TenantMeter,
        weight: float,
    ) -> None:
        self._admission = admission
        self.tenant = tenant
        self.weight = weight
        self._num_waiting = num_waiting
        self._meter = meter

    def use_prompt(self, num_tokens: int) -> None:
        """Counts the prompt; RESOURCE_EXHAUSTED if others of the tenant used the tokens first."""
        self._meter.check_tokens()
        self._meter.use_tokens(num_tokens)

    def use_tokens(self, count: int) -> None:
        """Counts tokens of completions, which may pass the limit: the next request waits."""
        self._meter.use_tokens(count)

    def started_running(self) -> None:
        """Call it with the first token of each completion; more calls change nothing."""
        if self._num_waiting:
            self._num_waiting -= 1
            self._admission.stopped_waiting(self.tenant, 1)

    def give_back(self) -> None:
        """Nothing of the request waits any longer."""
        self._admission.stopped_waiting(self.tenant, self._num_waiting)
        self._num_waiting = 0


class Admission:
    """Counts requests from admission to their end; the engine decides who runs when."""

    def __init__(
        self,
        *,
        max_waiting: int,
        max_waiting_per_tenant: int,
        max_prefetches_per_tenant: int = 4,
    ) -> None:
        self._max_waiting = max_waiting
        self._max_waiting_per_tenant = max_waiting_per_tenant
        self._max_prefetches_per_tenant = max_prefetches_per_tenant
        self._waiting: Counter[str] = Counter()
        self._meters = TenantMeters()
        self._num_open = 0
        self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_waiting(self) -> int:
        return self._waiting.total()

    @property
    def num_open(self) -> int:
        return self._num_open

    @contextmanager
    def arrival(self) -> Iterator[None]:
        """Around a request from its first moment: UNAVAILABLE SHUTTING_DOWN when nothing begins.

        Who waits for the service to be idle waits for it too, though it may yet be refused.
        """
        self._check_open()
        self._num_open += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._num_open -= 1
            if not self._num_open:
                self._idle.set()

    @contextmanager
    def ticket(
        self, tenant: str, num_completions: int = 1, limits: ServingLimits = _NO_LIMITS
    ) -> Iterator[Ticket]:
        """A place for one request, which waits as often as it has completions.

        RESOURCE_EXHAUSTED when the queue is full (one that is not takes any request), or when the
        tenant is at one of its limits. What is refused counts for nothing.
        """
        self._check(tenant)
        with self.call(tenant, limits, num_completions) as meter:
            ticket = Ticket(self, tenant, num_completions, meter, limits.weight)
            self._waiting[tenant] += num_completions
            try:
                yield ticket
            finally:
                ticket.give_back()

    @contextmanager
    def call(
        self, tenant: str, limits: ServingLimits, num_places: int = 1
    ) -> Iterator[TenantMeter]:
        """Counts a call of a tenant while it runs; RESOURCE_EXHAUSTED at one of its limits."""
        meter = self._meters.of(tenant, limits)
        meter.check(num_places)
        with meter.request(num_places):
            yield meter

    @contextmanager
    def prefetch(self, tenant: str, limits: ServingLimits) -> Iterator[None]:
        """Counts a call that fetches adapters: few of a tenant may run, whatever its limits."""
        meter = self._meters.of(tenant, limits)
        with meter.prefetch(self._max_prefetches_per_tenant), self.call(tenant, limits):
            yield

    def stopped_waiting(self, tenant: str, count: int) -> None:
        """Called by tickets."""
        self._waiting[tenant] -= count
        if not self._waiting[tenant]:
            del self._waiting[tenant]

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        """Admits nothing more, for good: UNAVAILABLE SHUTTING_DOWN."""
        self._is_closed = True

    async def wait_until_idle(self) -> None:
        """Returns when every request that arrived has ended."""
        await self._idle.wait()

    def _check_open(self) -> None:
        if self._is_closed:
            raise UnavailableError(
                "the server is shutting down", reason="SHUTTING_DOWN", retry_after=1.0
            )

    def _check(self, tenant: str) -> None:
        self._check_open()
        if self.num_waiting >= self._max_waiting:
            raise _queue_full(f"{self.num_waiting} requests are waiting")
        if self._waiting[tenant] >= self._max_waiting_per_tenant:
            raise _queue_full(f"{self._waiting[tenant]} requests of this tenant are waiting")


def _queue_full(message: str) -> ResourceExhaustedError:
    return ResourceExhaustedError(message, reason="QUEUE_FULL", retry_after=1.0)
