"""The C and Triton kernels against their plain-torch twins: dtype x shape x rank x popularity."""

import pytest
import torch

from kernels.cpu.ops import CpuKernels
from kernels.gpu.ops import TritonKernels
from kernels.layouts import (
    CHUNK_ROWS,
    KvLayout,
    LoraPlan,
    LoraSite,
    LoraSlice,
    TokenBatch,
    make_kv_layout,
    make_tiles,
)
from kernels.reference import ReferenceKernels

REFERENCE = ReferenceKernels()
Fast = CpuKernels | TritonKernels
# Triton's interpreter multiplies the bit patterns of bfloat16: float16 stands in for it there.
CASES = {
    "cpu-float32": torch.float32,
    "cpu-bfloat16": torch.bfloat16,
    "triton-float32": torch.float32,
    "triton-float16": torch.float16,
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def dtype(case: str) -> torch.dtype:
    return CASES[case]


@pytest.fixture
def kernels(case: str) -> Fast:
    return TritonKernels() if case.startswith("triton") else CpuKernels(CASES[case])


def assert_close(got: torch.Tensor, want: torch.Tensor) -> None:
    relative, absolute = (1e-4, 1e-5) if got.dtype == torch.float32 else (2e-2, 2e-2)
    torch.testing.assert_close(got, want, rtol=relative, atol=absolute)


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("width", [8, 250, 2048])
def test_rms_norm(kernels: Fast, dtype: torch.dtype, with_residual: bool, width: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(5, width, dtype=dtype), torch.randn(width, dtype=dtype)
    residuals = [torch.ones(5, width, dtype=dtype) if with_residual else None for _ in range(2)]
    got = kernels.rms_norm(x, residuals[0], weight, 1e-5)
    want = REFERENCE.rms_norm(x, residuals[1], weight, 1e-5)
    assert_close(got, want)
    if with_residual:
        torch.testing.assert_close(residuals[0], residuals[1])


def test_silu_mul(kernels: Fast, dtype: torch.dtype) -> None:
    gate_up = torch.linspace(-100, 100, 6 * 74).reshape(6, 74).to(dtype)
    got, want = kernels.silu_mul(gate_up), REFERENCE.silu_mul(gate_up)
    assert_close(got, want)


def make_batch(layout: KvLayout, lengths: list[tuple[int, int]], num_pages: int) -> TokenBatch:
    """One sequence per (tokens before, tokens now), on pages in random order."""
    max_blocks = max(layout.num_blocks(before + now) for before, now in lengths)
    pages = torch.randperm(num_pages, dtype=torch.int32)[: len(lengths) * max_blocks]
    positions = [torch.arange(before, before + now) for before, now in lengths]
    sequence = [torch.full((now,), index) for index, (_, now) in enumerate(lengths)]
    return TokenBatch(
        torch.cat(positions).int(), torch.cat(sequence).int(), pages.view(len(lengths), max_blocks)
    )


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "block"),
    [(4, 2, 16, 16), (3, 1, 64, 32), (3, 3, 10, 48)],
)
def test_rope_cache_and_attention(
    kernels: Fast, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int, block: int
) -> None:
    torch.manual_seed(1)
    layout = KvLayout(2, kv_heads, head_dim, block)
    batch = make_batch(layout, [(0, 1), (0, 37), (33, 1), (95, 5)], 64)
    num_tokens, layer = batch.positions.shape[0], 1
    qkv = torch.randn(num_tokens, (heads + 2 * kv_heads) * head_dim).to(dtype)
    rotary = torch.rand(128, head_dim)
    arena = torch.randn(64, layout.page_elems).to(dtype)
    twin_qkv, twin_arena = qkv.clone(), arena.clone()

    kernels.rope_and_cache(qkv, rotary, arena, layout, layer, batch)
    REFERENCE.rope_and_cache(twin_qkv, rotary, twin_arena, layout, layer, batch)
    assert_close(arena, twin_arena)
    queries, twin_queries = (part[:, : heads * head_dim] for part in (qkv, twin_qkv))
    assert_close(queries, twin_queries)

    got = kernels.attention(queries, arena, layout, layer, batch)
    want = REFERENCE.attention(twin_queries, twin_arena, layout, layer, batch)
    assert_close(got, want)


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
