"""The base model's GEMMs on a CPU at TinyLlama's shapes: ours, torch's F.linear and oneDNN packed.

    python -m benchmarks.base_gemm [--threads N] [--dtype float32] [--runs N] [--json]

Ours gives a row the same result in any batch; the others do not.
"""

import json
from functools import partial

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.interleaved import DType, median_milliseconds, read_bandwidth
from benchmarks.options import AsJson, Threads
from kernels.cpu.linear import OneDnnLinear, PackedLinear
from kernels.cpu.ops import CpuKernels
from kernels.linear import PlainLinear

SHAPES = {"qkv": (2048, 2560), "gate_up": (2048, 11264), "down": (5632, 2048)}  # in, out
NUM_ROWS = (1, 8, 16, 64, 256)


def main(
    threads: Threads = 0,
    dtype: DType = DType.bfloat16,
    runs: int = 15,
    as_json: AsJson = False,
) -> None:
    """Times every shape at every number of rows."""
    if threads:
        torch.set_num_threads(threads)
    kernels = CpuKernels(getattr(torch, dtype.value))
    figures = {
        (name, num_rows): milliseconds
        for name, shape in SHAPES.items()
        for num_rows, milliseconds in _measure(kernels, *shape, runs).items()
    }
    if as_json:
        rows = [{"gemm": g, "rows": r, "milliseconds": ms} for (g, r), ms in figures.items()]
        print(json.dumps({"dtype": dtype.value, "threads": threads, "figures": rows}))
    else:
        _print(figures, kernels.dtype)


def _measure(
    kernels: CpuKernels, in_features: int, out_features: int, runs: int
) -> dict[int, list[float]]:
    """Milliseconds of ours, F.linear and oneDNN by number of rows."""
    weight = (torch.randn(out_features, in_features) / in_features**0.5).to(kernels.dtype)
    linears = (
        PackedLinear(kernels.library, [weight], None),
        PlainLinear(weight, None),
        OneDnnLinear(weight, None),
    )
    measured = {}
    for num_rows in NUM_ROWS:
        x = torch.randn(num_rows, in_features).to(kernels.dtype)
        calls = [partial(linear, x) for linear in linears]
        measured[num_rows] = median_milliseconds(calls, runs)
    return measured


def _print(figures: dict[tuple[str, int], list[float]], dtype: torch.dtype) -> None:
    bandwidth, threads = read_bandwidth(), torch.get_num_threads()
    title = f"{dtype}, threads {threads}, reading memory {bandwidth:.1f} GB/s"
    table = Table(title=title)
    for heading in ("GEMM", "rows", "ms", "GFLOP/s", "GB/s", "of F.linear", "of oneDNN"):
        table.add_column(heading, justify="left" if heading == "GEMM" else "right")
    for (name, num_rows), (ours, plain, onednn) in figures.items():
        weights = SHAPES[name][0] * SHAPES[name][1]
        table.add_row(
            *(name, str(num_rows), f"{ours:.3f}", f"{2e-6 * num_rows * weights / ours:.0f}"),
            f"{weights * dtype.itemsize / ours / 1e6:.1f}",
            *(f"{plain / ours:.2f}x", f"{onednn / ours:.2f}x"),
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
