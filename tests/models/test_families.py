"""Every family against transformers and PEFT: logits of a mixed batch, and greedy tokens."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from inference_service.engine import model_runner
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_pool import PagePool
from inference_service.engine.request import Load, SamplingOptions, Submit
from inference_service.models.families import read_spec
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
from tests.models.conftest import Family
from tests.models.families import WINDOW

MEMORY = 8 << 20


def check_logits(family: Family, growth: int, paths: dict[str, Path] | None = None) -> None:
    """One prefill of base and adapters; the longest prompt has 5 + 2 * growth tokens."""
    paths = family.adapters if paths is None else paths
    config = EngineConfig(str(family.model_path), dtype="float32", memory_bytes=MEMORY)
    runner = ModelRunner(config)
    pool = PagePool(runner.arena.shape[0])
    adapters = make_resident(runner, pool, paths)
    prompts, logits = mixed_logits(runner, adapters, pool, growth)
    for name, tokens in prompts.items():
        want = reference_logits(family.model_path, family.adapters.get(name), tokens)
        torch.testing.assert_close(logits[name], want, rtol=1e-4, atol=1e-4, msg=name)
        if name != BASE:  # the adapter did something
            base = reference_logits(family.model_path, None, tokens)
            assert (want - base).abs().max() > 0.05


def test_logits_of_a_mixed_batch_equal_peft(family: Family) -> None:
    check_logits(family, growth=2 * WINDOW)


def test_logits_with_the_reference_kernels(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_runner, "select_kernels", lambda *_: ReferenceKernels())
    check_logits(family, growth=2 * WINDOW)


@pytest.mark.parametrize("name", ["qwen3", "phi-2"])
def test_logits_with_the_triton_kernels(
    name: str, make_family: Callable[[str], Family], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interpreted, so slow: the families that differ most for a kernel, the base alone."""
    kernels: Kernels = TritonKernels()
    monkeypatch.setattr(model_runner, "select_kernels", lambda *_: kernels)
    check_logits(make_family(name), 0, paths={})


def test_64_greedy_tokens_equal_peft(family: Family) -> None:
    """Prompts longer and shorter than the window, in chunks; decoding goes over its border."""
    config = EngineConfig(
        str(family.model_path), dtype="float32", memory_bytes=MEMORY, max_num_batched_tokens=17
    )
    sampling = SamplingOptions(temperature=0.0, max_tokens=64)
    prompts = {BASE: prompt_for(1, WINDOW + 13), "r5": prompt_for(2, WINDOW - 7), "r19": [5, 6]}
    engine = Engine(config)
    for number, (name, path) in enumerate(family.adapters.items()):
        engine.handle(Load(1000 + number, name, str(path)))
    submits = [
        Submit(number, prompt, sampling, "" if name == BASE else name)
        for number, (name, prompt) in enumerate(prompts.items())
    ]
    results = run_to_end(engine, submits)
    for number, (name, prompt) in enumerate(prompts.items()):
        want = reference_greedy(family.model_path, family.adapters.get(name), prompt, 64)
        assert results[number].token_ids == want, name


@pytest.mark.parametrize("name", ["mistral", "qwen2-window", "phi-3"])
def test_the_window_matters(name: str, make_family: Callable[[str], Family]) -> None:
    """Else the tests above would pass without one."""
    family = make_family(name)
    assert WINDOW in read_spec(family.model_path).windows
    tokens = prompt_for(0, 2 * WINDOW)
    wider = AutoModelForCausalLM.from_pretrained(family.model_path, sliding_window=200)
    with torch.inference_mode():
        full = wider(torch.tensor([tokens])).logits[0, -1]
    windowed = reference_logits(family.model_path, None, tokens)
    assert (full - windowed).abs().max() > 0.05
