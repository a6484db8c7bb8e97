"""The LoRA kernels of a GPU: a decode step's time per site, against gather and bmm, and the floor.

    python -m benchmarks.gpu_kernels [--dtype bfloat16] [--json]            # on a GPU
    TRITON_INTERPRET=1 python -m benchmarks.gpu_kernels --smoke             # without: does it run?

A case is one site of a model and a batch of rows, each of an adapter of its own. The floor is the
bytes that must be moved (adapters and inputs read once, outputs read and written) over the rate of
a large copy, measured first. Adapters take turns, so that they come from memory and not from its
cache. Every result is checked against gather and bmm before it is timed.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.gather_bmm import GatherBmm
from benchmarks.lora_arena import LoraArena
from benchmarks.options import AsJson
from benchmarks.timing import copy_bandwidth, seconds_per_call
from kernels.gpu.ops import TritonKernels
from kernels.lora_work import make_work

Site = tuple[int, tuple[int, ...]]  # input features, output features per slice

MODELS: dict[str, dict[str, Site]] = {
    "Llama-3-8B": {
        "qkv": (4096, (4096, 1024, 1024)),
        "o": (4096, (4096,)),
        "gate_up": (4096, (14336, 14336)),
        "down": (14336, (4096,)),
    },
    "TinyLlama-1.1B": {
        "qkv": (2048, (2048, 256, 256)),
        "o": (2048, (2048,)),
        "gate_up": (2048, (5632, 5632)),
        "down": (5632, (2048,)),
    },
}
_SMOKE_MODELS: dict[str, dict[str, Site]] = {"smoke": {"qkv": (32, (48, 16, 16))}}
_BATCHES = (1, 8, 32, 64, 128)
_MIXED_RANKS = (8, 16, 32, 64)
_ROTATED_BYTES = 256 << 20  # of adapters: several times any cache
_MAX_TURNS = 64


@dataclass(frozen=True)
class Case:
    model: str
    site: str
    ranks: str
    batch: int
    shape: Site
    rank_of_row: tuple[int, ...]


@dataclass(frozen=True)
class Measured:
    """Microseconds per call, and what share of the copy rate the least bytes were moved at."""

    model: str
    site: str
    ranks: str
    batch: int
    microseconds: float
    gather_bmm_microseconds: float
    megabytes: float
    gigabytes_per_second: float
    share_of_copy: float


def main(
    dtype: str = "bfloat16",
    smoke: Annotated[bool, typer.Option(help="Tiny, once, on any device.")] = False,
    as_json: AsJson = False,
) -> None:
    """Times every case; a figure is the median of many replays."""
    if not smoke and not torch.cuda.is_available():
        raise typer.BadParameter("there is no GPU to measure; --smoke runs without one")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = torch.float16 if device.type == "cpu" else getattr(torch, dtype)
    bandwidth = copy_bandwidth(device, 1 << 20 if smoke else 1 << 31)
    cases = _cases(_SMOKE_MODELS, (1, 3)) if smoke else _cases(MODELS, _BATCHES)
    results = [_measure(case, kind, device, bandwidth) for case in cases]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU: interpreted"
    if as_json:
        setting = {"device": name, "dtype": str(kind), "copy_bytes_per_second": bandwidth}
        print(json.dumps({**setting, "cases": [asdict(result) for result in results]}))
    else:
        _print(results, f"{name}, {kind}, copies at {bandwidth / 1e9:.0f} GB/s")


def _cases(models: dict[str, dict[str, Site]], batches: tuple[int, ...]) -> Iterator[Case]:
    for model, sites in models.items():
        for site, shape in sites.items():
            for batch in batches:
                yield Case(model, site, "16", batch, shape, (16,) * batch)
            batch = batches[-1]
            mixed = tuple(_MIXED_RANKS[row % len(_MIXED_RANKS)] for row in range(batch))
            yield Case(model, site, "8-64", batch, shape, mixed)


def _measure(case: Case, dtype: torch.dtype, device: torch.device, bandwidth: float) -> Measured:
    torch.manual_seed(0)
    in_features, out_features = case.shape
    width = len(out_features) * in_features + sum(out_features)
    adapter_bytes = sum(case.rank_of_row) * width * dtype.itemsize
    num_turns = 1 if device.type == "cpu" else min(_MAX_TURNS, 1 + _ROTATED_BYTES // adapter_bytes)
    lora = LoraArena(in_features, out_features, case.rank_of_row * num_turns, dtype, device)
    x, y = lora.random(case.batch)
    kernels, turns = TritonKernels(), []
    for turn in range(num_turns):
        plan = lora.plan([(turn * case.batch + row, 1) for row in range(case.batch)])
        turns.append(dataclasses.replace(plan, work=make_work(plan, device)))
    other = GatherBmm(lora, max(case.rank_of_row))

    def ours() -> None:
        for plan in turns:
            kernels.lora_apply(y, x, lora.arena, plan, lora.site, 0)

    def theirs() -> None:
        for turn in range(num_turns):
            other.apply(y, x, turn * case.batch)

    _check(ours, theirs, y)
    seconds, their_seconds = (t / num_turns for t in seconds_per_call([ours, theirs], device))
    num_bytes = adapter_bytes + x.nbytes + 2 * y.nbytes
    rate = num_bytes / seconds
    return Measured(
        *(case.model, case.site, case.ranks, case.batch),
        *(1e6 * seconds, 1e6 * their_seconds, num_bytes / 1e6, rate / 1e9, rate / bandwidth),
    )


def _check(ours: Callable[[], None], theirs: Callable[[], None], y: torch.Tensor) -> None:
    results = []
    for function in (ours, theirs):
        y.zero_()
        function()
        results.append(y.float())
    error = float((results[0] - results[1]).norm() / results[1].norm())
    assert error < 2e-2, f"off by {error:.1e}"


def _print(results: list[Measured], title: str) -> None:
    table = Table(title=title)
    for heading in ("model", "site", "ranks", "rows", "µs", "gather+bmm µs", "ratio", "MB"):
        table.add_column(heading, justify="left" if heading in ("model", "site") else "right")
    for heading in ("GB/s", "of copy"):
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(
            *(result.model, result.site, result.ranks, str(result.batch)),
            f"{result.microseconds:.1f}",
            f"{result.gather_bmm_microseconds:.1f}",
            f"{result.gather_bmm_microseconds / result.microseconds:.1f}",
            f"{result.megabytes:.1f}",
            f"{result.gigabytes_per_second:.0f}",
            f"{result.share_of_copy:.0%}",
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
