"""What a tenant leaves to others while there are any: short steps, and some of the places.

Who is next is FairQueue's business. But who is next waits for the step that runs, which may be a
long one of somebody else's prompts, and for a place, which somebody else's requests may all have
until they end, together if they began together.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Final

_REMEMBERED: Final = 60.0  # seconds for which a tenant counts after its last request
_DECODE: Final = 1.4  # tokens of a prompt take as long: it has logits, and its keys for itself
_STEP_SECONDS: Final = 0.04  # what a step should take at most; it is more on slow processors:
# of fewer tokens in all, most of a step would be reading weights. Who is below its share may have
# more, so that its requests which come together start together.
_LEAST_TOKENS: Final = 32
_LEAST_BELOW_SHARE: Final = 128
_KEPT_SHARE: Final = 8  # one place in so many is kept for tenants that are below their share


class Sharing:
    """Decides nothing while one tenant is alone."""

    def __init__(self, max_num_seqs: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_num_seqs, self._clock = max_num_seqs, clock
        self._last_request: dict[str, float] = {}  # the latest last
        self._weights: dict[str, float] = {}
        self._total_weight = 0.0
        self._places: Counter[str] = Counter()
        self._left_waiting: frozenset[str] = frozenset()
        self._seconds_per_token: float | None = None

    @property
    def tenants(self) -> Collection[str]:
        """Those that asked for something lately."""
        return self._last_request.keys()

    def came(self, tenant: str, weight: float = 1.0) -> None:
        """A request of this tenant."""
        now = self._clock()
        self._last_request.pop(tenant, None)
        self._last_request[tenant] = now
        self._total_weight += weight - self._weights.get(tenant, 0.0)
        self._weights[tenant] = weight
        while self._last_request[oldest := next(iter(self._last_request))] < now - _REMEMBERED:
            del self._last_request[oldest]
            self._total_weight -= self._weights.pop(oldest)

    def started(self, tenant: str) -> None:
        """A request of this tenant has a place from now on."""
        self._places[tenant] += 1

    def ended(self, tenant: str) -> None:
        """It has left its place."""
        self._places[tenant] -= 1
        if not self._places[tenant]:
            del self._places[tenant]

    def has_place(self, tenant: str) -> bool:
        """Whether a request of this tenant runs."""
        return tenant in self._places

    def ran(self, num_prompt: int, num_decoded: int, seconds: float) -> None:
        """A step; those of mostly prompts tell what a token takes."""
        if num_prompt < max(num_decoded, _LEAST_TOKENS):
            return
        each = seconds / (num_prompt + _DECODE * num_decoded)
        known = self._seconds_per_token
        self._seconds_per_token = each if known is None else known + 0.2 * (each - known)

    def max_step_tokens(self, tenant: str, limit: int, num_decoding: int, *, is_begun: bool) -> int:
        """At most `limit`; with several tenants, as many as a step of a bearable length has.

        In a step that has so many, no prompt of this tenant is begun, or continued if `is_begun`.
        """
        if not self.is_shared or self._seconds_per_token is None:
            return limit
        bearable = int(_STEP_SECONDS / self._seconds_per_token - _DECODE * num_decoding)
        least = self._least_of_prompts(tenant, num_decoding, is_begun)
        return min(limit, num_decoding + max(bearable, least))

    def _least_of_prompts(self, tenant: str, num_decoding: int, is_begun: bool) -> int:
        """For how many tokens there is room, however long the step is by its decodes alone.

        Who has its share begins nothing beside many decodes, or there would be ever more of them,
        and goes on with what is begun, or it might never end.
        """
        if self.is_below_share(tenant):
            return _LEAST_BELOW_SHARE
        return _LEAST_TOKENS if is_begun else max(0, _LEAST_TOKENS - num_decoding)

    def yields(self, tenant: str, num_decoding: int) -> bool:
        """Whether, of a step that is too long already, a tenant's decodes may be left out once.

        So that a prompt of a tenant below its share, which waited for one such step, need not take
        part in the next.
        """
        if not self.is_shared or self._seconds_per_token is None or self.is_below_share(tenant):
            return False
        num_tokens = _DECODE * num_decoding + _LEAST_TOKENS
        return num_tokens * self._seconds_per_token > _STEP_SECONDS

    def may_start(self, tenant: str, is_served_least: Callable[[str], bool]) -> bool:
        """Whether the tenant may take one more place.

        The last few are for tenants that are below their share, or were served least of all.
        """
        num_free = self._max_num_seqs - self._places.total()
        if not self.is_shared or num_free > self._max_num_seqs // _KEPT_SHARE:
            return num_free > 0
        return num_free > 0 and (self.is_below_share(tenant) or is_served_least(tenant))

    def is_below_share(self, tenant: str) -> bool:
        """Whether it has fewer places than its weight among those of late is worth, and nothing of
        it was left waiting: whoever asks for more than it gets is not held up by others."""
        if tenant in self._left_waiting:
            return False
        weight = self._weights.get(tenant, 1.0)
        return self._places[tenant] * self._total_weight < self._max_num_seqs * weight

    def left_waiting(self, tenants: Iterable[str]) -> None:
        """These still have requests that wait, after a step was chosen."""
        self._left_waiting = frozenset(tenants)

    @property
    def is_shared(self) -> bool:
        """Whether several tenants asked for something lately."""
        return len(self._last_request) > 1
