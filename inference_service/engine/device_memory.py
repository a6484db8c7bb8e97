"""How much memory the engine's device has, as the driver or the operating system sees it."""

from dataclasses import dataclass

import psutil
import torch


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes, read at one moment.

    On a GPU, total and available are the driver's figures, so they count what other processes hold;
    `process_bytes` is what PyTorch's allocator holds there. On a CPU they are the machine's total
    and available memory, and this process's resident set.
    """

    total_bytes: int
    available_bytes: int
    process_bytes: int

    @property
    def used_bytes(self) -> int:
        """By every process of the machine."""
        return self.total_bytes - self.available_bytes


def read_device_memory(device: torch.device) -> DeviceMemory:
    """The memory of the GPU `device` is, or of the machine."""
    if device.type == "cuda":
        available, total = torch.cuda.mem_get_info(device)
        return DeviceMemory(total, available, torch.cuda.memory_reserved(device))
    machine = psutil.virtual_memory()
    return DeviceMemory(machine.total, machine.available, psutil.Process().memory_info().rss)
