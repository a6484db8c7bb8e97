"""Brings adapters from disk to host memory to the arena as requests need them."""

from collections.abc import Collection

from inference_service.engine.adapter_cache import AdapterCache
from inference_service.engine.adapter_loader import AdapterLoader, AdapterSource
from inference_service.engine.arena_memory import ArenaMemory
from inference_service.engine.eviction import RebuildCosts
from inference_service.engine.host_tier import HostTier
from inference_service.engine.page_pool import PagePool
from inference_service.engine.readiness import Readiness, Refusal

_MAX_LOADING = 4  # reads queued at the loader: enough to keep it busy


class AdapterManager:
    """Known adapters (digest -> where its files are) and the tier each is on.

    `host_keeps`: host memory keeps the image of a resident adapter, as beside a GPU. Otherwise
    both tiers are one memory: the image leaves the host when its pages are in the arena.
    """

    def __init__(
        self,
        pool: PagePool,
        memory: ArenaMemory,
        cache: AdapterCache,
        host: HostTier,
        loader: AdapterLoader,
        costs: RebuildCosts,
        max_resident: int = 0,
        host_keeps: bool = False,
    ) -> None:
        """`max_resident` 0 means as many as fit in the arena."""
        self._pool, self._memory, self._loader = pool, memory, loader
        self.cache, self.host = cache, host
        self._costs = costs
        self._max_resident, self._host_keeps = max_resident, host_keeps
        self._sources: dict[str, AdapterSource] = {}
        self._num_pages: dict[str, int] = {}
        self._refusals: dict[str, Refusal] = {}
        self.num_loads = 0

    def knows(self, digest: str) -> bool:
        return digest in self._sources

    def num_pages(self, digest: str) -> int:
        """Pages an adapter takes; 0 for the base model and before it was first loaded."""
        return self._num_pages.get(digest, 0)

    @property
    def most_pages(self) -> int:
        """Of any adapter that was loaded; 0 before one was."""
        return max(self._num_pages.values(), default=0)

    def refusal(self, digest: str) -> Refusal | None:
        """Why an adapter cannot be loaded; None when it can, as far as is known."""
        return self._refusals.get(digest)

    def add(self, digest: str, source: AdapterSource) -> None:
        """Makes an adapter known; a load that failed before is tried again."""
        self._sources[digest] = source
        self._refusals.pop(digest, None)

    def collect(self) -> list[str]:
        """Takes over what was loaded and copied; returns the digests of which more is known."""
        self.cache.settle()
        news = []
        for digest, result in self._loader.finished():
            if digest not in self._sources:
                continue  # unloaded meanwhile
            news.append(digest)
            if isinstance(result, Refusal):
                self._refusals[digest] = result
                continue
            image = result.image
            self.num_loads += 1
            self._num_pages[digest] = image.num_pages
            self._costs.observe_load(result.seconds, image.num_pages)
            if image.num_pages <= self._pool.num_pages:
                self.host.put(digest, image)
            else:
                message = f"needs {image.num_pages} pages, the arena has {self._pool.num_pages}"
                self._refusals[digest] = Refusal("OUT_OF_PAGES", f"adapter {digest} {message}")
        return news

    def prepare(
        self, digest: str, awaited: Collection[str], spared: Collection[str] = ()
    ) -> Readiness:
        """Moves an adapter as far towards the arena as it goes now.

        Idle ones make room for it, but for those in `spared`. Reading ahead stops while the
        images that requests wait for (`awaited`) fill the host tier.
        """
        resident = self.cache.get(digest)
        if resident is not None:
            return Readiness.RESIDENT if resident.is_ready else Readiness.LOADING
        if digest in self._refusals:
            return Readiness.FAILED
        image = self.host.get(digest)
        if image is None:
            self._read(digest, awaited)
            return Readiness.LOADING
        if not self._make_place(image.num_pages, spared):
            return Readiness.NO_ROOM
        if not self._host_keeps:
            self.host.take(digest)
        adapter = self.cache.insert(digest, image)
        return Readiness.RESIDENT if adapter.is_ready else Readiness.LOADING

    def forget(self, digest: str) -> int:
        """Frees an adapter's pages and what is known of it; returns the number of pages."""
        del self._sources[digest]
        self.host.take(digest)
        self._num_pages.pop(digest, None)
        self._refusals.pop(digest, None)
        resident = self.cache.get(digest)
        return self.cache.evict(resident) if resident is not None else 0

    def close(self) -> None:
        self._loader.close()

    def _read(self, digest: str, awaited: Collection[str]) -> None:
        num_loading = self._loader.num_loading
        if num_loading >= _MAX_LOADING:
            return
        if num_loading == 0 or self.host.num_awaited_bytes(awaited) < self.host.max_bytes:
            self._loader.start(digest, self._sources[digest])

    def _make_place(self, num_pages: int, spared: Collection[str]) -> bool:
        if not self._memory.can_make_room(num_pages, spared):
            return False
        is_full = bool(self._max_resident) and len(self.cache) >= self._max_resident
        if is_full and not self._memory.evict_an_adapter(spared):
            return False
        return self._memory.make_room(num_pages, spared)
