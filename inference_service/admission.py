"""How many requests may wait: a full queue says so at once instead of growing."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lorikeet.rpc.errors import ResourceExhaustedError, UnavailableError


class Ticket:
    """A request's place. Each of its completions waits until its first token, then runs."""

    def __init__(self, admission: "Admission", tenant: str, num_waiting: int) -> None:
        self._admission = admission
        self.tenant = tenant
        self._num_waiting = num_waiting

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

    def __init__(self, *, max_waiting: int, max_waiting_per_tenant: int) -> None:
        self._max_waiting = max_waiting
        self._max_waiting_per_tenant = max_waiting_per_tenant
        self._waiting: Counter[str] = Counter()
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
    def ticket(self, tenant: str, num_completions: int = 1) -> Iterator[Ticket]:
        """A place for one request, which waits as often as it has completions.

        RESOURCE_EXHAUSTED when the queue is full; one that is not takes any request.
        """
        self._check(tenant)
        ticket = Ticket(self, tenant, num_completions)
        self._waiting[tenant] += num_completions
        self._num_open += 1
        self._idle.clear()
        try:
            yield ticket
        finally:
            ticket.give_back()
            self._num_open -= 1
            if not self._num_open:
                self._idle.set()

    def stopped_waiting(self, tenant: str, count: int) -> None:
        """Called by tickets."""
        self._waiting[tenant] -= count
        if not self._waiting[tenant]:
            del self._waiting[tenant]

    async def close(self, grace: float) -> None:
        """Admits nothing more; returns when all requests have ended or `grace` seconds are over."""
        self._is_closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._idle.wait()

    def _check(self, tenant: str) -> None:
        if self._is_closed:
            raise UnavailableError(
                "the server is shutting down", reason="SHUTTING_DOWN", retry_after=1.0
            )
        if self.num_waiting >= self._max_waiting:
            raise _queue_full(f"{self.num_waiting} requests are waiting")
        if self._waiting[tenant] >= self._max_waiting_per_tenant:
            raise _queue_full(f"{self._waiting[tenant]} requests of this tenant are waiting")


def _queue_full(message: str) -> ResourceExhaustedError:
    return ResourceExhaustedError(message, reason="QUEUE_FULL", retry_after=1.0)
