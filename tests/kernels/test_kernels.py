"""The LoRA kernels against their plain-torch twins: dtype x shape x rank x popularity."""

import pytest
import torch

from kernels.layouts import (
    CHUNK_ROWS,
    LoraPlan,
    LoraSite,
    LoraSlice,
    make_kv_layout,
    make_tiles,
)
from tests.kernels.compare import REFERENCE, Fast, assert_close


def make_plan(
    arena: torch.Tensor, ranks: list[int], segments: list[tuple[int, int]], site: LoraSite
) -> LoraPlan:
    """Adapters of the given ranks with chunks at shuffled places, and (adapter, rows) segments."""
    num_modules = 1 + max(part.module for part in site.slices)
    stride = CHUNK_ROWS * max(site.in_features, *(part.out_features for part in site.slices))
    places = iter((torch.randperm(arena.numel() // stride) * stride).tolist())
    descriptors = torch.zeros(len(ranks), 2, num_modules, 2, dtype=torch.int32)
    offsets: list[int] = []
    for adapter, rank in enumerate(ranks):
        for part in site.slices:
            num_chunks = -(-rank // CHUNK_ROWS)
            descriptors[adapter, 1, part.module] = torch.tensor([rank, len(offsets)])
            offsets += [next(places) for _ in range(2 * num_chunks)]
    num_rows = sum(rows for _, rows in segments)
    tiles = make_tiles([rows for _, rows in segments])
    tiles[:, 0] = torch.tensor([adapter for adapter, _ in segments])[tiles[:, 0].long()]
    return LoraPlan(
        rows=torch.randperm(num_rows + 3, dtype=torch.int32)[:num_rows],
        tiles=tiles,
        descriptors=descriptors,
        chunk_offsets=torch.tensor(offsets, dtype=torch.int64),
        max_rank=max(ranks),
    )


CPU = torch.device("cpu")
SITES = {
    "one": LoraSite.make(96, (LoraSlice(0, 0, 200),), CPU),
    "fused": LoraSite.make(
        64, (LoraSlice(0, 0, 128), LoraSlice(1, 128, 32), LoraSlice(2, 160, 40)), CPU
    ),
}


@pytest.mark.parametrize("site", SITES.values(), ids=SITES)
@pytest.mark.parametrize(
    ("ranks", "segments"),
    [
        ([1], [(0, 1)]),
        ([8, 0, 33], [(0, 2), (1, 1), (2, 5)]),
        ([3, 12, 64, 16], [(2, 1), (0, 1), (3, 40), (1, 1), (2, 1)]),
    ],
)
def test_lora(
    kernels: Fast,
    dtype: torch.dtype,
    site: LoraSite,
    ranks: list[int],
    segments: list[tuple[int, int]],
) -> None:
    torch.manual_seed(2)
    arena = (torch.randn(64, 8192) / 8).to(dtype)
    plan = make_plan(arena, ranks, segments, site)
    num_rows = plan.rows.shape[0] + 3
    x = torch.randn(num_rows, site.in_features).to(dtype)
    y = torch.randn(num_rows, 200).to(dtype)
    twin = y.clone()
    kernels.lora_apply(y, x, arena, plan, site, 1)
    REFERENCE.lora_apply(twin, x, arena, plan, site, 1)
    assert_close(y, twin)
    untouched = torch.ones(num_rows, dtype=torch.bool)
    untouched[plan.rows.long()] = False
    assert torch.equal(y[untouched], twin[untouched])


@pytest.mark.parametrize("widest", [16, 704, 14336])
def test_a_page_holds_a_chunk_of_the_widest_module(widest: int) -> None:
    layout = make_kv_layout(num_layers=4, num_kv_heads=2, head_dim=64, widest_row=widest)
    assert layout.block_tokens % 16 == 0
    assert layout.page_elems >= CHUNK_ROWS * widest
