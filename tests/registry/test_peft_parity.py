"""Which modules a config adapts, and at which rank: held to PEFT's own functions."""

import json
from typing import Any

import pytest
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from registry_service.artifacts.base_config import parse_base_config
from registry_service.artifacts.peft_config import read_lora_config
from tests.registry.support import BASE_CONFIG

_, BASE = parse_base_config(json.dumps({**BASE_CONFIG, "num_hidden_layers": 12}).encode())


def ranks_of_peft(fields: dict[str, Any]) -> dict[str, int]:
    config = LoraConfig(**fields)
    patterns = config.rank_pattern or {}
    return {
        module: patterns.get(get_pattern_key(patterns.keys(), module), config.r)
        for module in BASE.modules
        if check_target_module_exists(config, module)
    }


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"target_modules": ["q_proj"]},
        {"target_modules": ["self_attn.q_proj", "mlp.up_proj"]},
        {"target_modules": ["1.self_attn.q_proj", "layers.11.mlp.up_proj"]},
        {"target_modules": ["model.layers.3.mlp.gate_proj", "k_proj"]},
        {"layers_to_transform": 1},
        {"layers_to_transform": [0, 11], "layers_pattern": "layers"},
        {"layers_to_transform": [1], "layers_pattern": ["layers"]},
        {"layers_to_transform": [], "target_modules": ["q_proj"]},
        {
            "layers_to_transform": [2],
            "target_modules": ["q_proj", "model.layers.5.self_attn.q_proj"],
        },
        {"rank_pattern": {"q_proj": 2, "model.layers.0.self_attn.q_proj": 3}},
        {"rank_pattern": {"model.layers.0.self_attn.q_proj": 3, "q_proj": 2}},
        {"rank_pattern": {"1.self_attn.q_proj": 5, "^q_proj": 9, "proj": 7}},
        {"rank_pattern": {r"^model\.layers\.1\.self_attn\.q_proj": 5, "layers.1..mlp.up_proj": 6}},
    ],
)
def test_ranks_are_those_of_peft(fields: dict[str, Any]) -> None:
    fields = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"], **fields}
    lora, violations = read_lora_config({"peft_type": "LORA", **fields}, BASE, 64)
    assert violations == []
    assert lora is not None
    assert dict(lora.ranks) == ranks_of_peft(fields)
    assert lora.ranks
