"""Checkpoint tensors to fused decoder weights. Every tensor is used, or the checkpoint refused."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from inference_service.models.spec import DecoderSpec, UnsupportedModelError
from kernels.linear import PlainLinear
from kernels.select import Embedding, Kernels, Linear


@dataclass(frozen=True)
class LayerWeights:
    """One layer, with the GEMMs that read the same input fused into one."""

    input_norm: torch.Tensor
    qkv: Linear
    o: Linear
    mlp_norm: torch.Tensor
    gate_up: Linear
    down: Linear


@dataclass(frozen=True)
class DecoderWeights:
    """`embedding` and `lm_head` may be one."""

    embedding: Embedding
    layers: tuple[LayerWeights, ...]
    norm: torch.Tensor
    lm_head: Linear

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors, a shared one counted once."""
        linears = {self.embedding, self.lm_head}
        norms = [self.norm]
        for layer in self.layers:
            linears.update((layer.qkv, layer.o, layer.gate_up, layer.down))
            norms += (layer.input_norm, layer.mlp_norm)
        return sum(part.num_bytes for part in linears) + sum(norm.nbytes for norm in norms)


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
        checkpoint = _Checkpoint(model_path, stack, device, dtype, kernels)
        weights = _build(checkpoint, spec)
    # Written by some converters, and by others not: derived from what was read.
    derived = {"lm_head.weight"} if spec.tie_word_embeddings else set()
    unused = {name for name in checkpoint.unused - derived if not name.endswith("inv_freq")}
    if unused:
        raise UnsupportedModelError(f"{model_path}: no use for tensors {sorted(unused)[:5]}")
    return weights


class _Checkpoint:
    """Tensors by name over all shards, and which of them were not taken yet."""

    def __init__(
        self,
        model_path: Path,
        stack: ExitStack,
        device: torch.device,
        dtype: torch.dtype,
        kernels: Kernels,
    ) -> None:
        self._device, self._dtype, self._kernels = device, dtype, kernels
        self._shards: dict[str, Any] = {}
        for path in _shard_paths(model_path):
            shard = stack.enter_context(safe_open(path, framework="pt", device=str(device)))
            self._shards.update(dict.fromkeys(shard.keys(), shard))
        self.unused = set(self._shards)

    def take(self, name: str, *shape: int) -> torch.Tensor:
        if name not in self._shards:
            raise UnsupportedModelError(f"the checkpoint has no tensor {name}")
        self.unused.discard(name)
        tensor: torch.Tensor = self._shards[name].get_tensor(name)
        if tuple(tensor.shape) != shape:
            raise UnsupportedModelError(f"{name} is {list(tensor.shape)}, not {list(shape)}")
        return tensor.to(self._dtype)

    def fuse(self, prefix: str, parts: dict[str, int], width: int, bias: bool) -> Linear:
        """The modules of `parts` (name -> out_features) as one linear."""
        weights = [self.take(f"{prefix}{part}.weight", out, width) for part, out in parts.items()]
        weight = torch.cat(weights) if len(weights) > 1 else weights[0]
        if not bias:
            return self._kernels.make_linear(weight, None)
        biases = [self.take(f"{prefix}{part}.bias", out) for part, out in parts.items()]
        return self._kernels.make_linear(weight, torch.cat(biases))

    def embedding(self, name: str, *shape: int, tied: bool) -> Embedding:
        """A weight whose rows are looked up; `tied`: it is a linear layer as well."""
        weight = self.take(name, *shape)
        return self._kernels.make_tied_embedding(weight) if tied else PlainLinear(weight, None)


def _shard_paths(model_path: Path) -> list[Path]:
    index = model_path / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return [model_path / name for name in names]
    single = model_path / "model.safetensors"
    if not single.exists():
        raise UnsupportedModelError(f"{model_path} has no model.safetensors (or its index)")
    return [single]


def _build(checkpoint: _Checkpoint, spec: DecoderSpec) -> DecoderWeights:
    shape, tied = (spec.vocab_size, spec.hidden_size), spec.tie_word_embeddings
    embedding = checkpoint.embedding("model.embed_tokens.weight", *shape, tied=tied)
    lm_head = embedding if tied else checkpoint.fuse("", {"lm_head": shape[0]}, shape[1], False)
    return DecoderWeights(
        embedding=embedding,
        layers=tuple(_layer(checkpoint, spec, index) for index in range(spec.num_layers)),
        norm=checkpoint.take("model.norm.weight", spec.hidden_size),
        lm_head=lm_head,
    )


def _layer(checkpoint: _Checkpoint, spec: DecoderSpec, index: int) -> LayerWeights:
    prefix = f"model.layers.{index}."
    attention, mlp = prefix + "self_attn.", prefix + "mlp."
    hidden, wide = spec.hidden_size, spec.intermediate_size
    qkv = {"q_proj": spec.query_size, "k_proj": spec.kv_size, "v_proj": spec.kv_size}
    gate_up = {"gate_proj": wide, "up_proj": wide}
    return LayerWeights(
        input_norm=checkpoint.take(prefix + "input_layernorm.weight", hidden),
        qkv=checkpoint.fuse(attention, qkv, hidden, spec.qkv_bias),
        o=checkpoint.fuse(attention, {"o_proj": hidden}, spec.query_size, spec.output_bias),
        mlp_norm=checkpoint.take(prefix + "post_attention_layernorm.weight", hidden),
        gate_up=checkpoint.fuse(mlp, gate_up, hidden, spec.mlp_bias),
        down=checkpoint.fuse(mlp, {"down_proj": hidden}, wide, spec.mlp_bias),
    )
