"""Memory on huge pages: a tensor like any other, aligned, and no more than was asked for."""

from pathlib import Path

import psutil
import pytest
import torch

from kernels.cpu import huge_pages

_HUGE = 2 << 20
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.parametrize("shape", [(3, 5), (_HUGE,), (7, 1 << 20), (2, 3, 350_000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_a_tensor_of_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = huge_pages.empty(shape, dtype)
    assert tensor.shape == shape
    assert tensor.dtype == dtype
    assert tensor.is_contiguous()
    assert not tensor.any()
    tensor.fill_(3)
    assert tensor.sum(dtype=torch.float64) == 3 * tensor.numel()


def test_a_large_tensor_begins_on_a_huge_page_and_takes_no_more_than_it_fills() -> None:
    num_bytes = 5 * _HUGE + 4096
    before = psutil.Process().memory_info().rss
    tensor = huge_pages.empty((num_bytes,), torch.uint8)
    assert tensor.data_ptr() % _HUGE == 0
    assert psutil.Process().memory_info().rss - before < _HUGE
    tensor.fill_(1)
    assert psutil.Process().memory_info().rss - before < num_bytes + _HUGE // 2


@pytest.mark.skipif(
    not _SETTING.exists() or "[never]" in _SETTING.read_text(), reason="huge pages are off"
)
def test_it_is_on_huge_pages() -> None:
    before = _huge_bytes()
    tensor = huge_pages.empty((8 * _HUGE,), torch.uint8)
    tensor.fill_(1)
    assert _huge_bytes() - before >= 4 * _HUGE  # the system may be short of some


def test_its_memory_goes_with_it() -> None:
    before = psutil.Process().memory_info().rss
    for _ in range(20):
        huge_pages.empty((16 * _HUGE,), torch.uint8).fill_(1)
    assert psutil.Process().memory_info().rss - before < 64 * _HUGE


def _huge_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("AnonHugePages")]
    return int(kilobytes) << 10
