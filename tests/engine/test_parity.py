"""A mixed batch against transformers and PEFT run one by one: logits, and greedy tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from inference_service.engine import model_runner
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_pool import PagePool
from inference_service.engine.request import Load, SamplingOptions, Submit
from inference_service.models.families import make_spec
from inference_service.models.spec import UnsupportedModelError
from kernels.gpu.ops import TritonKernels
from kernels.reference import ReferenceKernels
from kernels.select import Kernels
from tests.checkpoints import write_adapter, write_checkpoint
from tests.engine.driver import run_to_end
from tests.engine.mixed import (
    BASE,
    make_resident,
    mixed_logits,
    prompt_for,
    reference_greedy,
    reference_logits,
)

MEMORY = 8 << 20


@pytest.mark.parametrize(
    ("kernels", "names", "growth"),
    [
        (None, None, 9),
        (ReferenceKernels(), None, 9),
        (TritonKernels(), ("r3", "r33"), 1),  # interpreted: slow
    ],
    ids=["native", "reference", "triton"],
)
def test_logits_of_a_mixed_batch_equal_peft(
    model_path: Path,
    adapter_paths: dict[str, Path],
    kernels: "Kernels | None",
    names: tuple[str, ...] | None,
    growth: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the kernels of this machine, then with the others."""
    if kernels is not None:
        monkeypatch.setattr(model_runner, "select_kernels", lambda *_: kernels)
    runner = ModelRunner(EngineConfig(str(model_path), dtype="float32", memory_bytes=MEMORY))
    pool = PagePool(runner.arena.shape[0])
    adapters = make_resident(runner, pool, {n: adapter_paths[n] for n in names or adapter_paths})
    prompts, logits = mixed_logits(runner, adapters, pool, growth)
    for name, tokens in prompts.items():
        want = reference_logits(model_path, adapter_paths.get(name), tokens)
        torch.testing.assert_close(logits[name], want, rtol=1e-4, atol=1e-4, msg=name)
        if name != BASE:  # the adapter did something
            base = reference_logits(model_path, None, tokens)
            assert (want - base).abs().max() > 0.05


@pytest.mark.parametrize(
    "overrides",
    [
        {"tie_word_embeddings": True},
        {"attention_bias": True, "mlp_bias": True},
        {"num_key_value_heads": 4, "head_dim": 24},
        {"family": "mistral", "sliding_window": None, "head_dim": 16},
        {"family": "qwen2"},
        {"family": "qwen2", "sliding_window": 32, "use_sliding_window": False},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}},
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ],
    ids=lambda overrides: ",".join(overrides),
)
def test_checkpoint_variants(tmp_path: Path, overrides: dict[str, Any]) -> None:
    model_path = write_checkpoint(tmp_path / "model", **overrides)
    adapter = write_adapter(tmp_path / "adapter", model_path, 5)
    runner = ModelRunner(EngineConfig(str(model_path), dtype="float32", memory_bytes=MEMORY))
    pool = PagePool(runner.arena.shape[0])
    adapters = make_resident(runner, pool, {"adapter": adapter})
    prompts, logits = mixed_logits(runner, adapters, pool)
    for name, path in ((BASE, None), ("adapter", adapter)):
        want = reference_logits(model_path, path, prompts[name])
        torch.testing.assert_close(logits[name], want, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("max_num_batched_tokens", [2048, 17], ids=["whole", "chunked"])
def test_greedy_tokens_mixed_equal_solo_equal_peft(
    model_path: Path, adapter_paths: dict[str, Path], max_num_batched_tokens: int
) -> None:
    config = EngineConfig(
        str(model_path),
        dtype="float32",
        memory_bytes=MEMORY,
        max_num_batched_tokens=max_num_batched_tokens,
    )
    names = [BASE, *adapter_paths]
    prompts = {name: prompt_for(i, 3 + 11 * i) for i, name in enumerate(names)}
    sampling = SamplingOptions(temperature=0.0, max_tokens=20)
    submits = [
        Submit(i, prompts[name], sampling, "" if name == BASE else name)
        for i, name in enumerate(names)
    ]
    engine = Engine(config)
    for i, (name, path) in enumerate(adapter_paths.items()):
        engine.handle(Load(1000 + i, name, str(path)))
    mixed = run_to_end(engine, submits)
    for submit, name in zip(submits, names, strict=True):
        solo = run_to_end(engine, [submit])
        assert mixed[submit.request_id] == solo[submit.request_id], name
        want = reference_greedy(model_path, adapter_paths.get(name), prompts[name], 20)
        assert mixed[submit.request_id].token_ids == want, name
    engine.check_integrity()


def test_an_adapter_config_is_not_ignored(adapter_paths: dict[str, Path]) -> None:
    """The cases above cover what they are named for."""
    patterns = json.loads((adapter_paths["patterns"] / "adapter_config.json").read_text())
    assert patterns["rank_pattern"]
    assert patterns["alpha_pattern"]
    rslora = json.loads((adapter_paths["rslora"] / "adapter_config.json").read_text())
    assert rslora["use_rslora"] is True


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"model_type": "gpt2"}, "model_type"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"sliding_window": 32}, "sliding_window"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"head_dim": 15}, "head_dim"),
        ({"head_dim": 320}, "head_dim"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(
    model_path: Path, overrides: dict[str, Any], field: str
) -> None:
    config = json.loads((model_path / "config.json").read_text()) | overrides
    config = {key: value for key, value in config.items() if value is not None}
    with pytest.raises(UnsupportedModelError, match=field):
        make_spec(config)
