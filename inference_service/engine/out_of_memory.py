"""Whether what ended an engine was want of memory, of whatever kind."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """PyTorch has a type of its own for GPUs; on a CPU, only the message says so."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: " in str(error)
