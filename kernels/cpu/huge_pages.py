"""Memory that is read from one end to the other, over and over: on huge pages where there are some.

With pages of 4 KB a processor looks one up for every 64 lines, and stops fetching ahead at its end.
"""

import mmap
from math import prod

import torch

_HUGE = 2 << 20  # bytes of a page, which begins at a multiple of them


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor of zeros on a CPU, contiguous, in memory of its own that goes with the tensor.

    What does not fill a huge page is on small ones: no memory is wasted.
    """
    num_bytes = prod(shape) * dtype.itemsize
    whole_pages = num_bytes // _HUGE * _HUGE
    if not whole_pages:
        return torch.zeros(shape, dtype=dtype)
    block = mmap.mmap(-1, num_bytes + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = torch.frombuffer(block, dtype=torch.uint8)
    begin = -memory.data_ptr() % _HUGE
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux; it may say no, as when they are switched off
        block.madvise(mmap.MADV_HUGEPAGE, begin, whole_pages)
    return memory[begin : begin + num_bytes].view(dtype).view(shape)
