"""Which adapters have pages in the arena, who uses them, and which may leave."""

from collections.abc import Iterable, KeysView
from dataclasses import dataclass

import torch

from inference_service.engine.eviction import Evictable, EvictionQueue, RebuildCosts
from inference_service.engine.page_copier import Copy, PageCopier
from inference_service.engine.page_image import PageImage
from inference_service.engine.page_pool import PagePool, PageUse


@dataclass(eq=False, kw_only=True)
class ResidentAdapter(Evictable):
    """An adapter in the arena. Tables as in PageImage, chunk_offsets now absolute.

    It can be used, and evicted, once its copy has ended. `tables` is its image without the pages.
    """

    digest: str
    pages: list[int]
    descriptors: torch.Tensor
    chunk_offsets: torch.Tensor
    max_rank: int
    tables: PageImage
    copy: Copy
    is_ready: bool = False
    is_pinned: bool = False
    num_users: int = 0


class AdapterCache:
    """Resident adapters by digest. Idle ones wait in the arena's common eviction queue."""

    def __init__(
        self, pool: PagePool, copier: PageCopier, idle: EvictionQueue, costs: RebuildCosts
    ) -> None:
        self._pool, self._copier = pool, copier
        self._idle, self._costs = idle, costs
        self._resident: dict[str, ResidentAdapter] = {}
        self._copying: list[ResidentAdapter] = []
        self._num_pinned_pages = 0

    def __len__(self) -> int:
        return len(self._resident)

    @property
    def digests(self) -> KeysView[str]:
        return self._resident.keys()

    def num_pinned_pages(self, besides: str = "") -> int:
        """Pages of the pinned adapters other than `besides`."""
        other = self._resident.get(besides)
        return self._num_pinned_pages - (other.num_pages if other and other.is_pinned else 0)

    def get(self, digest: str) -> ResidentAdapter | None:
        """The adapter, ready or still being copied."""
        return self._resident.get(digest)

    def insert(self, digest: str, image: PageImage) -> ResidentAdapter:
        """Begins to copy an image to fresh pages; the pool must have them."""
        assert digest not in self._resident
        pages = self._pool.allocate(image.num_pages, PageUse.ADAPTER)
        adapter = ResidentAdapter(
            digest=digest,
            pages=pages,
            num_pages=len(pages),
            descriptors=image.descriptors,
            chunk_offsets=image.place(pages),
            max_rank=image.max_rank,
            tables=image.without_pages(),
            copy=self._copier.copy(image.pages, pages),
        )
        self._resident[digest] = adapter
        self._copying.append(adapter)
        self.settle()
        return adapter

    def settle(self) -> None:
        """Notices the copies that have ended; their adapters are ready, and idle."""
        still_copying = []
        for adapter in self._copying:
            if adapter.copy.done():
                adapter.is_ready = True
                self._idle.touch(adapter, self._costs.adapter_page)
                self._update(adapter)
            else:
                still_copying.append(adapter)
        self._copying = still_copying

    def acquire(self, digest: str) -> None:
        """A request begins to use a ready adapter, which then stays until released."""
        adapter = self._resident[digest]
        assert adapter.is_ready
        adapter.num_users += 1
        self._update(adapter)
        self._idle.touch(adapter, self._costs.adapter_page)

    def release(self, digest: str) -> None:
        adapter = self._resident[digest]
        assert adapter.num_users > 0
        adapter.num_users -= 1
        self._update(adapter)

    def pin(self, digest: str, pinned: bool) -> None:
        """A pinned adapter is not evicted, used or not."""
        adapter = self._resident[digest]
        self._num_pinned_pages += (pinned - adapter.is_pinned) * adapter.num_pages
        adapter.is_pinned = pinned
        self._update(adapter)

    def idle(self) -> Iterable[ResidentAdapter]:
        """The adapters that may be evicted now."""
        return (adapter for adapter in self._resident.values() if adapter.ticket)

    def read(self, adapter: ResidentAdapter) -> PageImage:
        """The image of a ready adapter, its pages copied out of the arena."""
        return adapter.tables.with_pages(self._copier.read(adapter.pages))

    def evict(self, adapter: ResidentAdapter) -> int:
        """Frees the pages of an adapter that is ready and has no users; returns their number."""
        assert adapter.is_ready, "evicting an adapter that is still being copied"
        assert not adapter.num_users, "evicting an adapter in use"
        assert not adapter.is_pinned, "evicting a pinned adapter"
        self._idle.discard(adapter)
        del self._resident[adapter.digest]
        self._pool.free(adapter.pages)
        return adapter.num_pages

    def _update(self, adapter: ResidentAdapter) -> None:
        """Its place in the eviction queue, or none."""
        may_leave = adapter.is_ready and not adapter.num_users and not adapter.is_pinned
        if may_leave and not adapter.ticket:
            self._idle.add(adapter)
        elif not may_leave:
            self._idle.discard(adapter)

    def check_integrity(self) -> None:
        pages = [page for adapter in self._resident.values() for page in adapter.pages]
        assert len(set(pages)) == len(pages) == self._pool.num_used(PageUse.ADAPTER)
        pinned = [adapter for adapter in self._resident.values() if adapter.is_pinned]
        assert self._num_pinned_pages == sum(adapter.num_pages for adapter in pinned)
        for adapter in self._resident.values():
            in_use = adapter.num_users or adapter.is_pinned or not adapter.is_ready
            assert bool(adapter.ticket) != bool(in_use)
