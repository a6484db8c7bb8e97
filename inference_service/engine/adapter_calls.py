"""Calls about adapters: load, unload, pin. Each is answered once, when there is an answer."""

from collections import defaultdict
from collections.abc import Set as AbstractSet

from inference_service.engine.adapter_loader import AdapterSource
from inference_service.engine.admission import Admission
from inference_service.engine.memory import EngineMemory
from inference_service.engine.readiness import Readiness
from inference_service.engine.request import Loaded, Refused, Reply, Unloaded
from inference_service.engine.self_report import AdapterResidency


class AdapterCalls:
    """Keeps the calls whose adapter is still on its way."""

    def __init__(self, memory: EngineMemory, admission: Admission, largest_request: int) -> None:
        """`largest_request`: pages of KV that one request may need; pins leave room for it."""
        self._memory, self._admission = memory, admission
        self._adapters = memory.adapters
        self._largest_request = largest_request
        self._pending: defaultdict[str, list[int]] = defaultdict(list)
        self._pinning: set[int] = set()
        self._found_on: dict[int, str] = {}  # the tier, by loading call

    @property
    def num_pending(self) -> int:
        return len(self._pending)

    @property
    def awaited(self) -> AbstractSet[str]:
        """The digests that requests or calls wait for."""
        return self._admission.awaited_adapters | self._pending.keys()

    def load(self, call_id: int, digest: str, source: AdapterSource) -> list[Reply]:
        self._found_on[call_id] = self._residency(digest).tier
        self._adapters.add(digest, source)
        self._pending[digest].append(call_id)
        return self.answer()

    def pin(self, call_id: int, digest: str) -> list[Reply]:
        if not self._adapters.knows(digest):
            return [_unknown(call_id, digest)]
        self._pinning.add(call_id)
        self._pending[digest].append(call_id)
        return self.answer()

    def unpin(self, call_id: int, digest: str) -> Reply:
        if not self._adapters.knows(digest):
            return _unknown(call_id, digest)
        if self._memory.cache.get(digest) is not None:
            self._memory.cache.pin(digest, False)
        return Loaded(call_id, self._residency(digest))

    def unload(self, call_id: int, digest: str) -> Reply:
        if not self._adapters.knows(digest):
            return _unknown(call_id, digest)
        resident = self._memory.cache.get(digest)
        if num_users := self._admission.num_users(digest):
            return Refused(call_id, "ADAPTER_IN_USE", f"{num_users} requests use the adapter")
        if digest in self._pending or (resident and not resident.is_ready):
            return Refused(call_id, "ADAPTER_IN_USE", "the adapter is being loaded")
        if resident and resident.is_pinned:
            return Refused(call_id, "ADAPTER_IN_USE", "the adapter is pinned: unpin it first")
        return Unloaded(call_id, self._memory.forget(digest))

    def answer(self) -> list[Reply]:
        """Answers the calls whose adapter is as far as it will get for now."""
        replies: list[Reply] = []
        # A load only makes an adapter ready sooner: it takes no page from one that is waited for.
        spared = self._admission.awaited_adapters
        for digest in tuple(self._pending):
            readiness = self._adapters.prepare(digest, self.awaited, spared)
            if readiness is not Readiness.LOADING:
                calls = self._pending.pop(digest)
                replies += [self._answer(call_id, digest, readiness) for call_id in calls]
        return replies

    def residencies(self) -> list[AdapterResidency]:
        """Of the adapters that hold memory or are waited for; not of all that are known."""
        cache, host = self._memory.cache, self._memory.host
        digests = dict.fromkeys((*cache.digests, *host.digests, *self.awaited))
        return [self._residency(digest) for digest in digests if self._adapters.knows(digest)]

    def _answer(self, call_id: int, digest: str, readiness: Readiness) -> Reply:
        is_pin = call_id in self._pinning
        self._pinning.discard(call_id)
        found_on = self._found_on.pop(call_id, "")
        if readiness is Readiness.FAILED:
            refusal = self._adapters.refusal(digest)
            assert refusal is not None
            return Refused(call_id, refusal.reason, refusal.message)
        if is_pin and (readiness is Readiness.NO_ROOM or not self._may_pin(digest)):
            message = "no room: pinned adapters leave pages for the largest request"
            return Refused(call_id, "OUT_OF_PAGES", message)
        if is_pin:
            self._memory.cache.pin(digest, True)
        return Loaded(call_id, self._residency(digest, found_on))

    def _may_pin(self, digest: str) -> bool:
        """Whether the largest request, with the largest adapter, still fits beside the pins."""
        adapters, cache = self._adapters, self._memory.cache
        pinned = cache.num_pinned_pages(besides=digest) + adapters.num_pages(digest)
        return pinned + adapters.most_pages + self._largest_request <= self._memory.pool.num_pages

    def _residency(self, digest: str, found_on: str = "") -> AdapterResidency:
        adapter, image = self._memory.cache.get(digest), self._memory.host.get(digest)
        num_pages = adapter.num_pages if adapter else 0
        on_device, packed = adapter is not None and adapter.is_ready, adapter or image
        return AdapterResidency(
            digest=digest,
            tier="device" if on_device else "host" if packed else "disk",
            pages=num_pages,
            size_bytes=num_pages * self._memory.page_bytes,
            rank=packed.max_rank if packed else 0,
            running_requests=self._admission.num_users(digest),
            host_bytes=image.num_bytes if image else 0,
            pinned=adapter is not None and adapter.is_pinned,
            found_on=found_on,
        )


def _unknown(call_id: int, digest: str) -> Refused:
    return Refused(call_id, "ADAPTER_UNKNOWN", f"{digest} is not loaded")
