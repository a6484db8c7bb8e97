"""From a Hugging Face config to a decoder spec; what would be computed wrongly is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference_service.models.spec import DecoderSpec, RopeSpec, Sites, UnsupportedModelError

_FAMILIES = ("llama", "mistral", "qwen2")
_SITES = Sites(
    attention_in=("q_proj", "k_proj", "v_proj"),
    attention_out=("o_proj",),
    mlp_in=("gate_proj", "up_proj"),
    mlp_out=("down_proj",),
)
_MAX_HEAD_DIM = 256  # the CPU's attention keeps one head on its stack


def read_spec(model_path: Path) -> DecoderSpec:
    """The spec of the checkpoint in a directory. Raises UnsupportedModelError."""
    path = model_path / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"cannot read {path}: {error}") from error
    return make_spec(config)


def make_spec(config: Mapping[str, Any]) -> DecoderSpec:
    """The spec of a Llama-family config. Raises UnsupportedModelError naming the field."""
    _check_family(config)
    try:
        num_heads = config["num_attention_heads"]
        spec = DecoderSpec(
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=num_heads,
            num_kv_heads=config.get("num_key_value_heads") or num_heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // num_heads,
            vocab_size=config["vocab_size"],
            max_positions=config["max_position_embeddings"],
            rms_norm_epsilon=config.get("rms_norm_eps", 1e-6),
            rope=_rope(config),
            tie_word_embeddings=config.get("tie_word_embeddings", False),
            qkv_bias=config["model_type"] == "qwen2" or config.get("attention_bias", False),
            output_bias=config.get("attention_bias", False),
            mlp_bias=config.get("mlp_bias", False),
            sites=_SITES,
            dtype=config.get("dtype") or config.get("torch_dtype") or "float32",
        )
    except KeyError as error:
        raise UnsupportedModelError(f"config.json has no field {error}") from error
    if spec.head_dim % 2 or spec.head_dim > _MAX_HEAD_DIM:
        raise UnsupportedModelError(
            f"config.json: head_dim {spec.head_dim} is not an even number up to {_MAX_HEAD_DIM}"
        )
    return spec


def _check_family(config: Mapping[str, Any]) -> None:
    _expect(config, "model_type", _FAMILIES)
    _expect(config, "hidden_act", ("silu", None))
    _expect(config, "pretraining_tp", (1, None))
    _expect(config, "quantization_config", (None,))
    _check_full_attention(config)


def _check_full_attention(config: Mapping[str, Any]) -> None:
    """A sliding window is no obstacle when it is switched off or as long as the context."""
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if window is not None and window < config.get("max_position_embeddings", 0):
        raise UnsupportedModelError(f"config.json: sliding_window {window} is not supported")
    unsupported = set(config.get("layer_types") or ()) - {"full_attention"}
    if unsupported and window is not None:
        raise UnsupportedModelError(f"config.json: layer_types {sorted(unsupported)} unsupported")


def _expect(config: Mapping[str, Any], field: str, supported: tuple[Any, ...]) -> None:
    value = config.get(field)
    if value not in supported:
        wanted = " or ".join(str(option) for option in supported)
        raise UnsupportedModelError(
            f"config.json: {field} {value!r} is not supported ({wanted} is)"
        )


def _rope(config: Mapping[str, Any]) -> RopeSpec:
    """transformers 5 writes rope_parameters; before, rope_theta and rope_scaling."""
    fields = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    theta = fields.get("rope_theta", config.get("rope_theta", 10000.0))
    kind = fields.get("rope_type", fields.get("type", "default"))
    if kind == "default":
        return RopeSpec(theta)
    if kind == "linear":
        return RopeSpec(theta, kind, fields["factor"])
    if kind == "llama3":
        return RopeSpec(
            theta,
            kind,
            fields["factor"],
            fields["low_freq_factor"],
            fields["high_freq_factor"],
            fields["original_max_position_embeddings"],
        )
    raise UnsupportedModelError(
        f"config.json: rope_type {kind!r} is not supported (default, linear or llama3 is)"
    )
