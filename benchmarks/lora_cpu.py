"""What the C LoRA kernels add to a step of TinyLlama's shape, against memory and against torch.

    python -m benchmarks.lora_cpu [--dtype float32] [--isa avx2] [--threads N] [--runs N] [--json]

A step is all four sites of all 22 layers, each with adapters in memory of its own, and the caches
are emptied before every call, as the base GEMMs do it. Decode is one token of each adapter, and 16
tokens of one; prefill is 8 prompts of 237 tokens with as many adapters, and one of 1,900.

Torch gathers the adapters by token, padded to the largest rank, and uses einsum, as engines without
kernels for mixed ranks do it; in a prefill it makes two matrix products for each adapter. It reads
the first layer's adapters for all layers. Both sides take turns, and so does reading memory;
figures are medians of steps.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track

from benchmarks.interleaved import DType, clock, read_bandwidth
from benchmarks.lora_step import LoraStep, Matrices
from benchmarks.options import AsJson, Threads
from benchmarks.report import Machine, Report, Row, publish
from kernels.cpu.build import supported_isas
from kernels.cpu.ops import CpuKernels
from kernels.layouts import LoraSite

_FLUSH_BYTES = 64 << 20  # more than the caches hold
_MIXED = (8, 16, 32, 64)
_READS = 3  # after each step: memory's speed changes from one second to the next
_BAR = 0.8  # of what reading memory gives


@dataclass(frozen=True)
class Setting:
    """`is_bound` by the adapters' bytes: then GB/s say how good a step is."""

    name: str
    ranks: tuple[int, ...]
    num_tokens: int
    is_bound: bool = False


SETTINGS = (
    Setting("decode 1, rank 16", (16,), 1),
    Setting("decode 8, ranks 8-64", _MIXED * 2, 1),
    Setting("decode 16, ranks 8-64", _MIXED * 4, 1, is_bound=True),
    Setting("decode 16, rank 16", (16,) * 16, 1, is_bound=True),
    Setting("decode 16 of one, rank 16", (16,), 16),
    Setting("prefill 8 x 237, ranks 8-64", _MIXED * 2, 237),
    Setting("prefill 1 x 1,900, rank 16", (16,), 1900),
)


class _Gathered:
    """One tensor of all adapters padded to the largest rank, gathered by token."""

    def __init__(self, site: LoraSite, matrices: list[Matrices]) -> None:
        self._site, self._indices = site, torch.arange(len(matrices))
        largest = max(a.shape[0] for adapter in matrices for a, _ in adapter)
        self._stacked = [
            [
                torch.stack([_padded(adapter[part.module][side], largest) for adapter in matrices])
                for side in (0, 1)
            ]
            for part in site.slices
        ]

    def apply(self, y: torch.Tensor, x: torch.Tensor) -> None:
        for part, (a, b) in zip(self._site.slices, self._stacked, strict=True):
            shrunk = torch.einsum("ti,tri->tr", x, a[self._indices])
            columns = y[:, part.out_start : part.out_start + part.out_features]
            columns += torch.einsum("tr,tro->to", shrunk, b[self._indices])


class _Looped:
    """Two matrix products for each adapter, as PEFT does it for a batch of one adapter."""

    def __init__(self, site: LoraSite, matrices: list[Matrices]) -> None:
        self._site, self._matrices = site, matrices

    def apply(self, y: torch.Tensor, x: torch.Tensor) -> None:
        num_tokens = x.shape[0] // len(self._matrices)
        for index, adapter in enumerate(self._matrices):
            rows = slice(index * num_tokens, (index + 1) * num_tokens)
            for part in self._site.slices:
                a, b = adapter[part.module]
                columns = y[rows, part.out_start : part.out_start + part.out_features]
                columns += (x[rows] @ a.T) @ b


def _padded(matrix: torch.Tensor, rank: int) -> torch.Tensor:
    return torch.nn.functional.pad(matrix, (0, 0, 0, rank - matrix.shape[0]))


