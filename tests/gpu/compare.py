"""Results on the GPU against the plain-torch twin in float32 on the CPU."""

import dataclasses
from typing import Any

import torch

# Largest ||got - want|| / ||want||: float32 arithmetic lands far below its bound, tf32 above it.
BOUNDS = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}


def moved(value: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """A tensor, or a dataclass of them, on a device; floating ones in `dtype`, if given."""
    if isinstance(value, torch.Tensor):
        is_floating = value.is_floating_point()
        return value.to(device, dtype if is_floating and dtype is not None else value.dtype)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {
            field.name: moved(getattr(value, field.name), device, dtype)
            for field in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **parts)
    return value


def assert_near(got: torch.Tensor, want: torch.Tensor) -> None:
    """`want` is float32 on the CPU; `got` is of the dtype whose bound counts."""
    error = (got.cpu().float() - want).norm() / want.norm()
    assert error <= BOUNDS[got.dtype], f"off by {error:.2e} in {got.dtype}"
