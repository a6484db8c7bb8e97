"""The C LoRA kernels at TinyLlama's shapes: against torch, and against what memory gives.

    python -m benchmarks.lora_cpu [--threads N] [--dtype float32] [--isa avx2] [--runs N] [--json]

Decode: B tokens of B adapters, against an index-gather and einsum padded to the largest rank, as
engines without kernels for mixed ranks do it. Prefill: 8 prompts of 237 tokens, against one pair of
matrix products per adapter. The caches are emptied before every call, as a step's base GEMMs do it.
Both sides alternate in one process; figures are medians.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.interleaved import DType, median_milliseconds, read_bandwidth
from benchmarks.lora_arena import LoraArena
from kernels.cpu.build import supported_isas
from kernels.cpu.ops import CpuKernels
from kernels.layouts import LoraSite

# in_features, out_features of the fused modules: 2048 hidden, 5632 intermediate, 256 for KV.
SITES = {
    "qkv": (2048, (2048, 256, 256)),
    "o": (2048, (2048,)),
    "gate_up": (2048, (5632, 5632)),
    "down": (5632, (2048,)),
}
RANKS = {"16": (16,), "8-64": (8, 16, 32, 64)}
BATCHES = (1, 8, 16)
PREFILL = (8, 237)


@dataclass(frozen=True)
class Figure:
    """Milliseconds of one call; `bytes` are those of the adapters it reads."""

    what: str
    site: str
    ranks: str
    ours: float
    torch: float
    bytes: int

    @property
    def gigabytes_per_second(self) -> float:
        return self.bytes / self.ours / 1e6


class Case:
    """One site, and the adapters and tokens of one call."""

    def __init__(
        self, site: str, ranks: tuple[int, ...], batch: int, tokens: int, kernels: CpuKernels
    ) -> None:
        in_features, out_features = SITES[site]
        all_ranks = [ranks[i % len(ranks)] for i in range(batch)]
        num_params = sum(all_ranks) * (in_features * len(out_features) + sum(out_features))
        self.bytes = num_params * kernels.dtype.itemsize
        cpu = torch.device("cpu")
        self._lora = LoraArena(in_features, out_features, all_ranks, kernels.dtype, cpu)
        self._x, self._y = self._lora.random(batch * tokens)
        self._plan = self._lora.plan([(i, tokens) for i in range(batch)])
        self._kernels = kernels
        matrices = [self._lora.matrices(index) for index in range(batch)]
        make_baseline = _Gathered if tokens == 1 else _Looped
        self._baseline = make_baseline(self._lora.site, matrices)

    def measure(self, runs: int) -> list[float]:
        """Milliseconds per call, ours and torch's."""
        return median_milliseconds(
            [partial(self._ours, self._y), partial(self._torch, self._y)], runs
        )

    def check(self) -> None:
        """Both compute the same."""
        ours, torchs = self._y.clone(), self._y.clone()
        self._ours(ours)
        self._torch(torchs)
        bound = 1e-4 if ours.dtype == torch.float32 else 5e-2
        torch.testing.assert_close(ours, torchs, rtol=bound, atol=bound)

    def _ours(self, y: torch.Tensor) -> None:
        lora = self._lora
        self._kernels.lora_apply(y, self._x, lora.arena, self._plan, lora.site, 0)

    def _torch(self, y: torch.Tensor) -> None:
        self._baseline.apply(y, self._x)


Matrices = list[list[tuple[torch.Tensor, torch.Tensor]]]


class _Gathered:
    """One tensor of all adapters padded to the largest rank, gathered by token."""

    def __init__(self, site: LoraSite, matrices: Matrices) -> None:
        self._site, self._indices = site, torch.arange(len(matrices))
        largest = max(a.shape[0] for pairs in matrices for a, _ in pairs)
        self._stacked = [
            [
                torch.stack([_padded(part, largest) for part in parts])
                for parts in zip(*of_slice, strict=True)
            ]
            for of_slice in zip(*matrices, strict=True)
        ]

    def apply(self, y: torch.Tensor, x: torch.Tensor) -> None:
        for part, (a, b) in zip(self._site.slices, self._stacked, strict=True):
            shrunk = torch.einsum("ti,tri->tr", x, a[self._indices])
            columns = y[:, part.out_start : part.out_start + part.out_features]
            columns += torch.einsum("tr,tro->to", shrunk, b[self._indices])


class _Looped:
    """Two matrix products for each adapter, as PEFT does it for a batch of one adapter."""

    def __init__(self, site: LoraSite, matrices: Matrices) -> None:
        self._site, self._matrices = site, matrices

    def apply(self, y: torch.Tensor, x: torch.Tensor) -> None:
        num_tokens = x.shape[0] // len(self._matrices)
        for adapter, pairs in enumerate(self._matrices):
            rows = slice(adapter * num_tokens, (adapter + 1) * num_tokens)
            for part, (a, b) in zip(self._site.slices, pairs, strict=True):
                columns = y[rows, part.out_start : part.out_start + part.out_features]
                columns += (x[rows] @ a.T) @ b


def _padded(matrix: torch.Tensor, rank: int) -> torch.Tensor:
    return torch.nn.functional.pad(matrix, (0, 0, 0, rank - matrix.shape[0]))


def _measure_all(kernels: CpuKernels, runs: int) -> list[Figure]:
    figures = []
    settings = [(f"decode {batch}", batch, 1) for batch in BATCHES]
    for what, batch, tokens in (*settings, ("prefill {}x{}".format(*PREFILL), *PREFILL)):
        for site in SITES:
            for name, ranks in RANKS.items():
                torch.manual_seed(0)
                case = Case(site, ranks, batch, tokens, kernels)
                case.check()
                few = runs if tokens == 1 else max(3, runs // 10)
                ours, torchs = case.measure(few)
                figures.append(Figure(what, site, name, ours, torchs, case.bytes))
    return figures


def main(
    threads: Annotated[int, typer.Option(help="0: torch's own choice.")] = 0,
    dtype: DType = DType.bfloat16,
    isa: Annotated[str, typer.Option(help="Empty: the best this processor has.")] = "",
    runs: int = 40,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Times every site at every batch and rank."""
    if threads:
        torch.set_num_threads(threads)
    kernels = CpuKernels(getattr(torch, dtype.value), isa or supported_isas(dtype.value)[-1].name)
    bandwidth = read_bandwidth()
    figures = _measure_all(kernels, runs)
    setting = {
        "dtype": dtype.value,
        "isa": kernels.isa,
        "threads": torch.get_num_threads(),
        "read_bandwidth_gb_s": round(bandwidth, 1),
    }
    if as_json:
        print(json.dumps({**setting, "figures": [asdict(figure) for figure in figures]}))
    else:
        _print(figures, setting, bandwidth)


def _print(figures: list[Figure], setting: Mapping[str, object], bandwidth: float) -> None:
    table = Table(title=", ".join(f"{name} {value}" for name, value in setting.items()))
    for heading in ("batch", "site", "ranks", "ms", "of torch", "GB/s", "of bandwidth"):
        left = heading in ("batch", "site", "ranks")
        table.add_column(heading, justify="left" if left else "right")
    for figure in figures:
        speed = figure.gigabytes_per_second
        table.add_row(
            *(figure.what, figure.site, figure.ranks, f"{figure.ours:.3f}"),
            *(f"{figure.torch / figure.ours:.1f}x", f"{speed:.1f}", f"{speed / bandwidth:.2f}"),
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
