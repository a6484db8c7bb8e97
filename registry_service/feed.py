"""The change feed in this process: the latest changes, and who is told of them."""

import asyncio
import time
from collections.abc import Callable, Sequence

from protos import registry_pb2 as pb
from registry_service.messages import change_message
from registry_service.repository.journal import Change

# What was read from the database so long ago may be wrong: nothing is answered from memory.
MAX_SILENCE_SECONDS = 1.0
_NUM_KEPT = 10_000


class ChangeFeed:
    """Used from the event loop only. A `Tail` moves it on; watchers and caches follow it.

    `position` is the revision up to which this process knows every change; revisions of different
    eras have nothing to do with each other.
    """

    def __init__(self) -> None:
        self.position = 0
        self.era = 0
        self._kept: dict[int, pb.WatchAdaptersResponse] = {}
        self._bell = asyncio.Event()
        self._wake = asyncio.Event()
        self._contact = float("-inf")
        self._listeners: list[tuple[Callable[[Change], None], Callable[[], None]]] = []

    def tell(self, changed: Callable[[Change], None], lost: Callable[[], None]) -> None:
        """`changed` hears of every change, at least once; `lost` when some cannot be told."""
        self._listeners.append((changed, lost))

    def is_current(self) -> bool:
        """Whether the database was heard of recently enough to trust what is remembered."""
        return time.monotonic() - self._contact < MAX_SILENCE_SECONDS

    def committed(self, changes: Sequence[Change]) -> None:
        """A transaction of this process is done, and its caller does not know yet."""
        self._announce(changes)
        self.wake()

    def wake(self) -> None:
        """There may be something new in the table."""
        self._wake.set()

    async def woken(self, seconds: float) -> None:
        """Returns after `wake`, or after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    def advance(self, changes: Sequence[Change], asked_at: float) -> None:
        """The changes after `position`, without gaps, as read by a query begun at `asked_at`."""
        self._announce(changes)
        for change in changes:
            assert change.revision == self.position + 1, "the feed has no gaps"
            self._kept[change.revision] = change_message(change)
            self._kept.pop(change.revision - _NUM_KEPT, None)
            self.position = change.revision
        self._contact = asked_at
        if changes:
            self._ring()

    def restart(self, position: int, asked_at: float) -> None:
        """Begins at `position`: at the start, or when the database was replaced by an older one."""
        self.position, self._contact = position, asked_at
        self.era += 1
        self._kept.clear()
        for _, lost in self._listeners:
            lost()
        self._ring()

    def listen(self) -> asyncio.Event:
        """Set when there is more. Take it before reading, or a change may slip between."""
        return self._bell

    def after(self, revision: int) -> list[pb.WatchAdaptersResponse] | None:
        """The changes after `revision` that are known here; None when they are no longer kept."""
        if revision >= self.position:
            return []
        if revision + 1 not in self._kept:
            return None
        return [self._kept[number] for number in range(revision + 1, self.position + 1)]

    def _announce(self, changes: Sequence[Change]) -> None:
        for change in changes:
            for changed, _ in self._listeners:
                changed(change)

    def _ring(self) -> None:
        self._bell.set()
        self._bell = asyncio.Event()
