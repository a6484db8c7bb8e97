"""Who owns each page of the arena. KV and adapters draw on one pool; neither has a reserve."""

from collections.abc import Iterable
from enum import Enum


class PageUse(Enum):
    KV = "kv"  # of sequences that run now
    CACHED = "cached"  # KV of a prefix that no running sequence uses
    ADAPTER = "adapter"


class OutOfPagesError(RuntimeError):
    """`allocate` was called without asking `can_allocate`."""


class PagePool:
    """Ids 0..num_pages-1; free + kv + cached + adapter = total, always."""

    def __init__(self, num_pages: int) -> None:
        self._uses: list[PageUse | None] = [None] * num_pages
        self._free = list(range(num_pages - 1, -1, -1))
        self._counts = dict.fromkeys(PageUse, 0)

    @property
    def num_pages(self) -> int:
        return len(self._uses)

    @property
    def num_free(self) -> int:
        return len(self._free)

    def num_used(self, use: PageUse) -> int:
        return self._counts[use]

    def can_allocate(self, num_pages: int) -> bool:
        return num_pages <= len(self._free)

    def allocate(self, num_pages: int, use: PageUse) -> list[int]:
        if not self.can_allocate(num_pages):
            raise OutOfPagesError(f"{num_pages} pages asked for, {self.num_free} free")
        pages = [self._free.pop() for _ in range(num_pages)]
        for page in pages:
            self._uses[page] = use
        self._counts[use] += num_pages
        return pages

    def reassign(self, page: int, use: PageUse) -> None:
        """A page that is in use goes on under another one."""
        before = self._uses[page]
        assert before is not None, f"page {page} is free"
        self._counts[before] -= 1
        self._counts[use] += 1
        self._uses[page] = use

    def free(self, pages: Iterable[int]) -> None:
        for page in pages:
            use = self._uses[page]
            assert use is not None, f"page {page} freed twice"
            self._uses[page] = None
            self._counts[use] -= 1
            self._free.append(page)

    def check_integrity(self) -> None:
        """For tests: the free list and the counts tell the same story."""
        assert len(set(self._free)) == len(self._free)
        assert all(self._uses[page] is None for page in self._free)
        for use in PageUse:
            assert self._counts[use] == self._uses.count(use)
        assert self.num_free + sum(self._counts.values()) == self.num_pages
