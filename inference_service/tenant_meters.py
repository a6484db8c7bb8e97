"""What each tenant does, and did lately, against what it is granted."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from inference_service.rate_meter import RateMeter
from inference_service.serving_limits import ServingLimits
from lorikeet.rpc.errors import QuotaViolation, ResourceExhaustedError
from lorikeet.rpc.names import TenantName

_MIN_REMEMBERED: Final = 1024
_UNKNOWN: Final = 1.0  # seconds until a call ends: nobody knows when one will


@dataclass(frozen=True)
class _Refusal:
    """A limit that is reached. `wait`: the seconds until it is not; infinite: by itself never."""

    reason: str
    limit: str
    most: int
    use: str
    wait: float


class TenantMeter:
    """One tenant: its open places, and what it used of its rates."""

    def __init__(self, tenant: str, clock: Callable[[], float]) -> None:
        self._tenant = tenant
        self._limits = ServingLimits()
        self._num_open = 0
        self._num_prefetches = 0
        self._requests = RateMeter(clock)
        self._tokens = RateMeter(clock)

    @property
    def is_idle(self) -> bool:
        """Whether forgetting it gives the tenant nothing."""
        return (
            not (self._num_open or self._num_prefetches)
            and self._requests.is_idle
            and self._tokens.is_idle
        )

    def limit(self, limits: ServingLimits) -> None:
        """Takes the tenant's limits as they are now."""
        if limits != self._limits:
            self._limits = limits
            self._requests.limit(limits.max_requests_per_minute)
            self._tokens.limit(limits.max_tokens_per_minute)

    def check(self, num_places: int) -> None:
        """RESOURCE_EXHAUSTED when a request that takes so many places must not begin now."""
        self._raise_longest(self._no_places(num_places), self._no_requests(), self._no_tokens())

    def check_tokens(self) -> None:
        """RESOURCE_EXHAUSTED when all tokens are used."""
        self._raise_longest(self._no_tokens())

    def use_tokens(self, count: int) -> None:
        self._tokens.use(count)

    @contextmanager
    def request(self, num_places: int) -> Iterator[None]:
        """Counts one request, and its places while the block runs."""
        self._requests.use(1)
        self._num_open += num_places
        try:
            yield
        finally:
            self._num_open -= num_places

    @contextmanager
    def prefetch(self, most: int) -> Iterator[None]:
        """Counts a call that fetches adapters; RESOURCE_EXHAUSTED when `most` are running."""
        if self._num_prefetches >= most:
            use = f"{self._num_prefetches} open, 1 more asked for"
            raise self._error(_Refusal("TENANT_CONCURRENCY", "max_prefetches", most, use, _UNKNOWN))
        self._num_prefetches += 1
        try:
            yield
        finally:
            self._num_prefetches -= 1

    def _no_places(self, more: int) -> _Refusal | None:
        most = self._limits.max_concurrent_requests
        if most is None or self._num_open + more <= most:
            return None
        use = f"{self._num_open} open, {more} more asked for"
        wait = _UNKNOWN if more <= most else math.inf
        return _Refusal("TENANT_CONCURRENCY", "max_concurrent_requests", most, use, wait)

    def _no_requests(self) -> _Refusal | None:
        most, wait = self._limits.max_requests_per_minute, self._requests.seconds_until_room
        if most is None or not wait:
            return None
        return _Refusal("TENANT_REQUEST_RATE", "max_requests_per_minute", most, "all used", wait)

    def _no_tokens(self) -> _Refusal | None:
        most, wait = self._limits.max_tokens_per_minute, self._tokens.seconds_until_room
        if most is None or not wait:
            return None
        return _Refusal("TENANT_TOKEN_RATE", "max_tokens_per_minute", most, "all used", wait)

    def _raise_longest(self, *found: _Refusal | None) -> None:
        """Who waits for the longest has waited for the others too."""
        refusals = [refusal for refusal in found if refusal is not None]
        if refusals:
            raise self._error(max(refusals, key=lambda refusal: refusal.wait))

    def _error(self, refusal: _Refusal) -> ResourceExhaustedError:
        subject = str(TenantName(self._tenant))
        description = f"{refusal.limit} is {refusal.most}, {refusal.use}"
        advice, retry_after = "an administrator can raise it", None
        if math.isfinite(refusal.wait):
            # Whole milliseconds, rounded up: who waits that long is not told to wait again.
            retry_after = math.floor(refusal.wait * 1000 + 1) / 1000
            advice = f"retry in {retry_after:g} s, or {advice}"
        return ResourceExhaustedError(
            f"{subject} is at its limit on this server: {description}; {advice}",
            reason=refusal.reason,
            metadata={"limit": refusal.limit, "value": str(refusal.most)},
            retry_after=retry_after,
            quota_violations=[QuotaViolation(subject, description)],
        )


class TenantMeters:
    """The meters of the tenants that do something, or did so lately that it still counts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._meters: dict[str, TenantMeter] = {}
        self._max_remembered = _MIN_REMEMBERED

    def __len__(self) -> int:
        return len(self._meters)

    def of(self, tenant: str, limits: ServingLimits) -> TenantMeter:
        """The tenant's meter, under its limits as they are now."""
        meter = self._meters.get(tenant)
        if meter is None:
            self._forget_the_idle()
            meter = self._meters[tenant] = TenantMeter(tenant, self._clock)
        meter.limit(limits)
        return meter

    def _forget_the_idle(self) -> None:
        """Now and then, so that it costs each tenant little."""
        if len(self._meters) < self._max_remembered:
            return
        self._meters = {t: meter for t, meter in self._meters.items() if not meter.is_idle}
        self._max_remembered = max(_MIN_REMEMBERED, 2 * len(self._meters))
