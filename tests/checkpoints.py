"""Checkpoints and adapters written by transformers and PEFT, small and random, for any test."""

import functools
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

TINY: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": 1,
    "bos_token_id": 0,
}


def write_checkpoint(
    directory: Path, seed: int = 0, family: str = "llama", **overrides: Any
) -> Path:
    """A random checkpoint of a family, saved by transformers."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **{**TINY, **overrides})
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        # Sharp enough that greedy choices are not near ties.
        parameter.data.normal_(0, 0.2 if parameter.dim() > 1 else 0.02)
        if name.endswith("norm.weight"):
            parameter.data.add_(1.0)
    model.save_pretrained(directory)
    return directory


def write_adapter(
    directory: Path,
    model_path: Path,
    rank: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **overrides: Any,
) -> Path:
    """A random adapter of every linear module (or `target_modules`), saved by PEFT in `dtype`."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"target_modules": "all-linear", "lora_alpha": 2 * rank}
    config = LoraConfig(r=rank, task_type="CAUSAL_LM", **{**settings, **overrides})
    base = AutoModelForCausalLM.from_pretrained(model_path, dtype=dtype)
    model = get_peft_model(base, config, autocast_adapter_dtype=False)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # PEFT starts it at zero: an adapter that changes nothing
            parameter.data.normal_(0, 0.2 / rank**0.5)
    model.save_pretrained(directory)
    return directory


def scale_adapter(directory: Path, factor: float) -> Path:
    """Multiplies every tensor of an adapter; by 1e35, what it computes overflows."""
    path = directory / "adapter_model.safetensors"
    save_file({name: tensor * factor for name, tensor in load_file(path).items()}, path)
    return directory


@functools.cache
def load_reference(model_path: Path, adapter_path: Path | None) -> torch.nn.Module:
    """transformers, with the adapter through PEFT if there is one. Kept: do not change it."""
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    if adapter_path is not None:
        model = PeftModel.from_pretrained(model, adapter_path)
    return model.eval()
