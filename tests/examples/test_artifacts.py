"""The demo's weights, as committed: their size, their layout, and that they do what they should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from examples.demo.chat_format import END, render_chat
from examples.demo.layout import (
    ADAPTER_NAMES,
    ADAPTERS_DIR,
    BASE_DIR,
    BASE_MODEL_NAME,
    BASE_MODEL_REVISION,
)
from examples.demo.prompts import PROMPTS
from examples.demo.tasks import held_out
from examples.demo.tokenizer import load_tokenizer
from examples.demo.train_adapters import RECIPES, TARGET_MODULES

SIZE_LIMIT = 20 * 10**6


def load_json(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def test_everything_together_is_small() -> None:
    files = [*BASE_DIR.rglob("*"), *ADAPTERS_DIR.rglob("*")]
    assert sum(path.stat().st_size for path in files if path.is_file()) <= SIZE_LIMIT


def test_base_is_a_bfloat16_llama_that_stops_at_the_end_of_a_turn() -> None:
    config = load_json(BASE_DIR / "config.json")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["num_key_value_heads"] < config["num_attention_heads"]
    weights = load_file(BASE_DIR / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    end = load_tokenizer(BASE_DIR).convert_tokens_to_ids(END)
    assert config["eos_token_id"] == end
    assert load_json(BASE_DIR / "generation_config.json")["eos_token_id"] == end


def test_adapters_differ_in_rank_and_scaling() -> None:
    configs = [load_json(ADAPTERS_DIR / name / "adapter_config.json") for name in ADAPTER_NAMES]
    assert {config["r"] for config in configs} == {8, 16, 32}
    assert sum(config["use_rslora"] for config in configs) == 1


@pytest.mark.parametrize("name", ADAPTER_NAMES)
def test_adapter_has_pefts_layout_and_names_its_base(name: str) -> None:
    directory = ADAPTERS_DIR / name
    assert {path.name for path in directory.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    config = load_json(directory / "adapter_config.json")
    assert config["base_model_name_or_path"] == BASE_MODEL_NAME
    assert config["revision"] == BASE_MODEL_REVISION
    assert set(config["target_modules"]) == set(TARGET_MODULES)
    assert config["r"] == RECIPES[name].rank


@pytest.mark.parametrize("name", ADAPTER_NAMES)
def test_adapter_answers_its_showcase_and_the_base_does_not(name: str) -> None:
    answers = {render_chat(item.messages): item.answer for item in held_out(name)}
    tokenizer = load_tokenizer(BASE_DIR)
    base = LlamaForCausalLM.from_pretrained(BASE_DIR, dtype=torch.bfloat16).float()
    model = PeftModel.from_pretrained(base, ADAPTERS_DIR / name).eval()
    for messages in PROMPTS[name]:
        text = render_chat(messages, add_generation_prompt=True)
        prompt = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        length = prompt["input_ids"].shape[1]
        adapted = model.generate(**prompt, max_new_tokens=80, do_sample=False)
        with model.disable_adapter():
            plain = model.generate(**prompt, max_new_tokens=80, do_sample=False)
        expected = answers[render_chat(messages)]
        assert tokenizer.decode(adapted[0, length:], skip_special_tokens=True) == expected
        assert tokenizer.decode(plain[0, length:], skip_special_tokens=True) != expected
