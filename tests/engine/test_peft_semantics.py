"""Whatever PEFT can say about linear modules, in one mixed batch: logits against PEFT itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from inference_service.engine.adapter_files import AdapterInvalidError
from inference_service.engine.config import EngineConfig
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_pool import PagePool
from inference_service.engine.peft_adapter import read_adapter
from inference_service.models.families import read_spec
from tests.checkpoints import write_adapter, write_checkpoint
from tests.engine.mixed import BASE, make_resident, mixed_logits, reference_logits

Write = Callable[..., Path]

# name: rank, and what else the LoraConfig says
SPLIT: dict[str, tuple[int, dict[str, Any]]] = {
    "r1": (1, {}),
    "r512": (512, {"target_modules": ["q_proj", "up_proj"]}),
    "one module": (5, {"target_modules": ["v_proj"]}),
    "some modules": (6, {"target_modules": ["k_proj", "o_proj", "down_proj"]}),
    "suffixes": (4, {"target_modules": ["0.self_attn.q_proj", "mlp.gate_proj"]}),
    "full name": (4, {"target_modules": ["model.layers.2.mlp.up_proj"]}),
    "regex": (7, {"target_modules": r".*\.layers\.[02]\..*(?:q|v|down)_proj"}),
    "excluded": (3, {"exclude_modules": ["0.self_attn.q_proj", "down_proj", "lm_head"]}),
    "regex excluded": (3, {"exclude_modules": r".*\.1\..*|.*\.mlp\..*"}),
    "rslora": (8, {"use_rslora": True, "lora_alpha": 4}),
    "rank pattern": (4, {"rank_pattern": {"q_proj": 20, r"layers\.1\.mlp\..*": 7, "up_proj": 33}}),
    "alpha pattern": (
        4,
        {"alpha_pattern": {"o_proj": 3, r"^model\.layers\.[01]\.mlp\..*": 1, "v.*": 9}},
    ),
    "both, rslora": (
        4,
        {
            "use_rslora": True,
            "rank_pattern": {"2.self_attn.v_proj": 17},
            "alpha_pattern": {r"[kv]_proj": 2, "gate_proj": 0.25},
        },
    ),
    "one layer": (9, {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": 1}),
    "two layers": (
        9,
        {
            "target_modules": ["k_proj", "model.layers.1.mlp.up_proj"],
            "layers_to_transform": [0, 2],
            "layers_pattern": "layers",
        },
    ),
    "float16": (8, {"dtype": torch.float16}),
    "bfloat16": (8, {"dtype": torch.bfloat16}),
    "orthogonal": (8, {"init_lora_weights": "orthogonal"}),
}


def check_mixed(model_path: Path, adapters: dict[str, Path]) -> None:
    """Every adapter and the base in one prefill; each must answer as PEFT does alone."""
    runner = ModelRunner(EngineConfig(str(model_path), dtype="float32", memory_bytes=48 << 20))
    pool = PagePool(runner.arena.shape[0])
    prompts, logits = mixed_logits(runner, make_resident(runner, pool, adapters), pool, growth=2)
    for name, tokens in prompts.items():
        want = reference_logits(model_path, adapters.get(name), tokens)
        torch.testing.assert_close(logits[name], want, rtol=1e-4, atol=1e-4, msg=name)
        if name != BASE:  # the adapter did something
            assert (want - reference_logits(model_path, None, tokens)).abs().max() > 0.01, name


def write_all(
    root: Path, model_path: Path, cases: dict[str, tuple[int, dict[str, Any]]]
) -> dict[str, Path]:
    return {
        name: write_adapter(root / name, model_path, rank, seed=index, **settings)
        for index, (name, (rank, settings)) in enumerate(cases.items())
    }


def test_every_setting_in_one_batch(model_path: Path, tmp_path: Path) -> None:
    adapters = write_all(tmp_path, model_path, SPLIT)
    for name, dtype in (("float16", "F16"), ("bfloat16", "BF16"), ("r1", "F32")):
        with safe_open(adapters[name] / "adapter_model.safetensors", "pt") as file:
            assert {file.get_slice(key).get_dtype() for key in file.keys()} == {dtype}  # noqa: SIM118
    adapters["all-linear"] = write_adapter(tmp_path / "all-linear", model_path, 2, seed=99)
    set_field(adapters["all-linear"], "target_modules", "all-linear")  # PEFT saves the list
    check_mixed(model_path, adapters)


# Base models whose projections are named or fused in other ways.
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, tuple[int, dict[str, Any]]]]] = {
    "phi3": (
        {"pad_token_id": 0},
        {
            "all": (3, {}),
            "qkv": (17, {"target_modules": ["qkv_proj"]}),
            "gate_up": (40, {"target_modules": ["gate_up_proj"], "use_rslora": True}),
            "regex": (5, {"target_modules": r".*\.(?:qkv_proj|o_proj|down_proj)"}),
            "patterns": (
                4,
                {"rank_pattern": {"qkv_proj": 33}, "alpha_pattern": {r".*_up_proj": 1}},
            ),
        },
    ),
    "phi": (
        {},
        {
            "all": (3, {}),
            "attention": (20, {"target_modules": ["q_proj", "v_proj", "dense"]}),
            "mlp": (6, {"target_modules": r".*\.fc[12]"}),
            "excluded": (4, {"exclude_modules": r".*\.(fc1|dense)", "layers_to_transform": None}),
        },
    ),
    "qwen3": (
        {"head_dim": 16},
        {
            "all": (3, {}),
            "keys": (20, {"target_modules": ["k_proj"], "rank_pattern": {r"layers\.[02]\..*": 9}}),
        },
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_in_one_batch(family: str, tmp_path: Path) -> None:
    overrides, cases = FAMILIES[family]
    model_path = write_checkpoint(tmp_path / "model", family=family, **overrides)
    check_mixed(model_path, write_all(tmp_path, model_path, cases))


def test_a_variant_that_changes_the_base_is_served_once_peft_has_converted_it(
    model_path: Path, tmp_path: Path
) -> None:
    """PiSSA trains beside other base weights than the published ones; PEFT can write the sum."""
    settings = LoraConfig(
        r=4,
        lora_alpha=8,
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        init_lora_weights="pissa",
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(model_path), settings)
    config = model.peft_config["default"]
    config.init_lora_weights = True  # as PEFT's recipe has it
    model.save_pretrained(tmp_path / "before")
    config.init_lora_weights = "pissa"
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    model.save_pretrained(tmp_path / "trained")
    config.init_lora_weights = True
    spec = read_spec(model_path)
    with pytest.raises(AdapterInvalidError, match="init_lora_weights is 'pissa'"):
        read_adapter(tmp_path / "trained", spec, 512)
    model.save_pretrained(
        tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "before")
    )
    check_mixed(model_path, {"converted": tmp_path / "converted"})


def set_field(adapter: Path, field: str, value: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
