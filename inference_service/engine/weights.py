"""Probabilities as integers: their sums are exact, so that nothing about a row depends on how a
kernel orders its additions, and with that on the rows beside it."""

import torch

ONE = 1 << 40
"""The weight of a row's likeliest token. A token 2^40 times less likely has none; a vocabulary of
2^22 tokens still cannot overflow a sum."""


def weigh(relative: torch.Tensor) -> torch.Tensor:
    """Weights int64, proportional to exp(relative). relative [R, vocab] float32, at most 0."""
    return relative.exp().mul_(ONE).long()


def relative_to_highest(logits: torch.Tensor) -> torch.Tensor:
    """Each row less its highest, so that the likeliest token is at 0."""
    return logits - logits.amax(dim=-1, keepdim=True)
