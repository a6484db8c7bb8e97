"""What the LoRA kernels are compared with: gather each row's adapter, then batched products."""

import torch

from benchmarks.lora_arena import LoraArena
from kernels.layouts import CHUNK_ROWS, LoraSlice


class GatherBmm:
    """Adapters stacked per slice, every rank padded with zeros to the largest."""

    def __init__(self, lora: LoraArena, max_rank: int) -> None:
        self._slices = lora.site.slices
        self._a = [self._stack(lora, part, 0, max_rank) for part in self._slices]
        self._b = [self._stack(lora, part, 1, max_rank) for part in self._slices]

    def apply(self, y: torch.Tensor, x: torch.Tensor, first: int) -> None:
        """y += what adapter `first` + i adds to row i."""
        chosen = torch.arange(first, first + x.shape[0], device=x.device)
        for part, a, b in zip(self._slices, self._a, self._b, strict=True):
            shrunk = torch.bmm(a[chosen], x.unsqueeze(2)).transpose(1, 2)
            columns = slice(part.out_start, part.out_start + part.out_features)
            y[:, columns] += torch.bmm(shrunk, b[chosen]).squeeze(1)

    @staticmethod
    def _stack(lora: LoraArena, part: LoraSlice, side: int, max_rank: int) -> torch.Tensor:
        """[adapters, max_rank, width] of A (side 0) or B (side 1)."""
        width = part.out_features if side else lora.site.in_features
        stacked = lora.arena.new_zeros(len(lora.adapters), max_rank, width)
        flat = lora.arena.view(-1)
        for row, adapter in enumerate(lora.adapters):
            rank, first = adapter.descriptors[0, part.module].tolist()
            num_chunks = -(-rank // CHUNK_ROWS)
            begin = first + side * num_chunks
            offsets = adapter.chunk_offsets[begin : begin + num_chunks].tolist()
            for chunk, offset in enumerate(offsets):
                start = chunk * CHUNK_ROWS
                end = min(rank, start + CHUNK_ROWS)
                num_elems = (end - start) * width
                stacked[row, start:end] = flat[offset : offset + num_elems].view(-1, width)
        return stacked
