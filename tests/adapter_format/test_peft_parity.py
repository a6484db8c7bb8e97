"""Which modules a config adapts, at which rank and scaling: held to PEFT's own functions."""

import math
from dataclasses import fields
from typing import Any

import pytest
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from adapter_format import config_fields
from adapter_format.base_modules import BaseModules, LinearShape
from adapter_format.lora_config import LoraModule, read_lora_config

KINDS = [
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
]
BASE = BaseModules(
    12,
    {f"model.layers.{layer}.{kind}": LinearShape(16, 16) for layer in range(12) for kind in KINDS},
)
# As fine-tuning tools write them into target_modules.
UNSLOTH = (
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)"
    r".*?(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)"
    r"\.(?:(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)))"
)
SWIFT = r"^(model\.layers)(?!.*(lm_head|output|emb|wte|shared|gate)).*(proj)$"


def modules_of_peft(fields: dict[str, Any]) -> dict[str, LoraModule]:
    config = LoraConfig(**fields)
    ranks, alphas = config.rank_pattern or {}, config.alpha_pattern or {}
    modules = {}
    for name in BASE.shapes:
        if check_target_module_exists(config, name):
            rank = ranks.get(get_pattern_key(ranks.keys(), name), config.r)
            alpha = alphas.get(get_pattern_key(alphas.keys(), name), config.lora_alpha)
            divisor = math.sqrt(rank) if config.use_rslora else rank
            modules[name] = LoraModule(rank, alpha / divisor)
    return modules


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"use_rslora": True},
        {"target_modules": ["q_proj"]},
        {"target_modules": ["self_attn.q_proj", "mlp.up_proj"]},
        {"target_modules": ["1.self_attn.q_proj", "layers.11.mlp.up_proj"]},
        {"target_modules": ["model.layers.3.mlp.gate_proj", "k_proj"]},
        {"target_modules": r".*\.(q|v)_proj"},
        {"target_modules": r".*\.layers\.(0|[5-9]|1\d)\..*_proj"},
        {"target_modules": r"model\.layers\.\d+\.self_attn\.(?:q_proj|[k-v]_proj)"},
        {"target_modules": r"(?:.*\.)??[a-z]{2,4}\.(gate|up|down)_proj$|^no$"},
        {"target_modules": UNSLOTH},
        {"target_modules": SWIFT},
        {"exclude_modules": ["q_proj"]},
        {"exclude_modules": ["0.self_attn.q_proj", "model.layers.3.mlp.up_proj", "lm_head"]},
        {"exclude_modules": r".*\.[02468]\..*"},
        {"exclude_modules": "q_proj"},
        {"exclude_modules": [], "target_modules": ["q_proj"]},
        {"target_modules": r".*_proj|lm_head", "exclude_modules": r"lm_head|.*\.up_proj"},
        {"layers_to_transform": 1},
        {"layers_to_transform": [0, 11], "layers_pattern": "layers"},
        {"layers_to_transform": [1], "layers_pattern": ["layers"]},
        {"layers_to_transform": [1], "layers_pattern": ["blocks", "model.layers"]},
        {"layers_to_transform": [], "target_modules": ["q_proj"]},
        {
            "layers_to_transform": [2],
            "target_modules": ["q_proj", "model.layers.5.self_attn.q_proj"],
        },
        {"rank_pattern": {"q_proj": 2, "model.layers.0.self_attn.q_proj": 3}},
        {"rank_pattern": {"model.layers.0.self_attn.q_proj": 3, "q_proj": 2}},
        {"rank_pattern": {"1.self_attn.q_proj": 5, "^q_proj": 9, "proj": 7}},
        {"rank_pattern": {r"^model\.layers\.1\.self_attn\.q_proj": 5, "layers.1..mlp.up_proj": 6}},
        {"rank_pattern": {r"layers\.[0-3]\..*": 5, ".*q_proj": 6, r"\w+": 7}},
        {"rank_pattern": {"q_proj)|(model": 5, "q": 9}},
        {"rank_pattern": {"up_proj": 9}, "alpha_pattern": {r"[a-z]+\.q_proj": 3, "up_proj": 0.5}},
        {"alpha_pattern": {"self_attn.*": 5, r"^.*mlp.*": 6}, "use_rslora": True},
    ],
)
def test_modules_are_those_of_peft(fields: dict[str, Any]) -> None:
    fields = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"], **fields}
    lora, violations = read_lora_config({"peft_type": "LORA", **fields}, BASE, 64)
    assert violations == []
    assert lora is not None
    assert dict(lora.modules) == modules_of_peft(fields)
    assert lora.modules


def test_all_linear_is_every_module() -> None:
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": "ALL-linear"}
    lora, _ = read_lora_config(config | {"exclude_modules": ["o_proj"]}, BASE, 64)
    assert lora is not None
    assert list(lora.modules) == [name for name in BASE.shapes if not name.endswith("o_proj")]


def test_every_field_of_peft_is_known() -> None:
    """A new version's new field is refused by name until someone has thought about it."""
    known = config_fields.READ | config_fields.HARMLESS | config_fields.NEUTRAL.keys()
    assert {field.name for field in fields(LoraConfig)} == known | {"bias", "auto_mapping"}
