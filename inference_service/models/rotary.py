"""The table of rotary angles."""

import math

import torch

from inference_service.models.spec import RopeSpec


def rotary_table(rope: RopeSpec, max_len: int) -> torch.Tensor:
    """[max_len, rotary_dim] float32: rotary_dim / 2 cosines, then as many sines, per position."""
    angles = torch.outer(torch.arange(max_len, dtype=torch.float32), _frequencies(rope))
    return torch.cat((angles.cos(), angles.sin()), dim=-1) * rope.scale


def _frequencies(rope: RopeSpec) -> torch.Tensor:
    exponents = torch.arange(0, rope.rotary_dim, 2, dtype=torch.float32) / rope.rotary_dim
    periods = rope.theta**exponents
    if rope.kind == "longrope":
        return 1.0 / (torch.tensor(rope.short_factors) * periods)
    if rope.kind == "linear":
        return 1.0 / periods / rope.factor
    if rope.kind == "llama3":
        return _llama3(rope, 1.0 / periods)
    return 1.0 / periods


def _llama3(rope: RopeSpec, frequencies: torch.Tensor) -> torch.Tensor:
    """Llama 3.1: long wavelengths are stretched, short ones kept, those between interpolated."""
    wavelengths = 2 * math.pi / frequencies
    ratio = rope.original_max_positions / wavelengths
    span = rope.high_freq_factor - rope.low_freq_factor
    keep = ((ratio - rope.low_freq_factor) / span).clamp(0, 1)
    return keep * frequencies + (1 - keep) * frequencies / rope.factor