class Case:
    """A step of one setting, ours and torch's."""

    def __init__(self, setting: Setting, kernels: CpuKernels) -> None:
        torch.manual_seed(0)
        self.step = LoraStep(setting.ranks, setting.num_tokens, kernels)
        make_baseline = _Gathered if setting.num_tokens == 1 else _Looped
        self._baselines = {
            name: make_baseline(site, self.step.matrices) for name, site in self.step.sites.items()
        }
        self._flush = torch.ones(_FLUSH_BYTES // 4)

    def check(self) -> None:
        """Both compute the same."""
        for name, (x, y) in self.step.rows.items():
            want = y.clone()
            self._baselines[name].apply(want, x)
            self.step.apply(name, 0)
            bound = 1e-4 if y.dtype == torch.float32 else 5e-2
            torch.testing.assert_close(y, want, rtol=bound, atol=bound)

    def measure(self) -> dict[str, float]:
        """Milliseconds of one step: by site, and "torch" for all of torch's sites."""
        milliseconds: dict[str, float] = defaultdict(float)
        for name, layer in self.step.calls():
            x, y = self.step.rows[name]
            y.zero_()  # or it would grow without end
            milliseconds[name] += self._time(partial(self.step.apply, name, layer))
            milliseconds["torch"] += self._time(partial(self._baselines[name].apply, y, x))
        return milliseconds

    def _time(self, call: Callable[[], None]) -> float:
        self._flush.sum()
        began = clock()
        call()
        return 1000 * (clock() - began)


def _row(setting: Setting, kernels: CpuKernels, runs: int) -> Row:
    case = Case(setting, kernels)
    case.check()
    case.measure()
    steps: list[dict[str, float]] = []
    reads: list[float] = []
    for _ in range(max(2, runs if setting.num_tokens == 1 else runs // 3)):
        steps.append(case.measure())
        reads.append(read_bandwidth(_READS))
    sites = list(case.step.sites)
    milliseconds = [sum(step[site] for site in sites) for step in steps]
    speeds = [case.step.num_bytes / ours / 1e6 for ours in milliseconds]
    ratio = statistics.median(ours / read for ours, read in zip(speeds, reads, strict=True))
    figures: dict[str, float | None] = {
        "ms a step": statistics.median(milliseconds),
        **{f"{site} ms": statistics.median(step[site] for step in steps) for site in sites},
        "MB": case.step.num_bytes / 1e6,
        "GB/s": statistics.median(speeds),
        "of reading": ratio,
        "torch's time to ours": statistics.median(
            step["torch"] / ours for step, ours in zip(steps, milliseconds, strict=True)
        ),
    }
    name = f"{str(kernels.dtype).removeprefix('torch.')}: {setting.name}"
    if not setting.is_bound:
        return Row(name, figures)
    return Row(name, figures, f"{_BAR} of reading", ratio >= _BAR)


def main(
    dtype: Annotated[DType | None, typer.Option(help="Both, unless one is named.")] = None,
    isa: Annotated[str, typer.Option(help="Empty: the best this processor has.")] = "",
    threads: Threads = 0,
    runs: Annotated[int, typer.Option(help="Steps of decode; a third of them of prefill.")] = 7,
    as_json: AsJson = False,
    output: Annotated[Path | None, typer.Option(help="A file for the JSON.")] = None,
) -> None:
    """Times a step of every setting."""
    if threads:
        torch.set_num_threads(threads)
    machine = Machine.measure()
    dtypes = [dtype] if dtype else [DType.bfloat16, DType.float32]
    all_kernels = [
        CpuKernels(getattr(torch, name.value), isa or supported_isas(name.value)[-1].name)
        for name in dtypes
    ]
    work = [(setting, kernels) for kernels in all_kernels for setting in SETTINGS]
    rows = [
        _row(setting, kernels, runs)
        for setting, kernels in track(work, "steps", console=Console(stderr=True))
    ]
    publish(Report("LoRA in a step on a CPU", machine, rows), as_json, output)


if __name__ == "__main__":
    typer.run(main)
