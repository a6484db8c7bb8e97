"""The arena's size, and the options that say it. The GPU's own part of this is in tests/gpu."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest
import torch

from inference_service.engine.arena_size import arena_bytes, bytes_left
from inference_service.engine.config import DEFAULT_MEMORY_BYTES, EngineConfig, EngineConfigError
from inference_service.engine.device_memory import read_device_memory
from inference_service.engine.largest_step import run_largest_step
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.self_report import DeviceMemory
from inference_service.models.decoder import Decoder
from inference_service.models.loader import load_weights
from kernels.reference import ReferenceKernels

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIB = 1 << 30


def size(
    device: torch.device = CPU, run: Callable[[], None] | None = None, **options: float
) -> int:
    def not_run() -> None:
        raise AssertionError("nothing to measure")

    config = EngineConfig("model", **options)  # type: ignore[arg-type]
    return arena_bytes(config, device, [run or not_run])


def test_a_cpu_takes_memory_bytes() -> None:
    assert size() == DEFAULT_MEMORY_BYTES
    assert size(memory_bytes=5 << 20) == 5 << 20


def test_a_gpu_that_was_told_a_size_measures_nothing() -> None:
    assert size(CUDA, memory_bytes=5 << 20) == 5 << 20


def test_a_share_is_refused_where_it_means_nothing(model_path: Path) -> None:
    with pytest.raises(EngineConfigError, match=r"gpu_memory_utilization.*CPU.*memory_bytes"):
        ModelRunner(EngineConfig(str(model_path), device="cpu", gpu_memory_utilization=0.5))
    with pytest.raises(EngineConfigError, match="both set"):
        size(CUDA, memory_bytes=1, gpu_memory_utilization=0.5)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(EngineConfigError, match=r"\(0, 1\]"):
        size(CUDA, gpu_memory_utilization=share)


def test_what_a_share_leaves() -> None:
    """Of 80 GiB: 72 may be used, 20 are (weights, and another process), a step takes 2."""
    memory = DeviceMemory(80 * GIB, 60 * GIB, 15 * GIB)
    assert bytes_left(0.9, memory, 2 * GIB) == 50 * GIB
    with pytest.raises(EngineConfigError, match="max_num_batched_tokens"):
        bytes_left(0.25, memory, 2 * GIB)


def test_the_memory_of_a_cpu_is_the_machines() -> None:
    memory = read_device_memory(CPU)
    assert memory.total_bytes == psutil.virtual_memory().total
    assert 0 < memory.process_bytes < memory.total_bytes
    assert 0 < memory.used_bytes < memory.total_bytes
    ballast = torch.ones(64 << 20, dtype=torch.uint8)
    assert read_device_memory(CPU).process_bytes > memory.process_bytes + ballast.nbytes // 2


@pytest.mark.parametrize("decodes", [False, True])
def test_the_largest_step_runs_before_there_is_an_arena(model_path: Path, decodes: bool) -> None:
    """With a maximum rank whose last chunk is not full, over several sequences."""
    config = EngineConfig(
        str(model_path),
        max_model_len=24,
        max_num_batched_tokens=64,
        max_num_seqs=9,
        max_lora_rank=20,
    )
    runner = ModelRunner(msgspec.structs.replace(config, memory_bytes=1 << 20))
    ran: list[torch.Tensor] = []

    class Watched(Decoder):
        def logits(self, hidden: torch.Tensor) -> torch.Tensor:
            ran.append(super().logits(hidden))
            return ran[-1]

    spec, layout = runner.spec, runner.layout
    kernels = ReferenceKernels()
    weights = load_weights(model_path, spec, CPU, torch.float32, kernels)
    decoder = Watched(spec, weights, kernels, layout, 24)
    run_largest_step(decoder, spec, layout, config, weights.norm.weight, decodes)
    (logits,) = ran
    assert logits.shape == (9, spec.vocab_size)
    assert logits.isfinite().all()
