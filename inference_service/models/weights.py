"""A decoder's weights, with the GEMMs that read the same input fused into one."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from kernels.layouts import HeadNorm
from kernels.select import Embedding, Linear


@dataclass(frozen=True)
class Norm:
    """weight and bias [hidden]; an RMS norm has no bias, a LayerNorm has one."""

    weight: torch.Tensor
    bias: torch.Tensor | None


@dataclass(frozen=True)
class LayerWeights:
    """One layer. Without `mlp_norm`, the MLP reads what the attention reads, beside it."""

    input_norm: Norm
    attention_in: Linear
    head_norm: HeadNorm | None
    attention_out: Linear
    mlp_norm: Norm | None
    mlp_in: Linear
    mlp_out: Linear


@dataclass(frozen=True)
class DecoderWeights:
    """`embedding` and `lm_head` may be one."""

    embedding: Embedding
    layers: tuple[LayerWeights, ...]
    norm: Norm
    lm_head: Linear

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors, a shared one counted once."""
        linears = {self.embedding, self.lm_head}
        for layer in self.layers:
            linears.update((layer.attention_in, layer.attention_out, layer.mlp_in, layer.mlp_out))
        num_bytes = sum(linear.num_bytes for linear in linears)
        return num_bytes + sum(tensor.nbytes for tensor in self._norm_tensors())

    def _norm_tensors(self) -> Iterator[torch.Tensor]:
        norms = [self.norm]
        for layer in self.layers:
            norms += [norm for norm in (layer.input_norm, layer.mlp_norm) if norm is not None]
            if layer.head_norm is not None:
                yield from (layer.head_norm.query, layer.head_norm.key)
        for norm in norms:
            yield from (norm.weight,) if norm.bias is None else (norm.weight, norm.bias)
