"""Padded decode steps give what unpadded ones give, whatever was in the bucket before.

Here the prepared pass is a call; on a GPU it is a CUDA graph, and everything else is the same.
"""

from pathlib import Path

import pytest
import torch

from inference_service.engine import model_runner
from inference_service.engine.adapter_cache import ResidentAdapter
from inference_service.engine.bucket_runner import CallReplay, StepResult, bucket_sizes
from inference_service.engine.config import EngineConfig, EngineConfigError
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_pool import PagePool, PageUse
from inference_service.engine.step_input import StepInput
from kernels.cpu.ops import CpuKernels
from kernels.gpu.ops import TritonKernels
from kernels.select import Kernels
from tests.checkpoints import write_adapter, write_checkpoint
from tests.engine.mixed import BASE, make_resident, prompt_for

RANKS = {"r3": 3, "r20": 20}


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer: the interpreter is slow."""
    return write_checkpoint(tmp_path_factory.mktemp("small"), num_hidden_layers=1)


@pytest.fixture(scope="module")
def small_adapters(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {name: write_adapter(root / name, small_model, rank) for name, rank in RANKS.items()}


class Decoding:
    """Sequences that were prefilled once, and decode as often as asked."""

    def __init__(
        self,
        model_path: Path,
        adapters: dict[str, Path],
        kernels: Kernels,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(model_runner, "select_kernels", lambda *_: kernels)
        config = EngineConfig(
            str(model_path), dtype="float32", memory_bytes=1 << 20, max_model_len=64
        )
        self.runner = ModelRunner(config)
        self.runner.arena.fill_(float("nan"))  # where nothing was written
        self._pool = PagePool(self.runner.arena.shape[0])
        self._adapters = make_resident(self.runner, self._pool, adapters)
        self._sequences: list[tuple[list[int], list[int], ResidentAdapter | None]] = []

    def add(self, name: str, length: int) -> None:
        tokens = prompt_for(length, length)
        pages = self._pool.allocate(self.runner.layout.num_blocks(length + 1), PageUse.KV)
        adapter = self._adapters[name]
        self.runner.run([StepInput(tokens, 0, pages, adapter, samples=True)])
        self._sequences.append((tokens, pages, adapter))

    def step(self, rows: list[int]) -> StepResult:
        """Decodes one token of each of these sequences; does not count it as theirs."""
        inputs = [
            StepInput([row + 7], len(tokens), pages, adapter, samples=True)
            for row in rows
            for tokens, pages, adapter in [self._sequences[row]]
        ]
        result = self.runner.run(inputs)
        return StepResult(result.logits.clone(), result.hidden.clone())

    def use_buckets(self, max_num_seqs: int) -> None:
        self.runner.use_buckets(CallReplay, max_num_seqs)


def check_padded(decoding: Decoding, steps: list[list[int]], max_num_seqs: int) -> None:
    unpadded = [decoding.step(rows) for rows in steps]
    decoding.use_buckets(max_num_seqs)
    for rows, want in zip(steps, unpadded, strict=True):
        arena = decoding.runner.arena.clone()
        got = decoding.step(rows)
        assert got.logits.shape == want.logits.shape
        torch.testing.assert_close(got.logits, want.logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(got.hidden, want.hidden, rtol=1e-5, atol=1e-5)
        # Padding wrote no KV: what a step writes, the unpadded one had written already.
        after = decoding.runner.arena
        torch.testing.assert_close(after, arena, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_the_base_alone(small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding = Decoding(small_model, {}, CpuKernels(torch.float32), monkeypatch)
    for length in (3, 16, 40, 15, 1, 30, 17):
        decoding.add(BASE, length)
    check_padded(decoding, [[0, 1, 2, 3, 4], [5], [6, 2, 1], [0, 1, 2, 3, 4, 5, 6]], 7)


def test_a_mixed_batch(
    small_model: Path, small_adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full bucket, then fewer rows of other adapters in the same one, then none adapted."""
    decoding = Decoding(small_model, small_adapters, TritonKernels(), monkeypatch)
    for name, length in ((BASE, 3), ("r3", 2), ("r20", 17), ("r3", 4)):
        decoding.add(name, length)
    check_padded(decoding, [[1, 0, 2, 3], [2, 0, 1], [0, 0, 0], [3]], 4)


def test_only_steps_that_decode_are_padded(
    small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding = Decoding(small_model, {}, CpuKernels(torch.float32), monkeypatch)
    decoding.use_buckets(2)
    buckets = decoding.runner._buckets
    assert buckets is not None

    def step(num_tokens: int, samples: bool = True) -> StepInput:
        return StepInput([3] * num_tokens, 5, [0], None, samples)

    assert buckets.can_run([step(1), step(1)], None)
    assert not buckets.can_run([step(1), step(2)], None)
    assert not buckets.can_run([step(1), step(1, samples=False)], None)
    assert not buckets.can_run([step(1)] * 3, None)


def test_kernels_that_read_tiles_run_adapters_unpadded(
    small_model: Path, small_adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding = Decoding(small_model, small_adapters, CpuKernels(torch.float32), monkeypatch)
    for name, length in ((BASE, 3), ("r3", 2), ("r20", 17)):
        decoding.add(name, length)
    check_padded(decoding, [[1, 0, 2], [2, 0, 1], [0, 0]], 4)


def test_bucket_sizes() -> None:
    assert bucket_sizes(1) == [1]
    assert bucket_sizes(6) == [1, 2, 4, 6]
    assert bucket_sizes(8) == [1, 2, 4, 8]
    assert bucket_sizes(30) == [1, 2, 4, 8, 16, 24, 30]
    assert bucket_sizes(64) == [1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64]


def test_graphs_are_refused_where_they_cannot_be(small_model: Path) -> None:
    config = EngineConfig(str(small_model), device="cpu", cuda_graphs="on")
    with pytest.raises(EngineConfigError, match=r'cuda_graphs is "on".*"auto"'):
        ModelRunner(config)
