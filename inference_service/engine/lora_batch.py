"""Groups the tokens of a step by adapter, in the form the kernels read."""

import torch

from inference_service.engine.adapter_cache import ResidentAdapter
from inference_service.engine.lora_tables import LoraTables
from kernels.layouts import CHUNK_ROWS, TILE_ROWS, LoraPlan
from kernels.lora_work import LoraWork

Span = tuple[ResidentAdapter | None, int]


class LoraPlanner:
    """Builds a step's plan; keeps it while steps look alike, as when all sequences decode."""

    def __init__(self, tables: LoraTables) -> None:
        self._tables = tables
        self._spans: list[Span] = []
        self._plan: LoraPlan | None = None

    def plan(self, spans: list[Span]) -> LoraPlan | None:
        """`spans` are the step's runs of tokens, in order, with their adapter (None: base only).

        Returns None when no token has an adapter, and the same plan again for the same spans.
        """
        if spans != self._spans:
            self._spans, self._plan = spans, self._make_plan(spans)
        return self._plan

    def _make_plan(self, spans: list[Span]) -> LoraPlan | None:
        single, runs = _rows_by_adapter(spans)
        adapters = {**single, **runs}
        if not adapters:
            return None
        slots = self._tables.place(adapters)
        rows: list[int] = []
        tiles: list[tuple[int, int, int]] = []
        ranks: list[int] = []
        for group in (single, runs):
            for adapter in sorted(group, key=lambda adapter: adapter.digest):
                start, end = len(rows), len(rows) + len(group[adapter])
                rows += group[adapter]
                starts = range(start, end, TILE_ROWS)
                tiles += [(slots[adapter], s, min(TILE_ROWS, end - s)) for s in starts]
                ranks += [adapter.max_rank] * len(starts)
        return LoraPlan(
            rows=torch.tensor(rows, dtype=torch.int32),
            tiles=torch.tensor(tiles, dtype=torch.int32),
            descriptors=self._tables.descriptors,
            chunk_offsets=self._tables.chunk_offsets,
            max_rank=max(ranks),
            num_single_rows=sum(map(len, single.values())),
            tile_ranks=tuple(ranks),
        )


def _rows_by_adapter(
    spans: list[Span],
) -> tuple[dict[ResidentAdapter, list[int]], dict[ResidentAdapter, list[int]]]:
    """Row numbers by adapter: of tokens alone in their span, and of those that are not."""
    single: dict[ResidentAdapter, list[int]] = {}
    runs: dict[ResidentAdapter, list[int]] = {}
    start = 0
    for adapter, num_tokens in spans:
        if adapter is not None:
            group = single if num_tokens == 1 else runs
            group.setdefault(adapter, []).extend(range(start, start + num_tokens))
        start += num_tokens
    return single, runs


def make_static_plan(tables: LoraTables, num_rows: int) -> LoraPlan:
    """A plan without work, whose `work` takes that of any plan of `num_rows` single tokens."""
    max_chunks = num_rows * -(-tables.max_rank // CHUNK_ROWS)
    work = LoraWork.empty(tables.device, num_rows, max_chunks, tables.max_rank, single=True)
    return LoraPlan(
        rows=torch.empty(0, dtype=torch.int32),
        tiles=torch.empty(0, 3, dtype=torch.int32),
        descriptors=tables.descriptors,
        chunk_offsets=tables.chunk_offsets,
        max_rank=tables.max_rank,
        work=(work,),
    )
