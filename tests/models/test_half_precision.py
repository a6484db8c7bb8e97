"""In half precision an engine may be as far from the truth as transformers is in it."""

from collections.abc import Callable
from typing import Literal

import torch
from transformers import AutoModelForCausalLM

from inference_service.engine.config import EngineConfig
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_pool import PagePool, PageUse
from inference_service.engine.step_input import StepInput
from tests.engine.mixed import prompt_for
from tests.models.conftest import Family

NUM_PROMPTS, LENGTH = 16, 40


def test_the_error_in_bfloat16(family: Family) -> None:
    check_error(family, "bfloat16")


def test_the_error_in_float16(make_family: Callable[[str], Family]) -> None:
    """On a CPU with the reference kernels: there are no fast ones."""
    check_error(make_family("llama"), "float16")


def check_error(family: Family, dtype: Literal["bfloat16", "float16"]) -> None:
    """Root mean square over the logits of many positions, against float32 on the same weights.

    Both round at nearly the same places, so chance decides which is nearer in one position; over
    640 of them the rotary angles and attention weights that we keep in float32 decide.
    """
    prompts = [prompt_for(index, LENGTH) for index in range(NUM_PROMPTS)]
    model = AutoModelForCausalLM.from_pretrained(family.model_path, dtype=getattr(torch, dtype))
    with torch.inference_mode():
        theirs = model(torch.tensor(prompts)).logits.float().flatten(0, 1)
        truth = model.float()(torch.tensor(prompts)).logits.flatten(0, 1)
    ours = engine_logits(family, prompts, dtype)
    error, reference_error = (rms(logits - truth) for logits in (ours, theirs))
    assert 0 < error <= reference_error
    assert rms(truth) > 10 * reference_error  # the comparison is not one of noise


def engine_logits(
    family: Family, prompts: list[list[int]], dtype: Literal["bfloat16", "float16"]
) -> torch.Tensor:
    config = EngineConfig(str(family.model_path), dtype=dtype, memory_bytes=8 << 20)
    runner = ModelRunner(config)
    pool = PagePool(runner.arena.shape[0])
    num_blocks = runner.layout.num_blocks(LENGTH)
    inputs = [
        StepInput(prompt, 0, pool.allocate(num_blocks, PageUse.KV), None, True)
        for prompt in prompts
    ]
    return runner.logits(runner.run(inputs).hidden)


def rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())
