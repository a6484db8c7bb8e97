"""How fast adapters are downloaded: slower, while that would hold up the streams that run."""

import time
from asyncio import sleep
from collections.abc import Callable
from typing import Final

# Receiving, checking and writing a megabyte takes 4 ms of a processor: this is a tenth of one.
BYTES_PER_SECOND: Final = 25_000_000


class DownloadPace:
    """One for all downloads, which share the rate. Used from one event loop."""

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        """`is_busy`: whether streams are served on the processors that downloads need too."""
        self._is_busy = is_busy
        self._free_at = 0.0  # of time.monotonic, when the rate allows more

    async def rest(self, num_bytes: int) -> None:
        """To be called after so many bytes; returns when more may be asked for."""
        if self._is_busy():
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + num_bytes / BYTES_PER_SECOND
            await sleep(self._free_at - now)
