"""The memory layouts all kernels agree on: pages of KV, chunks of adapters, tokens of a step."""

from dataclasses import dataclass

import torch

CHUNK_ROWS = 16  # rank rows a chunk holds at most: enough to stream, few enough to waste nothing
TILE_ROWS = 32  # tokens of one adapter that are worked on together
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
    """

    positions: torch.Tensor
    sequence: torch.Tensor
    block_tables: torch.Tensor


@dataclass(frozen=True)
class LoraSlice:
    """One adapted module inside a fused site: its index and the output columns it adds to."""

    module: int
    out_start: int
    out_features: int


@dataclass(frozen=True)
class LoraSite:
    """A base GEMM and the modules fused in it; `table` is [num_slices, 3] int32 for the kernels."""

    in_features: int
    slices: tuple[LoraSlice, ...]
    widest_slice: int
    table: torch.Tensor

    @classmethod
    def make(
        cls, in_features: int, slices: tuple[LoraSlice, ...], device: torch.device
    ) -> "LoraSite":
        rows = [(part.module, part.out_start, part.out_features) for part in slices]
        widest = max(part.out_features for part in slices)
        table = torch.tensor(rows, dtype=torch.int32, device=device)
        return cls(in_features, slices, widest, table)


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

    rows [N], tiles [num_tiles, 3] and descriptors [num_adapters, num_layers, num_modules, 2] are
    int32, chunk_offsets is int64; all on the arena's device.
    """

    rows: torch.Tensor
    tiles: torch.Tensor
    descriptors: torch.Tensor
    chunk_offsets: torch.Tensor
    max_rank: int
