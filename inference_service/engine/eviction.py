"""What leaves the arena first: one order over idle adapters and cached prefixes.

GreedyDual-Size-Frequency (Cherkasova, 1998): an item is worth the clock at its last use plus
uses x seconds to bring a page of it back; the clock is the worth of what was evicted last, so that
what was popular long ago does not stay for ever.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False, kw_only=True)
class Evictable:
    """What the arena keeps for its next use. `depth`: among equals, the deepest goes first."""

    num_pages: int
    depth: int = 0
    num_uses: int = 0
    worth: float = 0.0
    ticket: int = 0  # of its place in the queue; 0 while it is in use


@dataclass
class RebuildCosts:
    """Seconds to bring back a page of each kind, as measured lately."""

    adapter_page: float = 1e-4
    cached_block: float = 1e-3

    def observe_load(self, seconds: float, num_pages: int) -> None:
        self.adapter_page += 0.2 * (seconds / num_pages - self.adapter_page)

    def observe_prefill(self, seconds: float, num_blocks: float) -> None:
        self.cached_block += 0.2 * (seconds / num_blocks - self.cached_block)


@dataclass
class EvictionQueue:
    """Idle items, the least worth first. An item in use is not in it."""

    num_pages: int = 0
    _clock: float = 0.0
    _heap: list[tuple[float, int, int, Evictable]] = field(default_factory=list)
    _num_idle: int = 0
    _tickets: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def touch(self, item: Evictable, seconds_per_page: float) -> None:
        """Counts one more use of an item that is not idle."""
        assert not item.ticket
        item.num_uses += 1
        item.worth = self._clock + item.num_uses * seconds_per_page

    def add(self, item: Evictable) -> None:
        """The item is idle from now on."""
        assert not item.ticket
        item.ticket = next(self._tickets)
        self._num_idle += 1
        self.num_pages += item.num_pages
        heapq.heappush(self._heap, (item.worth, -item.depth, item.ticket, item))
        if len(self._heap) > 2 * self._num_idle + 64:
            self._heap = [entry for entry in self._heap if entry[2] == entry[3].ticket]
            heapq.heapify(self._heap)

    def discard(self, item: Evictable) -> None:
        """The item is used again, or gone. Its entry in the heap is passed over later."""
        if item.ticket:
            item.ticket = 0
            self._num_idle -= 1
            self.num_pages -= item.num_pages

    def pop(self, may_go: Callable[[Evictable], bool] = lambda _: True) -> Evictable | None:
        """Takes out the idle item that is worth least among those that may go."""
        kept = []
        found = None
        while self._heap and found is None:
            entry = heapq.heappop(self._heap)
            item = entry[3]
            if entry[2] != item.ticket:
                continue
            if may_go(item):
                found = item
            else:
                kept.append(entry)
        for entry in kept:
            heapq.heappush(self._heap, entry)
        if found is not None:
            self._clock = max(self._clock, found.worth)
            self.discard(found)
        return found

    def check_integrity(self) -> None:
        idle = [entry[3] for entry in self._heap if entry[2] == entry[3].ticket]
        assert len(idle) == self._num_idle
        assert sum(item.num_pages for item in idle) == self.num_pages
