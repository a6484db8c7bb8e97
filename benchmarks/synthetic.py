"""Random checkpoints and adapters of any shape, written tensor by tensor: no model is built."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from inference_service.models.families import make_spec
from inference_service.models.spec import DecoderSpec

TINYLLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def write_tinyllama(directory: Path, num_layers: int = 22, seed: int = 0) -> Path:
    """A bfloat16 checkpoint in the shape of TinyLlama-1.1B, with as many layers as asked for."""
    return write_llama(directory, {**TINYLLAMA, "num_hidden_layers": num_layers}, seed)


def write_llama(directory: Path, config: Mapping[str, object], seed: int = 0) -> Path:
    """A bfloat16 checkpoint of a Llama without biases, of the shape that `config` says."""
    spec = make_spec(config)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
        for name, shape in _llama_shapes(spec)
    }
    directory.mkdir(parents=True)
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def _llama_shapes(spec: DecoderSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (spec.vocab_size, spec.hidden_size)
    yield "lm_head.weight", (spec.vocab_size, spec.hidden_size)
    yield "model.norm.weight", (spec.hidden_size,)
    for layer in range(spec.num_layers):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"model.layers.{layer}.{norm}.weight", (spec.hidden_size,)
        for module in spec.modules:
            in_features, out_features = spec.module_shape(module)
            yield f"{spec.module_path(layer, module)}.weight", (out_features, in_features)


def write_adapter(
    directory: Path,
    spec: DecoderSpec,
    rank: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    modules: tuple[str, ...] = (),
) -> Path:
    """An adapter in the layout of PEFT, different for each seed; without `modules`, of all."""
    modules = modules or spec.modules
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(spec.num_layers):
        for module in modules:
            in_features, out_features = spec.module_shape(module)
            path = f"base_model.model.{spec.module_path(layer, module)}"
            a = torch.randn(rank, in_features, generator=generator) / in_features**0.5
            b = torch.randn(out_features, rank, generator=generator) * (0.4 / rank**0.5)
            tensors[f"{path}.lora_A.weight"] = a.to(dtype)
            tensors[f"{path}.lora_B.weight"] = b.to(dtype)
    directory.mkdir(parents=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": list(modules),
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory
