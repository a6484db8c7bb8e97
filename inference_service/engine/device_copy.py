"""Small tensors between the host and the engine's device, without waiting for what that is doing.

On a CPU both are one memory: nothing is copied.
"""

from collections.abc import Sequence as Series

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


class HostCopy:
    """Tensors on their way to the host: what they are after the work of the current stream so far.

    They must not be overwritten on a CPU, where they are not copied.
    """

    def __init__(self, tensors: Series[torch.Tensor]) -> None:
        self._tensors, self._arrived = list(tensors), None
        if any(tensor.device.type == "cuda" for tensor in tensors):
            self._tensors = [_begin_copy(tensor) for tensor in tensors]
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def wait(self) -> list[torch.Tensor]:
        """Returns when they have arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tensors


def _begin_copy(tensor: torch.Tensor) -> torch.Tensor:
    """To pinned memory of its own, which no later step writes to."""
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
