"""What a base model's config.json says about the shapes an adapter must have. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorikeet.rpc.errors import FieldViolation
from registry_service.artifacts.strict_json import StrictJsonError, parse_object
from registry_service.requests import shown

MAX_CONFIG_BYTES = 1024 * 1024
_MAX_LAYERS = 1024
_MAX_DIMENSION = 2**24
# Families whose decoder layers carry the same seven projections under the same names.
_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
}
_REQUIRED = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)
_OPTIONAL = ("num_key_value_heads", "head_dim")


class BaseConfigError(ValueError):
    """Every reason a config is refused."""

    def __init__(self, violations: list[FieldViolation]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = violations


@dataclass(frozen=True)
class LinearShape:
    """A projection of the base model: y[out] = W[out, in] x[in]."""

    in_features: int
    out_features: int


@dataclass(frozen=True)
class BaseArchitecture:
    """`modules` maps every adaptable module's full name to its shape, in model order."""

    num_layers: int
    modules: Mapping[str, LinearShape]


def parse_base_config(text: bytes) -> tuple[dict[str, Any], BaseArchitecture]:
    """The config and its shapes; BaseConfigError names every field that is refused."""
    if len(text) > MAX_CONFIG_BYTES:
        raise _refused("config_json", f"has {len(text)} bytes: at most {MAX_CONFIG_BYTES}")
    try:
        config = parse_object(text)
    except StrictJsonError as error:
        raise _refused("config_json", str(error)) from error
    violations = _family_violations(config) + _number_violations(config)
    if violations:
        raise BaseConfigError(violations)
    return config, _architecture(config)


def _family_violations(config: Mapping[str, Any]) -> list[FieldViolation]:
    family = config.get("model_type")
    if family not in _ARCHITECTURES:
        known = ", ".join(sorted(_ARCHITECTURES))
        return [
            FieldViolation(
                "config_json.model_type", f"{shown(family)} is not supported: use one of {known}"
            )
        ]
    architectures = config.get("architectures")
    if architectures in (None, [_ARCHITECTURES[family]]):
        return []
    return [
        FieldViolation(
            "config_json.architectures",
            f"{shown(architectures)} is not supported: {family} needs {_ARCHITECTURES[family]}",
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
    return violations or _head_violations(config)


def _head_violations(config: Mapping[str, Any]) -> list[FieldViolation]:
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    violations = []
    if heads % (config.get("num_key_value_heads") or heads):
        description = f"does not divide num_attention_heads, which is {heads}"
        violations.append(FieldViolation("config_json.num_key_value_heads", description))
    if config.get("head_dim") is None and hidden % heads:
        description = f"{hidden} is not a multiple of num_attention_heads: give head_dim"
        violations.append(FieldViolation("config_json.hidden_size", description))
    return violations


def _architecture(config: Mapping[str, Any]) -> BaseArchitecture:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    queries, keys = heads * head_dim, (config.get("num_key_value_heads") or heads) * head_dim
    shapes = {
        "self_attn.q_proj": LinearShape(hidden, queries),
        "self_attn.k_proj": LinearShape(hidden, keys),
        "self_attn.v_proj": LinearShape(hidden, keys),
        "self_attn.o_proj": LinearShape(queries, hidden),
        "mlp.gate_proj": LinearShape(hidden, inner),
        "mlp.up_proj": LinearShape(hidden, inner),
        "mlp.down_proj": LinearShape(inner, hidden),
    }
    num_layers = config["num_hidden_layers"]
    modules = {
        f"model.layers.{layer}.{name}": shape
        for layer in range(num_layers)
        for name, shape in shapes.items()
    }
    return BaseArchitecture(num_layers, modules)


def _refused(field: str, description: str) -> BaseConfigError:
    return BaseConfigError([FieldViolation(field, description)])
