"""How much memory the engine's device has, as the driver or the operating system sees it."""

import psutil
import torch

from inference_service.engine.self_report import DeviceMemory


def read_device_memory(device: torch.device) -> DeviceMemory:
    """The memory of the GPU `device` is, or of the machine."""
    if device.type == "cuda":
        available, total = torch.cuda.mem_get_info(device)
        return DeviceMemory(total, available, torch.cuda.memory_reserved(device))
    machine = psutil.virtual_memory()
    return DeviceMemory(machine.total, machine.available, psutil.Process().memory_info().rss)
