"""The table of rotary angles."""

import math

import torch

from inference_service.models.spec import RopeSpec


def rotary_table(rope: RopeSpec, head_dim: int, max_len: int) -> torch.Tensor:
    """[max_len, head_dim] float32: head_dim / 2 cosines, then as many sines, per position."""
    frequencies = _frequencies(rope, head_dim)
    angles = torch.outer(torch.arange(max_len, dtype=torch.float32), frequencies)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def _frequencies(rope: RopeSpec, head_dim: int) -> torch.Tensor:
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    frequencies = 1.0 / rope.theta**exponents
    if rope.kind == "linear":
        return frequencies / rope.factor
    if rope.kind == "llama3":
        return _llama3(rope, frequencies)
    return frequencies


def _llama3(rope: RopeSpec, frequencies: torch.Tensor) -> torch.Tensor:
    """Llama 3.1: long wavelengths are stretched, short ones kept, those between interpolated."""
    wavelengths = 2 * math.pi / frequencies
    ratio = rope.original_max_positions / wavelengths
    span = rope.high_freq_factor - rope.low_freq_factor
    keep = ((ratio - rope.low_freq_factor) / span).clamp(0, 1)
    return keep * frequencies + (1 - keep) * frequencies / rope.factor
