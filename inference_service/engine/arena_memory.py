"""Makes room in the arena: what is idle leaves, adapters and cached prefixes alike."""

from collections.abc import Collection

from inference_service.engine.adapter_cache import AdapterCache, ResidentAdapter
from inference_service.engine.eviction import Evictable, EvictionQueue
from inference_service.engine.host_tier import HostTier
from inference_service.engine.page_pool import PagePool
from inference_service.engine.prefix_cache import CachedBlock, PrefixCache


class ArenaMemory:
    """Evicts by the one order of the eviction queue, whoever asks for pages."""

    def __init__(
        self,
        pool: PagePool,
        idle: EvictionQueue,
        prefixes: PrefixCache,
        adapters: AdapterCache,
        spill: HostTier | None,
    ) -> None:
        """With `spill`, an evicted adapter's pages are kept there: host memory has no copy yet."""
        self._pool, self._idle = pool, idle
        self._prefixes, self._adapters = prefixes, adapters
        self._spill = spill
        self.num_evictions = 0

    @property
    def num_pages(self) -> int:
        return self._pool.num_pages

    def can_make_room(self, num_pages: int, spared: Collection[str] = ()) -> bool:
        """Whether `num_pages` are free, or would be without all that is idle and not `spared`."""
        available = self._pool.num_free + self._idle.num_pages
        for digest in spared:
            adapter = self._adapters.get(digest)
            if adapter is not None and adapter.ticket:
                available -= adapter.num_pages
        return num_pages <= available

    def make_room(self, num_pages: int, spared: Collection[str] = ()) -> bool:
        """Evicts until `num_pages` are free; evicts nothing where that cannot be reached.

        `spared` are digests of adapters that stay.
        """
        if self._pool.can_allocate(num_pages):
            return True
        if not self.can_make_room(num_pages, spared):
            return False

        def may_go(item: Evictable) -> bool:
            return not isinstance(item, ResidentAdapter) or item.digest not in spared

        while not self._pool.can_allocate(num_pages):
            item = self._idle.pop(may_go)
            assert item is not None
            self._evict(item)
        return True

    def evict_an_adapter(self, spared: Collection[str] = ()) -> bool:
        """Evicts the idle adapter worth least; False when there is none."""
        candidates = [a for a in self._adapters.idle() if a.digest not in spared]
        if not candidates:
            return False
        adapter = min(candidates, key=lambda candidate: candidate.worth)
        self._idle.discard(adapter)
        self._evict(adapter)
        return True

    def _evict(self, item: Evictable) -> None:
        if isinstance(item, ResidentAdapter):
            self.num_evictions += 1
            if self._spill is not None and self._spill.max_bytes:
                self._spill.put(item.digest, self._adapters.read(item))
            self._adapters.evict(item)
        else:
            assert isinstance(item, CachedBlock)
            self._prefixes.evict(item)
