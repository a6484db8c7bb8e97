"""What a config asks for is read as transformers reads it, or refused by the field's name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inference_service.engine.config import EngineConfig
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_pool import PagePool
from inference_service.models.families import make_spec
from inference_service.models.spec import UnsupportedModelError
from tests.checkpoints import write_adapter, write_checkpoint
from tests.engine.mixed import make_resident, mixed_logits, reference_logits
from tests.models.conftest import Family


@pytest.mark.parametrize(
    ("model_type", "overrides"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"num_key_value_heads": 4, "head_dim": 24}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}}),
        ("mistral", {"sliding_window": None, "head_dim": 16}),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": False}),
        (
            "qwen2",
            {
                "sliding_window": 8,
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            },
        ),
        ("qwen3", {"attention_bias": True, "tie_word_embeddings": True, "num_hidden_layers": 1}),
        ("phi", {"partial_rotary_factor": 0.25, "tie_word_embeddings": True}),
        ("phi", {"hidden_act": "gelu_pytorch_tanh", "num_key_value_heads": 1}),
        ("phi3", {"partial_rotary_factor": 0.5, "pad_token_id": 0, "tie_word_embeddings": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_variants_equal_transformers(
    tmp_path: Path, model_type: str, overrides: dict[str, Any]
) -> None:
    model_path = write_checkpoint(tmp_path / "model", family=model_type, **overrides)
    config = EngineConfig(str(model_path), dtype="float32", memory_bytes=8 << 20)
    runner = ModelRunner(config)
    pool = PagePool(runner.arena.shape[0])
    adapters = {
        "adapter": write_adapter(tmp_path / "adapter", model_path, 5, target_modules="all-linear")
    }
    resident = make_resident(runner, pool, adapters)
    prompts, logits = mixed_logits(runner, resident, pool, growth=32)
    for name, tokens in prompts.items():
        want = reference_logits(model_path, adapters.get(name), tokens)
        torch.testing.assert_close(logits[name], want, rtol=1e-4, atol=1e-4, msg=name)


def rope(**fields: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": 1e4, **fields}}


LONGROPE = {"rope_type": "longrope", "long_factor": [1.0] * 8, "short_factor": [1.0] * 8}


@pytest.mark.parametrize(
    ("name", "overrides", "field"),
    [
        ("llama", {"model_type": "gpt2"}, "model_type 'gpt2'"),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "architectures"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act"),
        ("llama", {"sliding_window": 32}, "sliding_window"),
        ("llama", {"layer_types": ["sliding_attention"] * 3}, "layer_types"),
        ("llama", {"pretraining_tp": 2}, "pretraining_tp"),
        ("llama", {"is_causal": False}, "is_causal"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("llama", {"num_hidden_layers": None}, "num_hidden_layers"),
        ("llama", {"num_hidden_layers": "3"}, "num_hidden_layers"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads"),
        ("llama", {"head_dim": 15}, "head_dim"),
        ("llama", {"head_dim": 320}, "head_dim"),
        ("llama", {"attention_bias": "yes"}, "attention_bias"),
        ("llama", rope(rope_type="yarn", factor=4.0), "rope_type"),
        ("llama", rope(rope_type="dynamic", factor=4.0), "rope_type"),
        ("llama", rope(rope_type="linear"), "rope_parameters.factor"),
        ("llama", rope(rope_type="linear", factor=-1), "rope_parameters.factor"),
        ("llama", rope(rope_type="default", mrope_section=[1, 2]), "mrope_section"),
        ("llama", {"rope_scaling": {"type": "ntk", "factor": 2}}, "rope_scaling.type"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("mistral", {"layer_types": ["full_attention"] * 3}, "layer_types"),
        ("qwen2", {"layer_types": ["full_attention"] * 2}, "layer_types"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 3}, "layer_types"),
        ("qwen2", {"layer_types": ["chunked_attention"] * 3}, "layer_types"),
        ("qwen3", {"hidden_act": "gelu"}, "hidden_act"),
        ("phi-2", {"qk_layernorm": True}, "qk_layernorm"),
        ("phi-2", {"hidden_act": "relu"}, "hidden_act"),
        ("phi-2", {"sliding_window": 8}, "sliding_window"),
        ("phi-2", {"rope_parameters": {"partial_rotary_factor": 0.25}}, "partial_rotary_factor"),
        ("phi-3", rope(rope_type="llama3"), "rope_type"),
        ("phi-3", rope(**LONGROPE, original_max_position_embeddings=99), "original_max_position"),
        ("phi-3", rope(**{**LONGROPE, "short_factor": [1.0]}), "short_factor"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(
    make_family: Callable[[str], Family], name: str, overrides: dict[str, Any], field: str
) -> None:
    config = json.loads((make_family(name).model_path / "config.json").read_text())
    make_spec(config)
    with pytest.raises(UnsupportedModelError, match=field):
        make_spec({key: value for key, value in (config | overrides).items() if value is not None})


def test_longrope_ends_where_the_long_factors_begin(
    make_family: Callable[[str], Family],
) -> None:
    path = str(make_family("phi-3-longrope").model_path)
    config = EngineConfig(path, dtype="float32", memory_bytes=8 << 20)
    assert ModelRunner(config).max_model_len == 128
    config = EngineConfig(path, dtype="float32", memory_bytes=8 << 20, max_model_len=129)
    with pytest.raises(UnsupportedModelError, match="original_max_position_embeddings"):
        ModelRunner(config)
