"""The work of a step's LoRA plan: lists on the device, of fixed capacity, with their counts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from kernels.layouts import CHUNK_ROWS, TILE_ROWS

if TYPE_CHECKING:
    from kernels.layouts import LoraPlan

ROW_GROUP = 4  # single tokens of one adapter that a program works on, one after the other
_ALIGNED = 4  # int32 elements: every list begins where 16-byte loads may


@dataclass(frozen=True)
class LoraWork:
    """One kind of a plan's rows: single tokens, or tiles of runs of tokens.

    The first `counts[0]` of `tiles` [max_rows, 3] are (adapter, start, count) as in LoraPlan, into
    `rows` [max_rows]; the first `counts[1]` of `chunks` [_, 2] are (tile, chunk) for every chunk
    of the largest rank of the tile's adapter. All int32, views of one `buffer`.
    Intermediate results are kept for ranks up to `max_rank`, and for up to `max_rows` rows.
    """

    buffer: torch.Tensor
    counts: torch.Tensor
    rows: torch.Tensor
    tiles: torch.Tensor
    chunks: torch.Tensor
    max_rows: int
    max_rank: int
    single_tokens: bool

    @classmethod
    def empty(
        cls, device: torch.device, max_rows: int, max_chunks: int, max_rank: int, single: bool
    ) -> "LoraWork":
        """No work yet, and room for `max_rows` rows and `max_chunks` pairs of tile and chunk."""
        sizes = [2, max_rows, 3 * max_rows, 2 * max_chunks]
        ends = np.cumsum([-(-size // _ALIGNED) * _ALIGNED for size in sizes])
        buffer = torch.zeros(int(ends[-1]), dtype=torch.int32, device=device)
        counts, rows, tiles, chunks = (
            buffer[begin : begin + size]
            for begin, size in zip([0, *ends[:-1].tolist()], sizes, strict=True)
        )
        return cls(
            *(buffer, counts, rows, tiles.view(-1, 3), chunks.view(-1, 2)),
            *(max_rows, max_rank, single),
        )

    def fill(self, plan: "LoraPlan") -> None:
        """Takes over this kind of rows of `plan`, by one copy that is not waited for."""
        self._fill(_select(plan, self.single_tokens), plan.max_rank)

    def _fill(self, lists: "_Lists", max_rank: int) -> None:
        assert len(lists.rows) <= self.max_rows
        assert len(lists.chunks) <= self.chunks.shape[0]
        assert max_rank <= self.max_rank
        host = torch.empty(
            self.buffer.shape, dtype=torch.int32, pin_memory=self.buffer.device.type == "cuda"
        )
        array = host.numpy()
        for view, values in (
            (self.counts, [len(lists.tiles), len(lists.chunks)]),
            (self.rows, lists.rows),
            (self.tiles, lists.tiles),
            (self.chunks, lists.chunks),
        ):
            begin = view.storage_offset()
            flat = np.asarray(values, np.int32).ravel()
            array[begin : begin + flat.size] = flat
        self.buffer.copy_(host, non_blocking=True)


def make_work(plan: "LoraPlan", device: torch.device) -> tuple[LoraWork, ...]:
    """Just the work of a plan: one list for each kind of rows that it has."""
    made = []
    for single in (True, False):
        lists = _select(plan, single)
        if lists.rows:
            num_rows, num_chunks = len(lists.rows), len(lists.chunks)
            work = LoraWork.empty(device, num_rows, num_chunks, plan.max_rank, single)
            work._fill(lists, plan.max_rank)
            made.append(work)
    return tuple(made)


class _Lists(NamedTuple):
    rows: list[int]
    tiles: list[tuple[int, int, int]]
    chunks: list[tuple[int, int]]


def _select(plan: "LoraPlan", single: bool) -> _Lists:
    """One kind of a plan's rows, as LoraWork has them."""
    split, rows = plan.num_single_rows, plan.rows.tolist()
    first, group = (0, ROW_GROUP) if single else (split, TILE_ROWS)
    ranks = plan.tile_ranks or [plan.max_rank] * plan.tiles.shape[0]
    tiles, chunks = [], []
    for (adapter, start, count), rank in zip(plan.tiles.tolist(), ranks, strict=True):
        if (start < split) != single:
            continue
        for begin in range(start, start + count, group):
            chunks += [(len(tiles), chunk) for chunk in range(-(-rank // CHUNK_ROWS))]
            tiles.append((adapter, begin - first, min(group, start + count - begin)))
    return _Lists(rows[:split] if single else rows[split:], tiles, chunks)
