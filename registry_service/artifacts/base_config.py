"""What a base model's config.json says about the shapes an adapter must have. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapter_format.base_modules import BaseModules, LinearShape
from adapter_format.strict_json import StrictJsonError, parse_object
from adapter_format.violation import shown
from lorikeet.rpc.errors import FieldViolation

MAX_CONFIG_BYTES = 1024 * 1024
_MAX_LAYERS = 1024
_MAX_DIMENSION = 2**24
_REQUIRED = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)
_OPTIONAL = ("num_key_value_heads", "head_dim")


@dataclass(frozen=True)
class _Family:
    """What transformers assumes of a family when its config does not say.

    `num_key_value_heads` and `head_dim`: None for as many as heads, and for hidden_size / heads.
    """

    architecture: str
    num_key_value_heads: int | None = None
    head_dim: int | None = None


_FAMILIES = {
    "llama": _Family("LlamaForCausalLM"),
    "mistral": _Family("MistralForCausalLM", num_key_value_heads=8),
    "phi": _Family("PhiForCausalLM"),
    "phi3": _Family("Phi3ForCausalLM"),
    "qwen2": _Family("Qwen2ForCausalLM", num_key_value_heads=32),
    "qwen3": _Family("Qwen3ForCausalLM", num_key_value_heads=32, head_dim=128),
}


class BaseConfigError(ValueError):
    """Every reason a config is refused."""

    def __init__(self, violations: list[FieldViolation]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = violations


def parse_base_config(text: bytes) -> tuple[dict[str, Any], BaseModules]:
    """The config and its shapes; BaseConfigError names every field that is refused."""
    if len(text) > MAX_CONFIG_BYTES:
        raise _refused("config_json", f"has {len(text)} bytes: at most {MAX_CONFIG_BYTES}")
    try:
        config = parse_object(text)
    except StrictJsonError as error:
        raise _refused("config_json", str(error)) from error
    violations = _family_violations(config) + _number_violations(config)
    violations = violations or _head_violations(config)
    if violations:
        raise BaseConfigError(violations)
    return config, _architecture(config)


def _family_violations(config: Mapping[str, Any]) -> list[FieldViolation]:
    family = config.get("model_type")
    if not isinstance(family, str) or family not in _FAMILIES:
        known = ", ".join(_FAMILIES)
        return [
            FieldViolation(
                "config_json.model_type", f"{shown(family)} is not supported: use one of {known}"
            )
        ]
    architectures = config.get("architectures")
    expected = _FAMILIES[family].architecture
    if architectures in (None, [expected]):
        return []
    return [
        FieldViolation(
            "config_json.architectures",
            f"{shown(architectures)} is not supported: {family} needs {expected}",
        )
    ]


def _number_violations(config: Mapping[str, Any]) -> list[FieldViolation]:
    violations = []
    for name in _REQUIRED + _OPTIONAL:
        value = config.get(name)
        if value is None and name in _OPTIONAL:
            continue
        limit = _MAX_LAYERS if name == "num_hidden_layers" else _MAX_DIMENSION
        if type(value) is not int or not 1 <= value <= limit:
            description = f"{shown(value)} is not an integer from 1 to {limit}"
            violations.append(FieldViolation(f"config_json.{name}", description))
    return violations


def _head_violations(config: Mapping[str, Any]) -> list[FieldViolation]:
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    violations = []
    if heads % _num_key_value_heads(config):
        description = f"does not divide num_attention_heads, which is {heads}"
        violations.append(FieldViolation("config_json.num_key_value_heads", description))
    if _given_head_dim(config) is None and hidden % heads:
        description = f"{hidden} is not a multiple of num_attention_heads: give head_dim"
        violations.append(FieldViolation("config_json.hidden_size", description))
    return violations


def _num_key_value_heads(config: Mapping[str, Any]) -> int:
    """A null means as many as heads in every family; what is left out is the family's default."""
    default = _FAMILIES[config["model_type"]].num_key_value_heads
    heads: int = config.get("num_key_value_heads", default) or config["num_attention_heads"]
    return heads


def _given_head_dim(config: Mapping[str, Any]) -> int | None:
    size: int | None = config.get("head_dim", _FAMILIES[config["model_type"]].head_dim)
    return size


def _head_dim(config: Mapping[str, Any]) -> int:
    size: int = config["hidden_size"] // config["num_attention_heads"]
    return _given_head_dim(config) or size


def _architecture(config: Mapping[str, Any]) -> BaseModules:
    shapes = _layer_shapes(config)
    num_layers = config["num_hidden_layers"]
    modules = {
        f"model.layers.{layer}.{name}": shape
        for layer in range(num_layers)
        for name, shape in shapes.items()
    }
    return BaseModules(num_layers, modules)


def _layer_shapes(config: Mapping[str, Any]) -> dict[str, LinearShape]:
    """The linear modules of a layer as transformers builds them."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = _head_dim(config)
    queries = config["num_attention_heads"] * head_dim
    keys = _num_key_value_heads(config) * head_dim
    if config["model_type"] == "phi3":
        return {
            "self_attn.qkv_proj": LinearShape(hidden, queries + 2 * keys),
            "self_attn.o_proj": LinearShape(queries, hidden),
            "mlp.gate_up_proj": LinearShape(hidden, 2 * inner),
            "mlp.down_proj": LinearShape(inner, hidden),
        }
    attention = {
        "self_attn.q_proj": LinearShape(hidden, queries),
        "self_attn.k_proj": LinearShape(hidden, keys),
        "self_attn.v_proj": LinearShape(hidden, keys),
    }
    if config["model_type"] == "phi":
        return attention | {
            "self_attn.dense": LinearShape(queries, hidden),
            "mlp.fc1": LinearShape(hidden, inner),
            "mlp.fc2": LinearShape(inner, hidden),
        }
    return attention | {
        "self_attn.o_proj": LinearShape(queries, hidden),
        "mlp.gate_proj": LinearShape(hidden, inner),
        "mlp.up_proj": LinearShape(hidden, inner),
        "mlp.down_proj": LinearShape(inner, hidden),
    }


def _refused(field: str, description: str) -> BaseConfigError:
    return BaseConfigError([FieldViolation(field, description)])
