"""How large the arena is: told, or on a GPU what is left of a share of its memory."""

from collections.abc import Callable
from collections.abc import Sequence as Series

import torch

from inference_service.engine.config import (
    DEFAULT_GPU_MEMORY_UTILIZATION,
    DEFAULT_MEMORY_BYTES,
    EngineConfig,
    EngineConfigError,
)
from inference_service.engine.device_memory import read_device_memory
from inference_service.engine.self_report import DeviceMemory


def arena_bytes(
    config: EngineConfig, device: torch.device, largest_steps: Series[Callable[[], None]]
) -> int:
    """Bytes for the arena of a device whose weights are loaded. Raises EngineConfigError.

    `largest_steps` are run where activations must be measured, which is on a GPU that was not told
    a size: one step for each part of memory whose activations are kept apart.
    """
    utilization = config.gpu_memory_utilization
    _check(utilization, config.memory_bytes, device)
    if config.memory_bytes:
        return config.memory_bytes
    if device.type == "cpu":
        return DEFAULT_MEMORY_BYTES
    activations = sum(_peak_bytes(device, run) for run in largest_steps)
    return bytes_left(
        utilization or DEFAULT_GPU_MEMORY_UTILIZATION, read_device_memory(device), activations
    )


def bytes_left(utilization: float, memory: DeviceMemory, activation_bytes: int) -> int:
    """What a share of a device leaves beside all that is on it and the activations of a step."""
    left = int(memory.total_bytes * utilization) - memory.used_bytes - activation_bytes
    if left <= 0:
        raise EngineConfigError(
            f"gpu_memory_utilization {utilization} of {memory.total_bytes} bytes leaves no room "
            f"for an arena: {memory.used_bytes} are in use, weights included, and a step takes "
            f"{activation_bytes}; give it more, or lower max_num_batched_tokens"
        )
    return left


def _check(utilization: float | None, memory_bytes: int, device: torch.device) -> None:
    if utilization is None:
        return
    if not 0 < utilization <= 1:
        raise EngineConfigError(f"gpu_memory_utilization {utilization} is not in (0, 1]")
    if device.type == "cpu":
        raise EngineConfigError(
            "gpu_memory_utilization is set, but the engine runs on a CPU: set memory_bytes instead"
        )
    if memory_bytes:
        raise EngineConfigError(
            "gpu_memory_utilization and memory_bytes are both set: give one of them"
        )


def _peak_bytes(device: torch.device, run: Callable[[], None]) -> int:
    """Bytes that `run` allocates at its highest point; what it leaves cached is given back."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    return peak
