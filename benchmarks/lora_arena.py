"""Random adapters of one site in an arena, held as the engine holds them; for tests as well."""

from collections.abc import Sequence as Series

import torch

from inference_service.engine.adapter_cache import AdapterCache, ResidentAdapter
from inference_service.engine.eviction import EvictionQueue, RebuildCosts
from inference_service.engine.lora_batch import LoraPlanner
from inference_service.engine.lora_tables import LoraTables
from inference_service.engine.page_copier import make_page_copier
from inference_service.engine.page_image import PageImage, pack
from inference_service.engine.page_pool import PagePool
from inference_service.engine.peft_adapter import LoraMatrices
from kernels.layouts import ALIGNMENT, CHUNK_ROWS, LoraPlan, LoraSite, LoraSlice


class LoraArena:
    """One layer whose only site reads `in_features` and has `out_features` per slice.

    Adapter i has ranks[i] in every slice, or ranks[i][s] in slice s; 0 leaves a slice alone.
    """

    def __init__(
        self,
        in_features: int,
        out_features: Series[int],
        ranks: Series[int | Series[int]],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        starts = [sum(out_features[:index]) for index in range(len(out_features))]
        slices = [LoraSlice(*part) for part in zip(range(9), starts, out_features, strict=False)]
        self.site = LoraSite.make(in_features, tuple(slices), device)
        self.page_elems = CHUNK_ROWS * _aligned(max(in_features, *out_features))
        num_slices = len(out_features)
        by_slice = [[r] * num_slices if isinstance(r, int) else list(r) for r in ranks]
        images = [self._image(per_slice, dtype) for per_slice in by_slice]
        num_pages = sum(image.num_pages for image in images)
        self.arena = torch.zeros(num_pages, self.page_elems, dtype=dtype, device=device)
        copier = make_page_copier(self.arena)
        cache = AdapterCache(PagePool(num_pages), copier, EvictionQueue(), RebuildCosts())
        self.adapters = [cache.insert(f"{i:04}", image) for i, image in enumerate(images)]
        copier.close()
        highest = max(max(per_slice) for per_slice in by_slice)
        self.tables = LoraTables(len(ranks), 1, num_slices, highest, device)
        self._planner = LoraPlanner(self.tables)

    def plan(self, spans: Series[tuple[int | None, int]]) -> LoraPlan:
        """The plan of runs of tokens: (index of the adapter, or None for the base, tokens)."""
        resident: list[tuple[ResidentAdapter | None, int]] = [
            (None if index is None else self.adapters[index], num_tokens)
            for index, num_tokens in spans
        ]
        plan = self._planner.plan(resident)
        assert plan is not None
        return plan

    def random(self, num_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """x [num_rows, in] and y [num_rows, out] of the site."""
        width = self.site.slices[-1].out_start + self.site.slices[-1].out_features
        like = self.arena
        return tuple(
            torch.randn(num_rows, columns, device=like.device).to(like.dtype)
            for columns in (self.site.in_features, width)
        )  # type: ignore[return-value]

    def matrices(self, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """A [rank, in] and B [rank, out] of each slice of an adapter, read back from the arena."""
        adapter, pairs = self.adapters[index], []
        for part in self.site.slices:
            rank, first = adapter.descriptors[0, part.module].tolist()
            num_chunks = -(-rank // CHUNK_ROWS)
            offsets = adapter.chunk_offsets[first : first + 2 * num_chunks].tolist()
            a = self._gather(offsets[:num_chunks], rank, self.site.in_features)
            pairs.append((a, self._gather(offsets[num_chunks:], rank, part.out_features)))
        return pairs

    def _gather(self, offsets: list[int], rank: int, width: int) -> torch.Tensor:
        flat = self.arena.view(-1)
        sizes = [min(CHUNK_ROWS, rank - CHUNK_ROWS * i) * width for i in range(len(offsets))]
        chunks = [flat[at : at + size] for at, size in zip(offsets, sizes, strict=True)]
        return torch.cat([flat[:0], *chunks]).view(rank, width)

    def _image(self, ranks: Series[int], dtype: torch.dtype) -> PageImage:
        """Scaled so that what is added is as large as what it is added to."""
        matrices = [
            LoraMatrices(
                0,
                part.module,
                torch.randn(rank, self.site.in_features) / self.site.in_features**0.5,
                torch.randn(rank, part.out_features) / rank**0.5,
            )
            for rank, part in zip(ranks, self.site.slices, strict=True)
            if rank
        ]
        return pack(matrices, 1, len(self.site.slices), self.page_elems, dtype)


def _aligned(elems: int) -> int:
    return -(-elems // ALIGNMENT) * ALIGNMENT
