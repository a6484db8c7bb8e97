"""A PEFT adapter directory as matrices. The registry validated it; the engine trusts nothing."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from inference_service.models.spec import DecoderSpec

_KEY = re.compile(
    r"base_model\.model\.(?P<path>model\.layers\.(?P<layer>\d+)\.(?:self_attn|mlp)"
    r"\.(?P<module>\w+))\.lora_(?P<side>[AB])\.weight"
)


class AdapterInvalidError(ValueError):
    """An adapter that cannot be applied whole; says which file, tensor or field."""


@dataclass(frozen=True)
class LoraMatrices:
    """One adapted module: y += (x A^T) B. a [rank, in]; b [rank, out], transposed and scaled.

    `module` counts in DecoderSpec.modules.
    """

    layer: int
    module: int
    a: torch.Tensor
    b: torch.Tensor

    @property
    def rank(self) -> int:
        return self.a.shape[0]


def read_adapter(path: Path, spec: DecoderSpec, max_rank: int) -> list[LoraMatrices]:
    """Every matrix pair of the adapter in `path`, in float32. Raises AdapterInvalidError."""
    config = _read_config(path / "adapter_config.json")
    try:
        tensors = load_file(path / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise AdapterInvalidError(f"adapter_model.safetensors: {error}") from error
    pairs: dict[tuple[str, int, str], dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        match = _KEY.fullmatch(name)
        if match is None or not _has_module(spec, match):
            raise AdapterInvalidError(f"tensor {name} has no place in the base model")
        key = (match["path"], int(match["layer"]), match["module"])
        pairs.setdefault(key, {})[match["side"]] = tensor.float()
    if not pairs:
        raise AdapterInvalidError("adapter_model.safetensors holds no LoRA tensor")
    return [_matrices(key, pair, config, spec, max_rank) for key, pair in sorted(pairs.items())]


def _has_module(spec: DecoderSpec, match: re.Match[str]) -> bool:
    module, layer = match["module"], int(match["layer"])
    return module in spec.modules and spec.module_path(layer, module) == match["path"]


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config: Mapping[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise AdapterInvalidError(f"adapter_config.json: {error}") from error
    if config.get("peft_type") != "LORA":
        raise AdapterInvalidError(f"adapter_config.json: peft_type {config.get('peft_type')!r}")
    for field in _unsupported(config):
        raise AdapterInvalidError(f"adapter_config.json: {field}={config[field]!r} unsupported")
    return config


def _unsupported(config: Mapping[str, Any]) -> Iterator[str]:
    """Settings under which A and B alone are not the whole adapter."""
    for field in ("use_dora", "lora_bias", "fan_in_fan_out", "modules_to_save", "use_qalora"):
        if config.get(field):
            yield field
    if config.get("bias", "none") != "none":
        yield "bias"


def _matrices(
    key: tuple[str, int, str],
    pair: dict[str, torch.Tensor],
    config: Mapping[str, Any],
    spec: DecoderSpec,
    max_rank: int,
) -> LoraMatrices:
    path, layer, module = key
    if pair.keys() != {"A", "B"}:
        raise AdapterInvalidError(f"{path} has lora_{'A' if 'A' in pair else 'B'} only")
    in_features, out_features = spec.module_shape(module)
    a, b = pair["A"], pair["B"]
    rank = a.shape[0]
    if layer >= spec.num_layers:
        raise AdapterInvalidError(f"{path}: the base model has {spec.num_layers} layers")
    if rank > max_rank:
        raise AdapterInvalidError(f"{path}: rank {rank} is above the limit of {max_rank}")
    if a.shape != (rank, in_features) or b.shape != (out_features, rank):
        raise AdapterInvalidError(f"{path}: A {list(a.shape)} and B {list(b.shape)} do not fit")
    scaled = b.T.contiguous() * _scaling(config, path, rank)
    return LoraMatrices(layer, spec.modules.index(module), a, scaled)


def _scaling(config: Mapping[str, Any], path: str, rank: int) -> float:
    """alpha / rank, or alpha / sqrt(rank) for rsLoRA; both may be set per module, as in PEFT."""
    declared = _by_pattern(config.get("rank_pattern") or {}, path, config["r"])
    if declared != rank:
        raise AdapterInvalidError(f"{path}: rank {rank}, but adapter_config.json says {declared}")
    alpha: float = _by_pattern(config.get("alpha_pattern") or {}, path, config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(patterns: Mapping[str, Any], path: str, default: Any) -> Any:
    """The value of the first pattern that matches the end of a module path, as PEFT looks it up."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", path):
            return value
    return default
