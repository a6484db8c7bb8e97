"""A mixed batch against transformers and PEFT run one by one: logits, and greedy tokens."""

import json
from pathlib import Path

import pytest
import torch

from inference_service.engine import model_runner
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_pool import PagePool
from inference_service.engine.request import Load, SamplingOptions, Submit
from kernels.gpu.ops import TritonKernels
from kernels.reference import ReferenceKernels
from kernels.select import Kernels
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
