"""Copies to a GPU's arena: fenced on both sides, and beside what runs there."""

import pytest
import torch

from inference_service.engine.page_copier import CudaPageCopier, make_page_copier
from tests.engine.driver import wait_for

pytestmark = pytest.mark.gpu

NUM_PAGES, PAGE_ELEMS = 64, 1 << 16
LONG = 200_000_000  # cycles: about a tenth of a second


@pytest.fixture
def arena(device: torch.device) -> torch.Tensor:
    return torch.zeros(NUM_PAGES, PAGE_ELEMS, device=device)


def test_pages_arrive_and_can_be_read_back(arena: torch.Tensor) -> None:
    copier = make_page_copier(arena)
    assert isinstance(copier, CudaPageCopier)
    ids = torch.randperm(NUM_PAGES)[:40].tolist()
    pages = torch.rand(40, PAGE_ELEMS)
    staged = copier.stage(pages)
    assert staged.is_pinned()
    wait_for(copier.copy(staged, ids))
    assert torch.equal(copier.read(ids), pages)
    others = [page for page in range(NUM_PAGES) if page not in ids]
    assert not copier.read(others).any()


def test_pages_that_were_not_staged_arrive_too(arena: torch.Tensor) -> None:
    copier = make_page_copier(arena)
    pages = torch.rand(3, PAGE_ELEMS)
    wait_for(copier.copy(pages, [5, 6, 1]))
    assert torch.equal(copier.read([5, 6, 1]), pages)


def test_a_step_that_runs_still_reads_what_was_there(arena: torch.Tensor) -> None:
    """Its pages were freed and taken by a load while it was queued."""
    copier = make_page_copier(arena)
    arena.fill_(7.0)
    torch.cuda._sleep(LONG)  # type: ignore[no-untyped-call]
    seen = arena[:8].clone()  # queued behind the sleep
    copy = copier.copy(copier.stage(torch.rand(8, PAGE_ELEMS)), list(range(8)))
    assert not copy.done()
    torch.cuda.synchronize()
    assert copy.done()
    assert (seen == 7.0).all()
    assert (arena[:8] != 7.0).any()


def test_a_copy_does_not_hold_up_the_current_stream(arena: torch.Tensor) -> None:
    """Work queued after a copy began, for other pages, ends while the copy is held up itself."""
    copier = CudaPageCopier(arena)
    with torch.cuda.stream(copier._stream):
        torch.cuda._sleep(LONG)  # type: ignore[no-untyped-call]
    copy = copier.copy(copier.stage(torch.rand(8, PAGE_ELEMS)), list(range(8)))
    finished = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arena[8:].add_(1.0)
    finished.record()
    finished.synchronize()
    assert not copy.done()
    torch.cuda.synchronize()
    assert copy.done()
