"""What the kernels' tests share: the reference, how near to it is near, and batches of tokens."""

import torch

from kernels.cpu.ops import CpuKernels
from kernels.gpu.ops import TritonKernels
from kernels.layouts import KvLayout, TokenBatch
from kernels.reference import ReferenceKernels

REFERENCE = ReferenceKernels()
Fast = CpuKernels | TritonKernels


def assert_close(got: torch.Tensor, want: torch.Tensor) -> None:
    relative, absolute = (1e-4, 1e-5) if got.dtype == torch.float32 else (2e-2, 2e-2)
    torch.testing.assert_close(got, want, rtol=relative, atol=absolute, equal_nan=True)


def make_batch(layout: KvLayout, lengths: list[tuple[int, int]], num_pages: int) -> TokenBatch:
    """One sequence per (tokens before, tokens now), on pages in random order."""
    max_blocks = max(layout.num_blocks(before + now) for before, now in lengths)
    pages = torch.randperm(num_pages, dtype=torch.int32)[: len(lengths) * max_blocks]
    return step_of(pages.view(len(lengths), max_blocks), lengths)


def step_of(block_tables: torch.Tensor, lengths: list[tuple[int, int]]) -> TokenBatch:
    """The tokens [before, before + now) of each sequence; (-1, n) is n rows of padding."""
    positions = [torch.arange(before, before + now) for before, now in lengths]
    positions = [torch.full_like(p, -1) if p.numel() and p[0] < 0 else p for p in positions]
    sequence = [torch.full((now,), index) for index, (_, now) in enumerate(lengths)]
    return TokenBatch(torch.cat(positions).int(), torch.cat(sequence).int(), block_tables)
