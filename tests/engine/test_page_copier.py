"""Page images reach their pages, whatever the order of the pages. The GPU's copier: tests/gpu."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference_service.engine.page_copier import HostPageCopier, make_page_copier, page_runs
from tests.engine.driver import wait_for

NUM_PAGES, PAGE_ELEMS = 12, 8


def copied(page_ids: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The pages, the arena before and the arena after a copy."""
    before = -torch.arange(NUM_PAGES * PAGE_ELEMS, dtype=torch.float32).view(NUM_PAGES, PAGE_ELEMS)
    pages = torch.rand(len(page_ids), PAGE_ELEMS)
    arena = before.clone()
    wait_for(make_page_copier(arena).copy(pages, page_ids))
    return pages, before, arena


@given(order=st.permutations(range(NUM_PAGES)), num_pages=st.integers(0, NUM_PAGES))
def test_every_page_arrives_and_no_other_changes(order: list[int], num_pages: int) -> None:
    page_ids, others = order[:num_pages], order[num_pages:]
    pages, before, arena = copied(page_ids)
    assert torch.equal(arena[page_ids], pages)
    assert torch.equal(arena[others], before[others])


def test_neighbouring_pages_are_one_copy() -> None:
    assert list(page_runs([3, 4, 5, 9, 0, 1])) == [(0, 3), (3, 4), (4, 6)]


def test_pages_are_read_back_as_a_copy() -> None:
    arena = torch.rand(NUM_PAGES, PAGE_ELEMS)
    copier = make_page_copier(arena)
    read = copier.read([7, 2])
    assert torch.equal(read, arena[[7, 2]])
    arena.zero_()
    assert read.any()


def test_a_host_arena_needs_no_staging() -> None:
    pages = torch.rand(2, PAGE_ELEMS)
    copier = make_page_copier(torch.rand(NUM_PAGES, PAGE_ELEMS))
    assert isinstance(copier, HostPageCopier)
    assert copier.stage(pages) is pages


def test_an_image_of_another_dtype_is_our_bug() -> None:
    copier = make_page_copier(torch.rand(NUM_PAGES, PAGE_ELEMS))
    with pytest.raises(AssertionError, match="convert"):
        copier.copy(torch.rand(1, PAGE_ELEMS).double(), [0])
