"""Packed adapters in host memory: what was evicted or is on its way in, within a byte budget."""

from collections.abc import Collection, KeysView
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference_service.engine.page_image import PageImage


class HostTier:
    """Page images by digest, least recently used first.

    The budget gives way to images that are awaited: dropping those would only load them again.
    """

    def __init__(self, max_bytes: int, max_images: int = 0) -> None:
        """`max_images` 0 means as many as fit in `max_bytes`."""
        self._max_bytes, self._max_images = max_bytes, max_images
        self._images: dict[str, PageImage] = {}
        self._num_bytes = 0

    @property
    def num_bytes(self) -> int:
        return self._num_bytes

    @property
    def max_bytes(self) -> int:
        return self._max_bytes

    @property
    def digests(self) -> KeysView[str]:
        return self._images.keys()

    def get(self, digest: str) -> "PageImage | None":
        """Queries only; `take` and `put` count as uses."""
        return self._images.get(digest)

    def put(self, digest: str, image: "PageImage") -> None:
        self.take(digest)
        self._images[digest] = image
        self._num_bytes += image.num_bytes

    def take(self, digest: str) -> "PageImage | None":
        """Removes and returns an image."""
        image = self._images.pop(digest, None)
        if image is not None:
            self._num_bytes -= image.num_bytes
        return image

    def num_awaited_bytes(self, awaited: Collection[str]) -> int:
        return sum(self._images[digest].num_bytes for digest in awaited if digest in self._images)

    def trim(self, awaited: Collection[str]) -> None:
        """Drops images until the limits hold, but none that is awaited."""
        if not self._is_over():
            return  # every step asks, and there may be thousands of images
        for digest in tuple(self._images):
            if not self._is_over():
                break
            if digest not in awaited:
                self.take(digest)

    def _is_over(self) -> bool:
        too_many = bool(self._max_images) and len(self._images) > self._max_images
        return too_many or self._num_bytes > self._max_bytes

    def check_integrity(self) -> None:
        assert self._num_bytes == sum(image.num_bytes for image in self._images.values())
