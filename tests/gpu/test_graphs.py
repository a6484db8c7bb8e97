"""A recorded step gives what a plain one gives, for every size and whatever ran before."""

from pathlib import Path

import pytest
import torch

from inference_service.engine.bucket_runner import CallReplay
from inference_service.engine.config import EngineConfig
from inference_service.engine.cuda_graphs import CudaGraphs
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_pool import PagePool, PageUse
from inference_service.engine.step_input import StepInput
from tests.engine.mixed import BASE, make_resident, prompt_for

pytestmark = pytest.mark.gpu

MAX_NUM_SEQS = 12


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_replays_equal_calls(
    model_path: Path, adapter_paths: dict[str, Path], device: torch.device, dtype: str
) -> None:
    """To the bit: the same kernels on the same shapes."""
    config = EngineConfig(
        str(model_path),
        device="cuda",
        dtype=dtype,  # type: ignore[arg-type]
        memory_bytes=64 << 20,
        cuda_graphs="off",
    )
    runner = ModelRunner(config)
    pool = PagePool(runner.arena.shape[0])
    adapters = make_resident(runner, pool, adapter_paths)
    names = [BASE, *adapter_paths]
    sequences = []
    for i in range(MAX_NUM_SEQS):
        tokens, adapter = prompt_for(i, 3 + 7 * i), adapters[names[i % len(names)]]
        pages = pool.allocate(runner.layout.num_blocks(len(tokens) + 1), PageUse.KV)
        runner.run([StepInput(tokens, 0, pages, adapter, samples=True)])
        sequences.append((len(tokens), pages, adapter))

    def steps() -> list[torch.Tensor]:
        results = []
        for rows in ([*range(12)], [3], [0], [5, 1, 0], [0, 5, 10], [*range(3, 12)], [2, 2]):
            inputs = [
                StepInput([row + 7], length, pages, adapter, samples=True)
                for row in rows
                for length, pages, adapter in [sequences[row]]
            ]
            result = runner.run(inputs)
            results += [result.logits.clone(), result.hidden.clone()]
        return results

    plain = steps()
    runner.use_buckets(CallReplay, MAX_NUM_SEQS)
    called = steps()
    runner.use_buckets(CudaGraphs(device).record, MAX_NUM_SEQS)
    replayed = steps()
    bound = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 4e-3}[dtype]
    for one, padded, recorded in zip(plain, called, replayed, strict=True):
        assert torch.equal(recorded, padded)
        assert (padded - one).norm() <= bound * one.norm()
