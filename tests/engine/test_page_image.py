"""Packing: a matrix comes out of the arena as it went in, and no chunk straddles a page."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.engine.page_image import pack
from inference_service.engine.page_pool import PagePool, PageUse
from inference_service.engine.peft_adapter import LoraMatrices
from kernels.layouts import CHUNK_ROWS
from tests.engine.mixed import make_cache

PAGE_ELEMS = 2048
NUM_MODULES = 7


@settings(max_examples=40, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 70), min_size=1, max_size=5),
    widths=st.tuples(st.integers(1, 128), st.integers(1, 128)),
    taken=st.integers(0, 5),
)
def test_matrices_survive_packing(ranks: list[int], widths: tuple[int, int], taken: int) -> None:
    torch.manual_seed(0)
    matrices = [
        LoraMatrices(index % 2, index, torch.randn(rank, widths[0]), torch.randn(rank, widths[1]))
        for index, rank in enumerate(ranks)
    ]
    image = pack(matrices, 2, NUM_MODULES, PAGE_ELEMS, torch.float32)
    arena = torch.full((image.num_pages + taken, PAGE_ELEMS), float("nan"))
    pool = PagePool(arena.shape[0])
    pool.allocate(taken, PageUse.KV)
    adapter = make_cache(pool, arena).insert("digest", image)
    assert image.descriptors.shape == (2, NUM_MODULES, 2)
    for part in matrices:
        rank, first = adapter.descriptors[part.layer, part.module].tolist()
        assert rank == part.rank
        num_chunks = -(-rank // CHUNK_ROWS)
        offsets = adapter.chunk_offsets[first : first + 2 * num_chunks].tolist()
        for matrix, places in ((part.a, offsets[:num_chunks]), (part.b, offsets[num_chunks:])):
            for rows, offset in zip(torch.split(matrix, CHUNK_ROWS), places, strict=True):
                assert offset % PAGE_ELEMS + rows.numel() <= PAGE_ELEMS
                stored = arena.view(-1)[offset : offset + rows.numel()]
                assert torch.equal(stored, rows.flatten())


def test_a_small_adapter_costs_what_it_weighs() -> None:
    """Rank 8 takes about an eighth of rank 64: no rank is padded to a maximum."""
    sizes = {}
    for rank in (8, 64):
        matrices = [
            LoraMatrices(layer, module, torch.randn(rank, 64), torch.randn(rank, 64))
            for layer in range(8)
            for module in range(NUM_MODULES)
        ]
        sizes[rank] = pack(matrices, 8, NUM_MODULES, PAGE_ELEMS, torch.float32).num_pages
    assert sizes[64] == 8 * sizes[8]
