"""Shapes read from a config: the registry's and the engine's, held to what transformers builds."""

import json
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from adapter_format.base_modules import LinearShape
from inference_service.models.families import make_spec
from registry_service.artifacts.base_config import parse_base_config

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 32,
    "pad_token_id": 0,
}
# What a config may leave out, by family; None leaves it out.
CASES: list[tuple[str, dict[str, Any]]] = [
    *((family, {}) for family in ("llama", "mistral", "phi", "phi3", "qwen2", "qwen3")),
    *((family, {"head_dim": 24}) for family in ("llama", "mistral", "qwen3")),
    ("llama", {"num_key_value_heads": None}),
    ("phi", {"num_key_value_heads": None}),
    ("phi3", {"num_key_value_heads": None}),
    ("mistral", {"num_key_value_heads": None, "num_attention_heads": 16}),
    ("qwen2", {"num_key_value_heads": None, "num_attention_heads": 64, "hidden_size": 256}),
    ("qwen3", {"num_key_value_heads": None, "num_attention_heads": 64}),
]


@pytest.mark.parametrize(("family", "changes"), CASES)
def test_shapes_are_those_of_transformers(family: str, changes: dict[str, Any]) -> None:
    fields = {name: value for name, value in {**SMALL, **changes}.items() if value is not None}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **fields))
    built = {
        name: LinearShape(module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    config = {"model_type": family, "max_position_embeddings": 64, **fields}
    _, base = parse_base_config(json.dumps(config).encode())
    assert dict(base.shapes) == built
    spec = make_spec(config)
    assert built == {
        spec.module_path(layer, module): LinearShape(*spec.module_shape(module))
        for layer in range(spec.num_layers)
        for module in spec.modules
    }
    assert base.num_layers == 2
    names = {name for name, _ in model.named_modules()}
    assert set(base.others()) <= names


@pytest.mark.parametrize("family", ["llama", "mistral", "phi", "phi3", "qwen2", "qwen3"])
def test_the_config_that_transformers_saves_is_read(family: str) -> None:
    config = AutoConfig.for_model(family, **SMALL)
    with torch.device("meta"):
        name = type(AutoModelForCausalLM.from_config(config)).__name__
    saved = {**json.loads(config.to_json_string()), "architectures": [name]}
    _, base = parse_base_config(json.dumps(saved).encode())
    assert base.num_layers == 2
