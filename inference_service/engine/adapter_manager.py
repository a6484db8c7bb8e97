"""Brings the adapters that requests need into the arena, and tells how far each one is."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from inference_service.engine.adapter_cache import AdapterCache
from inference_service.engine.adapter_loader import AdapterLoader
from inference_service.engine.page_image import PageImage
from inference_service.engine.page_pool import PagePool
from inference_service.engine.peft_adapter import AdapterInvalidError


class Readiness(Enum):
    RESIDENT = "resident"
    LOADING = "loading"
    NO_ROOM = "no room"  # packed, and waiting for pages
    FAILED = "failed"


@dataclass(frozen=True)
class Refusal:
    """Why an adapter or a request cannot be served; `reason` is an ErrorInfo reason."""

    reason: str
    message: str


class AdapterManager:
    """Known adapters (digest -> directory), images on their way in, and the resident ones."""

    def __init__(self, pool: PagePool, cache: AdapterCache, loader: AdapterLoader) -> None:
        self._pool, self._loader = pool, loader
        self.cache = cache
        self._paths: dict[str, Path] = {}
        self._images: dict[str, PageImage] = {}
        self._num_pages: dict[str, int] = {}
        self._refusals: dict[str, Refusal] = {}

    @property
    def digests(self) -> list[str]:
        return list(self._paths)

    def knows(self, digest: str) -> bool:
        return digest in self._paths

    def num_pages(self, digest: str) -> int:
        """Pages an adapter takes; 0 before it was first loaded."""
        return self._num_pages.get(digest, 0)

    def refusal(self, digest: str) -> Refusal:
        """Why an adapter is FAILED."""
        return self._refusals[digest]

    def add(self, digest: str, path: Path) -> None:
        """Makes an adapter known; a load that failed before is tried again."""
        self._paths[digest] = path
        self._refusals.pop(digest, None)

    def collect(self) -> None:
        """Takes over what the loader has finished."""
        for digest, result in self._loader.finished():
            if isinstance(result, AdapterInvalidError):
                self._refusals[digest] = Refusal("ADAPTER_INVALID", str(result))
                continue
            self._num_pages[digest] = result.num_pages
            if result.num_pages <= self._pool.num_pages:
                self._images[digest] = result
            else:
                message = f"needs {result.num_pages} pages, the arena has {self._pool.num_pages}"
                self._refusals[digest] = Refusal("OUT_OF_PAGES", f"adapter {digest} {message}")

    def has_failed(self, digest: str) -> bool:
        return digest in self._refusals

    def prepare(self, digest: str, spared: Collection[str] = ()) -> Readiness:
        """Moves an adapter as far towards the arena as it goes now.

        Idle adapters make room for it, but for those in `spared`.
        """
        if self.cache.get(digest) is not None:
            return Readiness.RESIDENT
        if self.has_failed(digest):
            return Readiness.FAILED
        image = self._images.get(digest)
        if image is None:
            self._loader.start(digest, self._paths[digest])
            return Readiness.LOADING
        if not self.make_room(image.num_pages, spared):
            return Readiness.NO_ROOM
        self.cache.insert(digest, self._images.pop(digest))
        return Readiness.RESIDENT

    def make_room(self, num_pages: int, spared: Collection[str] = ()) -> bool:
        """Evicts idle adapters until `num_pages` are free; says whether they are."""
        while not self._pool.can_allocate(num_pages):
            if not self.cache.evict_idle(spared):
                return False
        return True

    def drop_images(self, wanted: set[str]) -> None:
        """Forgets packed adapters that wait for room and that nobody waits for."""
        for digest in self._images.keys() - wanted:
            del self._images[digest]

    def forget(self, digest: str) -> int:
        """Frees an adapter's pages and what is known of it; returns the number of pages."""
        del self._paths[digest]
        self._images.pop(digest, None)
        self._refusals.pop(digest, None)
        return self.cache.evict(digest) if self.cache.get(digest) is not None else 0

    def close(self) -> None:
        self._loader.close()
