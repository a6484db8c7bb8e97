"""Rotary embedding, the paged cache and attention against their plain-torch twins."""

from collections.abc import Iterator

import pytest
import torch

from kernels.cpu.build import ELEMENT_TYPES, supported_isas
from kernels.cpu.isa import Isa
from kernels.cpu.ops import CpuKernels
from kernels.layouts import HeadNorm, KvLayout, TokenBatch
from tests.kernels.compare import REFERENCE, Fast, assert_close, make_batch, step_of

# (query heads, KV heads, head_dim, block): groups of 1 to 20, heads with and without a rest.
SHAPES = [(4, 2, 16, 16), (3, 1, 64, 32), (3, 3, 10, 48), (20, 1, 24, 16)]
LENGTHS = [(0, 1), (0, 37), (33, 1), (-1, 3), (95, 5), (-1, 1)]
NUM_PAGES, LAYER = 64, 1


def random_qkv(layout: KvLayout, batch: TokenBatch, heads: int, dtype: torch.dtype) -> torch.Tensor:
    width = (heads + 2 * layout.num_kv_heads) * layout.head_dim
    return torch.randn(batch.positions.shape[0], width).to(dtype)


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim", "block"), SHAPES[:3])
@pytest.mark.parametrize(("rotary_part", "normed"), [(1.0, True), (0.4, False), (0.4, True)])
def test_rope_and_cache(
    kernels: Fast,
    dtype: torch.dtype,
    heads: int,
    kv_heads: int,
    head_dim: int,
    block: int,
    rotary_part: float,
    normed: bool,
) -> None:
    torch.manual_seed(1)
    layout = KvLayout(2, kv_heads, head_dim, block)
    batch = make_batch(layout, [(30, 5), (-1, 2), (95, 2), (-1, 1)], NUM_PAGES)
    qkv = random_qkv(layout, batch, heads, dtype)
    rotary = torch.rand(128, int(rotary_part * head_dim) // 2 * 2)
    weights = torch.randn(2, head_dim).to(dtype)
    norm = HeadNorm(weights[0], weights[1], 1e-5) if normed else None
    arena = torch.randn(NUM_PAGES, layout.page_elems).to(dtype)
    twin_qkv, twin_arena, before = qkv.clone(), arena.clone(), qkv.clone()

    kernels.rope_and_cache(qkv, rotary, arena, layout, LAYER, batch, norm)
    REFERENCE.rope_and_cache(twin_qkv, rotary, twin_arena, layout, LAYER, batch, norm)
    assert_close(arena, twin_arena)
    queries, twin_queries = (part[:, : heads * head_dim] for part in (qkv, twin_qkv))
    assert_close(queries, twin_queries)
    padding = batch.positions < 0
    assert torch.equal(qkv[padding], before[padding])


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim", "block"), SHAPES)
@pytest.mark.parametrize("window", [0, 5, 33])
def test_attention(
    kernels: Fast,
    dtype: torch.dtype,
    heads: int,
    kv_heads: int,
    head_dim: int,
    block: int,
    window: int,
) -> None:
    """Slots that no token was written to hold NaN: an adapter's bytes may lie there."""
    torch.manual_seed(1)
    layout, arena, batch = written_cache(kv_heads, head_dim, block, dtype)
    qkv = random_qkv(layout, batch, heads, dtype)
    queries = qkv[:, : heads * head_dim]
    got = kernels.attention(queries, arena, layout, LAYER, batch, window)
    want = REFERENCE.attention(queries, arena, layout, LAYER, batch, window)
    assert want.isfinite().all()
    assert_close(got, want)
    assert not got[batch.positions < 0].any()


def written_cache(
    kv_heads: int, head_dim: int, block: int, dtype: torch.dtype
) -> tuple[KvLayout, torch.Tensor, TokenBatch]:
    """An arena with the KV of LENGTHS in one layer and NaN everywhere else, and their step."""
    layout = KvLayout(2, kv_heads, head_dim, block)
    batch = make_batch(layout, LENGTHS, NUM_PAGES)
    arena = torch.full((NUM_PAGES, layout.page_elems), float("nan")).to(dtype)
    everything = step_of(
        batch.block_tables,
        [(before, now) if before < 0 else (0, before + now) for before, now in LENGTHS],
    )
    qkv = random_qkv(layout, everything, kv_heads, dtype)
    rotary = torch.rand(128, head_dim)
    REFERENCE.rope_and_cache(qkv, rotary, arena, layout, LAYER, everything)
    return layout, arena, batch


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_key_that_is_not_finite_shows(kernels: Fast, dtype: torch.dtype, sign: float) -> None:
    """In the tokens that see it: from its own on, until the window has passed."""
    torch.manual_seed(0)
    layout = KvLayout(1, 1, 16, 16)
    batch = make_batch(layout, [(0, 40)], NUM_PAGES)
    arena, queries = torch.randn(NUM_PAGES, layout.page_elems), torch.randn(40, 32)
    page = int(batch.block_tables[0, 0])
    arena[page, 3 * 16 + 9] = sign * torch.tensor(float("nan"))  # element 3 of token 9's key
    out = kernels.attention(queries.to(dtype), arena.to(dtype), layout, 0, batch, 12)
    assert out.isnan().any(dim=1).nonzero().flatten().tolist() == list(range(9, 21))


@pytest.mark.parametrize(
    ("element_type", "isa"), [(kind, isa) for kind in ELEMENT_TYPES for isa in supported_isas(kind)]
)
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(6, 2, 64), (4, 4, 24), (18, 1, 16)])
@pytest.mark.parametrize("window", [0, 21])
def test_attention_on_a_cpu_does_not_depend_on_the_batch(
    element_type: str, isa: Isa, heads: int, kv_heads: int, head_dim: int, window: int
) -> None:
    """To the last bit: however a prompt is cut, and whatever else is in the step."""
    torch.manual_seed(3)
    dtype: torch.dtype = getattr(torch, element_type)
    kernels = CpuKernels(dtype, isa.name)
    layout = KvLayout(1, kv_heads, head_dim, 16)
    whole = make_batch(layout, [(0, 70), (0, 23)], NUM_PAGES)
    qkv = random_qkv(layout, whole, heads, dtype)
    arena = torch.full((NUM_PAGES, layout.page_elems), float("nan")).to(dtype)
    kernels.rope_and_cache(qkv, torch.rand(128, head_dim), arena, layout, 0, whole)
    queries = qkv[:, : heads * head_dim]
    want = kernels.attention(queries, arena, layout, 0, whole, window)
    numbered = torch.split(torch.arange(93), [70, 23])  # rows of each sequence
    for cuts in ([(0, 1), (0, 23)], [(1, 16), (5, 3)], [(17, 30), (22, 1)], [(47, 23), (8, 14)]):
        parts = zip(numbered, cuts, strict=True)
        rows = torch.cat([part[start : start + count] for part, (start, count) in parts])
        step = step_of(whole.block_tables, cuts)
        got = kernels.attention(queries[rows], arena, layout, 0, step, window)
        assert torch.equal(got, want[rows])


