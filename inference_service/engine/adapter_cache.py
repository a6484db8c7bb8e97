"""Which adapters have pages in the arena, who uses them, and which to evict next."""

from collections.abc import Collection
from dataclasses import dataclass

import torch

from inference_service.engine.page_image import PageImage
from inference_service.engine.page_pool import PagePool, PageUse


@dataclass(eq=False)
class ResidentAdapter:
    """An adapter in the arena. Tables as in PageImage, chunk_offsets now absolute."""

    digest: str
    pages: list[int]
    descriptors: torch.Tensor
    chunk_offsets: torch.Tensor
    max_rank: int
    num_users: int = 0


class AdapterCache:
    """Resident adapters, least recently used first. Only adapters without users are evicted."""

    def __init__(self, pool: PagePool, arena: torch.Tensor) -> None:
        self._pool = pool
        self._arena = arena
        self._resident: dict[str, ResidentAdapter] = {}

    def get(self, digest: str) -> ResidentAdapter | None:
        return self._resident.get(digest)

    def insert(self, digest: str, image: PageImage) -> ResidentAdapter:
        """Copies an image to fresh pages; the pool must have them."""
        assert digest not in self._resident
        pages = self._pool.allocate(image.num_pages, PageUse.ADAPTER)
        self._arena[torch.tensor(pages)] = image.pages.to(self._arena.device)
        offsets = image.place(pages)
        adapter = ResidentAdapter(digest, pages, image.descriptors, offsets, image.max_rank)
        self._resident[digest] = adapter
        return adapter

    def acquire(self, digest: str) -> None:
        """A request begins to use a resident adapter, which then stays until released."""
        adapter = self._resident.pop(digest)
        adapter.num_users += 1
        self._resident[digest] = adapter  # most recently used

    def release(self, digest: str) -> None:
        adapter = self._resident[digest]
        assert adapter.num_users > 0
        adapter.num_users -= 1

    def evict_idle(self, spared: Collection[str] = ()) -> bool:
        """Frees the idle adapter used longest ago and not `spared`; says whether there was one."""
        for adapter in self._resident.values():
            if adapter.num_users == 0 and adapter.digest not in spared:
                self.evict(adapter.digest)
                return True
        return False

    def evict(self, digest: str) -> int:
        """Frees an adapter without users; returns its number of pages."""
        adapter = self._resident.pop(digest)
        assert adapter.num_users == 0, "evicting an adapter in use"
        self._pool.free(adapter.pages)
        return len(adapter.pages)

    def check_integrity(self) -> None:
        pages = [page for adapter in self._resident.values() for page in adapter.pages]
        assert len(set(pages)) == len(pages) == self._pool.num_used(PageUse.ADAPTER)
