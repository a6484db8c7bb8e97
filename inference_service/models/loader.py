"""Checkpoint tensors to fused decoder weights. Every tensor is used, or the checkpoint refused."""

from contextlib import ExitStack
from pathlib import Path

import torch

from inference_service.models.checkpoint import Checkpoint
from inference_service.models.spec import DecoderSpec, UnsupportedModelError
from inference_service.models.weights import DecoderWeights, LayerWeights, Norm
from kernels.layouts import HeadNorm
from kernels.linear import PlainLinear
from kernels.select import Embedding, Kernels, Linear


def load_weights(
    model_path: Path,
    spec: DecoderSpec,
    device: torch.device,
    dtype: torch.dtype,
    kernels: Kernels,
) -> DecoderWeights:
    """Reads a safetensors checkpoint, sharded or not, into the form `kernels` multiply with.

    A tensor is turned into it as soon as it is read, so that no more than one is held twice.
    Raises UnsupportedModelError.
    """
    with ExitStack() as stack:
        checkpoint = Checkpoint(model_path, stack, device, dtype)
        weights = _Loader(checkpoint, spec, kernels).load()
    # Written by some converters, and by others not: derived from what was read.
    derived = {"lm_head.weight"} if spec.tie_word_embeddings else set()
    unused = {name for name in checkpoint.unused - derived if not name.endswith("inv_freq")}
    if unused:
        raise UnsupportedModelError(f"{model_path}: no use for tensors {sorted(unused)[:5]}")
    return weights


class _Loader:
    def __init__(self, checkpoint: Checkpoint, spec: DecoderSpec, kernels: Kernels) -> None:
        self._checkpoint, self._take = checkpoint, checkpoint.take
        self._spec, self._kernels = spec, kernels

    def load(self) -> DecoderWeights:
        embedding, lm_head = self._embedding_and_head()
        return DecoderWeights(
            embedding=embedding,
            layers=tuple(self._layer(index) for index in range(self._spec.num_layers)),
            norm=self._norm(f"model.{self._spec.final_norm}"),
            lm_head=lm_head,
        )

    def _embedding_and_head(self) -> tuple[Embedding, Linear]:
        """One and the same where they are tied."""
        spec = self._spec
        shape = (spec.vocab_size, spec.hidden_size)
        weight = self._checkpoint.view("model.embed_tokens.weight", *shape)
        bias = self._take("lm_head.bias", spec.vocab_size) if spec.lm_head_bias else None
        if spec.tie_word_embeddings:
            tied = self._kernels.make_tied_embedding(weight, bias)
            return tied, tied
        head = self._checkpoint.view("lm_head.weight", *shape)
        return PlainLinear(weight.clone(), None), self._kernels.make_linear([head], bias)

    def _layer(self, index: int) -> LayerWeights:
        prefix, spec, sites = f"model.layers.{index}.", self._spec, self._spec.sites
        mlp_norm = None if spec.parallel else self._norm(prefix + "post_attention_layernorm")
        return LayerWeights(
            input_norm=self._norm(prefix + "input_layernorm"),
            attention_in=self._fused(index, sites.attention_in, spec.qkv_bias),
            head_norm=self._head_norm(prefix + "self_attn.") if spec.head_norms else None,
            attention_out=self._fused(index, sites.attention_out, spec.output_bias),
            mlp_norm=mlp_norm,
            mlp_in=self._fused(index, sites.mlp_in, spec.mlp_bias),
            mlp_out=self._fused(index, sites.mlp_out, spec.mlp_bias),
        )

    def _norm(self, name: str) -> Norm:
        size = self._spec.hidden_size
        weight = self._take(f"{name}.weight", size)
        return Norm(
            weight, self._take(f"{name}.bias", size) if self._spec.norm == "layer" else None
        )

    def _head_norm(self, prefix: str) -> HeadNorm:
        size = self._spec.head_dim
        query = self._take(f"{prefix}q_norm.weight", size)
        return HeadNorm(query, self._take(f"{prefix}k_norm.weight", size), self._spec.norm_epsilon)

    def _fused(self, layer: int, modules: tuple[str, ...], bias: bool) -> Linear:
        """The modules as one linear."""
        weights, biases = [], []
        for module in modules:
            path = self._spec.module_path(layer, module)
            in_features, out_features = self._spec.module_shape(module)
            weights.append(self._checkpoint.view(f"{path}.weight", out_features, in_features))
            if bias:
                biases.append(self._take(f"{path}.bias", out_features))
        return self._kernels.make_linear(weights, torch.cat(biases) if bias else None)
