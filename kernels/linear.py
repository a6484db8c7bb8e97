"""A linear layer of the base model by torch, on any device."""

import torch
from torch.nn.functional import embedding, linear


class PlainLinear:
    """y = x W^T + bias for weight W [out, in] and bias [out] or None."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight, self._bias = weight, bias

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes + (0 if self._bias is None else self._bias.nbytes)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x [T, in]; returns [T, out]."""
        return linear(x, self.weight, self._bias)

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        """W[indices], [T, in]: how an embedding is looked up, which may share its weight."""
        return embedding(indices, self.weight)
