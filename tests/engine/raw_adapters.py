"""Random adapters written without PEFT, which takes a model and a second for each."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from inference_service.models.spec import DecoderSpec


def write_raw_adapter(directory: Path, spec: DecoderSpec, rank: int, seed: int) -> Path:
    """An adapter of every linear module in the layout of PEFT; different for each seed."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(spec.num_layers):
        for module in spec.modules:
            in_features, out_features = spec.module_shape(module)
            path = f"base_model.model.{spec.module_path(layer, module)}"
            a = torch.randn(rank, in_features, generator=generator) / in_features**0.5
            b = torch.randn(out_features, rank, generator=generator) * (0.4 / rank**0.5)
            tensors[f"{path}.lora_A.weight"], tensors[f"{path}.lora_B.weight"] = a, b
    directory.mkdir(parents=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": list(spec.modules),
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory
