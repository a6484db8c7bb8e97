"""Copies page images into the arena without stalling what runs there.

    copier = make_page_copier(arena)          # one per arena, used by the engine's thread
    pages = copier.stage(image.pages)         # on the loader's thread: pinned, where that helps
    copy = copier.copy(pages, page_ids)       # on the engine's thread: returns at once
    copy.done()                               # the pages may be used, and evicted

What holds, on a GPU as on a CPU:

- A copy begins after all work queued on the current stream when `copy` was called: kernels of steps
  already launched read what was in those pages before. So pages may be freed while a step that
  reads them still runs, and be taken by a copy right away.
- Work queued after `done()` was true sees the copied pages.
- Pages must not be freed before their copy is done: nothing else orders two copies, or a copy and
  a later kernel.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import torch

from inference_service.engine.background import background_executor
from inference_service.engine.load_pace import LoadPace

# Smaller ones are a few milliseconds of memcpy. A thread that gives way to a busy engine's steps
# takes many times as long, and whoever waits for the adapter waits for one more step.
_INLINE_BYTES = 32 << 20
_PIECE_BYTES = 4 << 20  # half a millisecond of it


class Copy(Protocol):
    """A copy on its way."""

    def done(self) -> bool:
        """Whether the pages have arrived; never waits."""


class PageCopier(Protocol):
    """Moves whole pages [num_pages, page_elems] between host memory and one arena."""

    def stage(self, pages: torch.Tensor) -> torch.Tensor:
        """The same pages, in memory that a copy need not stage first. Slow; any thread may call."""

    def copy(self, pages: torch.Tensor, page_ids: list[int]) -> Copy:
        """Begins to copy pages[i], on the host, to arena[page_ids[i]].

        The pages must not change until the copy is done; they are kept alive until then.
        """

    def read(self, page_ids: list[int]) -> torch.Tensor:
        """A copy of the arena's pages on the host, after all work queued so far. Waits for it."""

    def close(self) -> None:
        """Waits for the copies under way."""


def make_page_copier(arena: torch.Tensor, pace: LoadPace | None = None) -> PageCopier:
    """The copier for an arena [num_pages, page_elems]; without a `pace`, a copy never rests."""
    return CudaPageCopier(arena) if arena.device.type == "cuda" else HostPageCopier(arena, pace)


class HostPageCopier:
    """For an arena in host memory: large copies are made on a thread, small ones at once."""

    def __init__(self, arena: torch.Tensor, pace: LoadPace | None = None) -> None:
        self._arena = arena
        self._pace = pace or LoadPace(fills_processors=False)
        self._executor = background_executor("page-copier")

    def stage(self, pages: torch.Tensor) -> torch.Tensor:
        return pages

    def copy(self, pages: torch.Tensor, page_ids: list[int]) -> Copy:
        if pages.nbytes > _INLINE_BYTES:
            return _ThreadCopy(self._executor.submit(self._copy_in_pieces, pages, page_ids))
        _copy_runs(self._arena, pages, page_ids)
        return _FinishedCopy()

    def read(self, page_ids: list[int]) -> torch.Tensor:
        return self._arena[torch.tensor(page_ids, dtype=torch.int64)]

    def close(self) -> None:
        self._executor.shutdown(wait=True)

    def _copy_in_pieces(self, pages: torch.Tensor, page_ids: list[int]) -> None:
        rest = self._pace.begin()
        piece = max(1, _PIECE_BYTES // pages[0].nbytes)
        for begin in range(0, len(page_ids), piece):
            end = begin + piece
            _copy_runs(self._arena, pages[begin:end], page_ids[begin:end])
            rest()


@dataclass(frozen=True)
class _ThreadCopy:
    """Raises what the copy raised: pages half written must never be used."""

    future: "Future[None]"

    def done(self) -> bool:
        if not self.future.done():
            return False
        self.future.result()
        return True


class _FinishedCopy:
    def done(self) -> bool:
        return True


class CudaPageCopier:
    """Copies on a stream of its own, from pinned memory, so that the copy engine does the work."""

    def __init__(self, arena: torch.Tensor) -> None:
        self._arena = arena
        self._stream = torch.cuda.Stream(arena.device)  # type: ignore[no-untyped-call]

    def stage(self, pages: torch.Tensor) -> torch.Tensor:
        return pages if pages.is_pinned() else pages.pin_memory()

    def copy(self, pages: torch.Tensor, page_ids: list[int]) -> Copy:
        """Pages that were not staged are staged here, which takes the host a copy's time."""
        staged = self.stage(pages)
        self._stream.wait_stream(torch.cuda.current_stream(self._arena.device))
        with torch.cuda.stream(self._stream):
            _copy_runs(self._arena, staged, page_ids)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
        return _CudaCopy(staged, arrived)

    def read(self, page_ids: list[int]) -> torch.Tensor:
        where = torch.tensor(page_ids, dtype=torch.int64, device=self._arena.device)
        return self._arena[where].cpu()

    def close(self) -> None:
        self._stream.synchronize()


@dataclass(frozen=True)
class _CudaCopy:
    """`staged` is only here to live until the copy has ended."""

    staged: torch.Tensor
    arrived: torch.cuda.Event

    def done(self) -> bool:
        return bool(self.arrived.query())  # type: ignore[no-untyped-call]


def _copy_runs(arena: torch.Tensor, pages: torch.Tensor, page_ids: list[int]) -> None:
    """One copy for each run of neighbouring pages."""
    assert len(page_ids) == pages.shape[0]
    assert pages.dtype == arena.dtype, "a copy does not convert"
    for begin, end in page_runs(page_ids):
        first = page_ids[begin]
        arena[first : first + end - begin].copy_(pages[begin:end], non_blocking=True)


def page_runs(page_ids: list[int]) -> Iterator[tuple[int, int]]:
    """The stretches [begin, end) of the list in which each page follows the one before."""
    begin = 0
    for end in range(1, len(page_ids) + 1):
        if end == len(page_ids) or page_ids[end] != page_ids[end - 1] + 1:
            yield begin, end
            begin = end
