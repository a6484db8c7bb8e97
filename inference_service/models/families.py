"""From a Hugging Face config to a decoder spec; what would be computed wrongly is refused.

Defaults are those of transformers: a field that a config leaves out has the value it has there.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inference_service.models.config_fields import ConfigFields
from inference_service.models.rope_config import read_rope
from inference_service.models.spec import DecoderSpec, RopeSpec, Sites, UnsupportedModelError
from inference_service.models.windows import layered_windows, no_windows, one_window

_MAX_HEAD_DIM = 256  # the CPU's attention keeps the heads of a tile on its stack
_SPLIT = Sites(
    attention_in=("q_proj", "k_proj", "v_proj"),
    attention_out=("o_proj",),
    mlp_in=("gate_proj", "up_proj"),
    mlp_out=("down_proj",),
)
_PHI = Sites(("q_proj", "k_proj", "v_proj"), ("dense",), ("fc1",), ("fc2",))
_PHI3 = Sites(("qkv_proj",), ("o_proj",), ("gate_up_proj",), ("down_proj",))
_GELU_TANH = ("gelu_new", "gelu_pytorch_tanh")
_ROPE = ("default", "linear", "llama3")


def read_spec(model_path: Path) -> DecoderSpec:
    """The spec of the checkpoint in a directory. Raises UnsupportedModelError."""
    path = model_path / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise UnsupportedModelError(f"{path} is not an object")
    return make_spec(config)


def make_spec(config: Mapping[str, Any]) -> DecoderSpec:
    """The spec of a config. Raises UnsupportedModelError naming the field."""
    fields = ConfigFields(config)
    fields.expect("model_type", *_FAMILIES)
    family = _FAMILIES[fields.text("model_type")]
    fields.expect("architectures", None, [family.architecture])
    fields.expect("quantization_config", None)
    fields.expect("is_causal", None, True)
    spec = family.make(fields)
    if spec.num_heads % spec.num_kv_heads:
        raise fields.refusal("num_key_value_heads", f"does not divide {spec.num_heads} heads")
    return spec


@dataclass(frozen=True)
class _Family:
    architecture: str
    make: Callable[[ConfigFields], DecoderSpec]


def _llama(config: ConfigFields) -> DecoderSpec:
    config.expect("pretraining_tp", None, 1)
    bias = config.flag("attention_bias")
    return replace(
        _gated(config),
        windows=no_windows(config),
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=config.flag("mlp_bias"),
    )


def _mistral(config: ConfigFields) -> DecoderSpec:
    return replace(_gated(config, num_kv_heads=8), windows=one_window(config, absent=4096))


def _qwen2(config: ConfigFields) -> DecoderSpec:
    spec = _gated(config, num_kv_heads=32)
    return replace(spec, windows=layered_windows(config), qkv_bias=True)


def _qwen3(config: ConfigFields) -> DecoderSpec:
    bias = config.flag("attention_bias")
    return replace(
        _gated(config, num_kv_heads=32, head_dim=128),
        windows=layered_windows(config),
        head_norms=True,
        qkv_bias=bias,
        output_bias=bias,
    )


def _phi(config: ConfigFields) -> DecoderSpec:
    config.expect("hidden_act", None, *_GELU_TANH)
    config.expect("qk_layernorm", None, False)
    head_dim = _head_dim(config)
    return replace(
        _decoder(config, read_rope(config, head_dim, _ROPE, rotary_part=0.5), head_dim=head_dim),
        sites=_PHI,
        norm="layer",
        norm_epsilon=config.number("layer_norm_eps", 1e-5),
        final_norm="final_layernorm",
        activation="gelu_tanh",
        parallel=True,
        windows=no_windows(config),
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        lm_head_bias=True,
    )


def _phi3(config: ConfigFields) -> DecoderSpec:
    config.expect("hidden_act", None, "silu")
    head_dim = _head_dim(config)
    rope = read_rope(config, head_dim, ("default", "longrope"), rotary_part=1.0)
    spec = replace(
        _decoder(config, rope, head_dim=head_dim),
        sites=_PHI3,
        norm_epsilon=config.number("rms_norm_eps", 1e-5),
        windows=one_window(config, absent=None),
    )
    if rope.kind != "longrope":
        return spec
    return replace(spec, max_positions=min(spec.max_positions, rope.original_max_positions))


def _gated(
    config: ConfigFields, num_kv_heads: int | None = None, head_dim: int | None = None
) -> DecoderSpec:
    """What Llama, Mistral and Qwen have in common."""
    config.expect("hidden_act", None, "silu")
    head_dim = _head_dim(config, head_dim)
    rope = read_rope(config, head_dim, _ROPE)
    return _decoder(config, rope, num_kv_heads=num_kv_heads, head_dim=head_dim)


def _decoder(
    config: ConfigFields, rope: RopeSpec, head_dim: int, num_kv_heads: int | None = None
) -> DecoderSpec:
    """The fields that all families share; `num_kv_heads` is what there are without the field."""
    num_heads = config.integer("num_attention_heads")
    kv_heads = config.optional_integer("num_key_value_heads", num_kv_heads) or num_heads
    return DecoderSpec(
        hidden_size=config.integer("hidden_size"),
        intermediate_size=config.integer("intermediate_size"),
        num_layers=config.integer("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=config.integer("vocab_size"),
        max_positions=config.integer("max_position_embeddings"),
        norm_epsilon=config.number("rms_norm_eps", 1e-6),
        rope=rope,
        sites=_SPLIT,
        dtype=config.text("dtype", config.text("torch_dtype", "float32")),
        tie_word_embeddings=config.flag("tie_word_embeddings"),
    )


def _head_dim(config: ConfigFields, absent: int | None = None) -> int:
    default = config.integer("hidden_size") // config.integer("num_attention_heads")
    head_dim = config.integer("head_dim", absent or default)
    if head_dim % 2 or head_dim > _MAX_HEAD_DIM:
        raise UnsupportedModelError(
            f"config.json: head_dim {head_dim} is not an even number up to {_MAX_HEAD_DIM}"
        )
    return head_dim


_FAMILIES = {
    "llama": _Family("LlamaForCausalLM", _llama),
    "mistral": _Family("MistralForCausalLM", _mistral),
    "qwen2": _Family("Qwen2ForCausalLM", _qwen2),
    "qwen3": _Family("Qwen3ForCausalLM", _qwen3),
    "phi": _Family("PhiForCausalLM", _phi),
    "phi3": _Family("Phi3ForCausalLM", _phi3),
}