@pytest.fixture
def num_threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("element_type", "isa"), [(kind, isa) for kind in ELEMENT_TYPES for isa in supported_isas(kind)]
)
@pytest.mark.parametrize("window", [0, 700])
def test_a_long_context_on_a_cpu_depends_neither_on_threads_nor_on_cuts(
    element_type: str, isa: Isa, window: int, num_threads: int
) -> None:
    """Where threads are many and tokens few, parts of one context are worked on apart."""
    torch.manual_seed(5)
    dtype: torch.dtype = getattr(torch, element_type)
    kernels, layout = CpuKernels(dtype, isa.name), KvLayout(1, 1, 64, 16)
    whole = make_batch(layout, [(0, 1100)], 2 * NUM_PAGES)
    qkv = random_qkv(layout, whole, 4, dtype)
    arena = torch.full((2 * NUM_PAGES, layout.page_elems), float("nan")).to(dtype)
    kernels.rope_and_cache(qkv, torch.rand(1100, 64), arena, layout, 0, whole)
    queries = qkv[:, :256]
    want = kernels.attention(queries, arena, layout, 0, whole, window)
    assert_close(want, REFERENCE.attention(queries, arena, layout, 0, whole, window))
    for threads in (1, num_threads, 3):
        torch.set_num_threads(threads)
        for before, now in [(1099, 1), (510, 3), (1023, 2), (630, 40)]:
            step = step_of(whole.block_tables, [(before, now)])
            rows = slice(before, before + now)
            got = kernels.attention(queries[rows], arena, layout, 0, step, window)
            assert torch.equal(got, want[rows]), (threads, before)
