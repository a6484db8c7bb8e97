"""Who uses which adapter's files now, by count."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Leases:
    """Counts by digest; used from one event loop."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._ended: dict[str, asyncio.Event] = {}  # of those waited for

    def count(self, digest: str) -> int:
        return self._counts[digest]

    @contextmanager
    def held(self, digest: str) -> Iterator[None]:
        self._counts[digest] += 1
        try:
            yield
        finally:
            self._counts[digest] -= 1
            if not self._counts[digest]:
                del self._counts[digest]
                if digest in self._ended:
                    self._ended.pop(digest).set()

    async def wait_until_none(self, digest: str) -> None:
        """Returns at a moment when nothing holds one."""
        while self._counts[digest]:
            await self._ended.setdefault(digest, asyncio.Event()).wait()
