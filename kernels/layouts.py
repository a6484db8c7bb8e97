"""The memory layouts all kernels agree on: pages of KV, chunks of adapters, tokens of a step."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from kernels.lora_work import LoraWork

CHUNK_ROWS = 16  # rank rows a chunk holds at most: enough to stream, few enough to waste nothing
TILE_ROWS = 32  # tokens of one adapter that are worked on together
COLUMN_BLOCK = 256  # output columns that a program of a GPU works on together
ALIGNMENT = 32  # elements; chunks begin on cache lines in every dtype


@dataclass(frozen=True)
class KvLayout:
    """How one page holds the KV of `block_tokens` tokens in all layers.

    page = [num_layers, 2, num_kv_heads, block_tokens * head_dim]; the keys of a head are stored
    as [head_dim, block_tokens], so that a query meets 16 tokens in one vector; the values as
    [block_tokens, head_dim].
    """

    num_layers: int
    num_kv_heads: int
    head_dim: int
    block_tokens: int

    @property
    def head_elems(self) -> int:
        return self.block_tokens * self.head_dim

    @property
    def layer_elems(self) -> int:
        return 2 * self.num_kv_heads * self.head_elems

    @property
    def page_elems(self) -> int:
        return self.num_layers * self.layer_elems

    def num_blocks(self, num_tokens: int) -> int:
        """Pages that `num_tokens` tokens of one request take."""
        return -(-num_tokens // self.block_tokens)


def make_kv_layout(num_layers: int, num_kv_heads: int, head_dim: int, widest_row: int) -> KvLayout:
    """The smallest block, a multiple of 16 tokens, whose page holds a chunk of any module."""
    layout = KvLayout(num_layers, num_kv_heads, head_dim, 16)
    smallest = CHUNK_ROWS * _aligned(widest_row)
    blocks = max(1, -(-smallest // layout.page_elems))
    return KvLayout(num_layers, num_kv_heads, head_dim, 16 * blocks)


def _aligned(elems: int) -> int:
    return -(-elems // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class TokenBatch:
    """The flattened tokens of one step, T tokens of S sequences. All int32, on the arena's device.

    positions [T]: place of the token in its sequence; sequence [T]: row of `block_tables`;
    block_tables [S, max_blocks]: page of each block of tokens.

    The tokens of a sequence lie side by side, in order. A row whose position is negative is
    padding, there to give a step one of a few sizes: it writes no KV and its attention is zero.
    """

    positions: torch.Tensor
    sequence: torch.Tensor
    block_tables: torch.Tensor


@dataclass(frozen=True)
class HeadNorm:
    """RMS norm of every query and key head before it is rotated; the weights are [head_dim]."""

    query: torch.Tensor
    key: torch.Tensor
    epsilon: float


@dataclass(frozen=True)
class LoraSlice:
    """One adapted module inside a fused site: its index and the output columns it adds to."""

    module: int
    out_start: int
    out_features: int


@dataclass(frozen=True)
class LoraSite:
    """A base GEMM and the modules fused in it.

    For the kernels, int32: `table` [num_slices, 3], and `blocks` [num_blocks, 2], the slice and its
    first column for every COLUMN_BLOCK columns of every slice.
    """

    in_features: int
    slices: tuple[LoraSlice, ...]
    table: torch.Tensor
    blocks: torch.Tensor

    @property
    def column_multiple(self) -> int:
        """A power of two up to 16 that divides every slice's first column and width."""
        return math.gcd(
            16, *(n for part in self.slices for n in (part.out_start, part.out_features))
        )

    @classmethod
    def make(
        cls, in_features: int, slices: tuple[LoraSlice, ...], device: torch.device
    ) -> "LoraSite":
        rows = [(part.module, part.out_start, part.out_features) for part in slices]
        table = torch.tensor(rows, dtype=torch.int32, device=device)
        blocks = [
            (index, column)
            for index, part in enumerate(slices)
            for column in range(0, part.out_features, COLUMN_BLOCK)
        ]
        return cls(
            in_features, slices, table, torch.tensor(blocks, dtype=torch.int32, device=device)
        )


def make_tiles(num_rows: list[int]) -> torch.Tensor:
    """LoraPlan.tiles when adapter i has the next num_rows[i] rows."""
    tiles, start = [], 0
    for adapter, remaining in enumerate(num_rows):
        end = start + remaining
        tiles += [(adapter, s, min(TILE_ROWS, end - s)) for s in range(start, end, TILE_ROWS)]
        start = end
    return torch.tensor(tiles, dtype=torch.int32)


@dataclass(frozen=True)
class LoraPlan:
    """Which tokens of a step meet which adapter; built once per step and shared by all layers.

    A tile (adapter, start, count) is the tokens rows[start:start + count], at most TILE_ROWS, all
    of one adapter; base-only tokens are in no tile. For an adapter, layer and module, descriptors
    holds (rank, first): the chunks of A, [<=16, in] each, lie at the elements
    chunk_offsets[first:first + n] of the arena, n = ceil(rank / 16), and those of B transposed,
    [<=16, out], scaling included, at chunk_offsets[first + n:first + 2n]. Rank 0: not adapted.

    rows [N] and tiles [num_tiles, 3] are int32, in host memory. descriptors [_, num_layers,
    num_modules, 2], int32, and chunk_offsets, int64, are on the arena's device; they may hold
    adapters that no tile names.

    The first `num_single_rows` rows, and the tiles that hold them, are tokens that are alone in
    the step for their sequence, as when it decodes. `tile_ranks` are the largest rank of each
    tile's adapter; empty where only `max_rank` is known. `work`: see LoraWork; None where the
    kernels that need it are to make it.
    """

    rows: torch.Tensor
    tiles: torch.Tensor
    descriptors: torch.Tensor
    chunk_offsets: torch.Tensor
    max_rank: int
    num_single_rows: int = 0
    tile_ranks: tuple[int, ...] = ()
    work: "tuple[LoraWork, ...] | None" = None
