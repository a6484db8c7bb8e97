"""Small host tensors to the engine's device, without waiting for what the device is doing."""

import torch


def to_device(host: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The same tensor on a CPU; on a GPU a copy that later work of the current stream sees."""
    if device.type == "cpu":
        return host
    return host.pin_memory().to(device, non_blocking=True)


def copy_into(target: torch.Tensor, host: torch.Tensor) -> None:
    """Overwrites a tensor of the engine's device, after the work of the current stream so far."""
    source = host if target.device.type == "cpu" else host.pin_memory()
    target.copy_(source, non_blocking=True)
