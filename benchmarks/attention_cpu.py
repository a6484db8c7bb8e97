"""Attention over the paged cache on a CPU, all layers of a model's step: ours and torch's.

    python -m benchmarks.attention_cpu [--model llama-3-8b] [--threads N] [--dtype float32] [--json]
    python -m benchmarks.attention_cpu --errors

torch's scaled_dot_product_attention gets dense keys and values, and a mask where a chunk of a
prompt is not its first; ours reads pages, and gives a token the same result however its prompt is
cut. Bytes are those of the keys and values that a step must read, once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Annotated

import torch
import typer
from rich.progress import track
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.attention_error import error_rows
from benchmarks.interleaved import DType, median_milliseconds
from benchmarks.options import AsJson, Output, Threads
from benchmarks.report import Machine, Report, Row, publish
from kernels.cpu import huge_pages
from kernels.cpu.ops import CpuKernels
from kernels.layouts import KvLayout, TokenBatch

BLOCK_TOKENS = 16


class Model(StrEnum):
    """Whose heads and layers."""

    tinyllama = "tinyllama"
    llama_3_8b = "llama-3-8b"


@dataclass(frozen=True)
class Shape:
    """What attention knows of a model."""

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int


SHAPES = {Model.tinyllama: Shape(22, 32, 4, 64), Model.llama_3_8b: Shape(32, 32, 8, 128)}


@dataclass(frozen=True)
class Step:
    """`num_sequences` alike, each with tokens [before, before + now)."""

    num_sequences: int
    before: int
    now: int

    @property
    def num_met(self) -> int:
        """How many keys the tokens meet in all."""
        return self.num_sequences * sum(range(self.before + 1, self.before + self.now + 1))

    @property
    def num_keys(self) -> int:
        """How many keys there are."""
        return self.num_sequences * (self.before + self.now)


@dataclass(frozen=True)
class Workload:
    """Steps that belong together; the bar is for all layers of TinyLlama, in bfloat16."""

    name: str
    steps: tuple[Step, ...]
    bar_milliseconds: float | None = None


CHUNKS = tuple(Step(1, before, min(512, 1900 - before)) for before in range(0, 1900, 512))
WORKLOADS = (
    Workload("prefill of 1,900 in chunks of 512", CHUNKS, 1100),
    Workload("prefill of 8 x 237", (Step(8, 0, 237),)),
    Workload("decode, 16 at 64", (Step(16, 63, 1),)),
    Workload("decode, 16 at 96", (Step(16, 95, 1),), 2.0),
    Workload("decode, 1 at 1,900", (Step(1, 1899, 1),), 2.5),
)


def main(
    model: Model = Model.tinyllama,
    threads: Threads = 0,
    dtype: DType = DType.bfloat16,
    runs: Annotated[
        int, typer.Option(help="Of a prefill; a decode step has ten times as many.")
    ] = 3,
    errors: Annotated[
        bool, typer.Option(help="Compares results with float64's instead, of TinyLlama's heads.")
    ] = False,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Times the attention of all layers for each workload."""
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    kernels, shape = CpuKernels(getattr(torch, dtype.value)), SHAPES[model]
    if errors:
        title = f"attention in {dtype.value}: root of the mean squared error"
        publish(Report(title, Machine.measure(), list(error_rows(kernels))), as_json, output)
        return
    has_bars = (model, dtype) == (Model.tinyllama, DType.bfloat16)
    rows = [
        _measure(kernels, shape, workload, runs, has_bars)
        for workload in track(WORKLOADS, "attention", transient=True, disable=as_json)
    ]
    title = f"attention of {model.value}'s {shape.num_layers} layers in {dtype.value}"
    publish(Report(title, Machine.measure(), rows), as_json, output)


def _measure(
    kernels: CpuKernels, shape: Shape, workload: Workload, runs: int, has_bars: bool
) -> Row:
    calls = [_Calls(kernels, shape, step) for step in workload.steps]
    if all(step.now == 1 for step in workload.steps):
        runs *= 10
    ours, torchs = median_milliseconds(
        [
            partial(_all, [each.ours for each in calls]),
            partial(_all, [each.torchs for each in calls]),
        ],
        runs,
    )
    num_met = sum(step.num_met for step in workload.steps)
    flops = 4 * shape.num_layers * shape.num_heads * shape.head_dim * num_met
    num_keys = sum(step.num_keys for step in workload.steps)
    num_bytes = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * num_keys
    num_bytes *= kernels.dtype.itemsize
    figures: dict[str, float | None] = {
        "ms": ours,
        "GFLOP/s": flops / ours / 1e6,
        "GB/s": num_bytes / ours / 1e6,
        "torch ms": torchs,
        "of torch's time": ours / torchs,
    }
    bar = workload.bar_milliseconds if has_bars else None
    if bar is None:
        return Row(workload.name, figures)
    return Row(workload.name, figures, f"<= {bar:,g} ms", ours <= bar)


def _all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()


class _Calls:
    """One step in all layers, on keys and values that no two layers share."""

    def __init__(self, kernels: CpuKernels, shape: Shape, step: Step) -> None:
        self._kernels, self._shape = kernels, shape
        heads, head_dim = shape.num_heads, shape.head_dim
        self._layout = KvLayout(shape.num_layers, shape.num_kv_heads, head_dim, BLOCK_TOKENS)
        length, sequences = step.before + step.now, step.num_sequences
        num_blocks = self._layout.num_blocks(length)
        self._batch = TokenBatch(
            torch.arange(step.before, length, dtype=torch.int32).repeat(sequences),
            torch.arange(sequences, dtype=torch.int32).repeat_interleave(step.now),
            torch.randperm(sequences * num_blocks, dtype=torch.int32).view(sequences, num_blocks),
        )
        dtype = kernels.dtype
        pages = (sequences * num_blocks, self._layout.page_elems)
        self._arena = huge_pages.empty(pages, dtype).copy_(torch.randn(pages))
        self._queries = torch.randn(sequences * step.now, heads * head_dim).to(dtype)
        dense = (shape.num_layers, 2, sequences, shape.num_kv_heads, length, head_dim)
        self._dense = torch.randn(dense).to(dtype)
        self._split = self._queries.view(sequences, step.now, heads, head_dim).transpose(1, 2)
        is_chunk = step.before > 0 and step.now > 1
        seen = torch.ones(step.now, length, dtype=torch.bool).tril(step.before)
        self._seen = seen if is_chunk else None
        self._is_causal = step.before == 0

    def ours(self) -> None:
        for layer in range(self._shape.num_layers):
            self._kernels.attention(self._queries, self._arena, self._layout, layer, self._batch)

    def torchs(self) -> None:
        for layer in range(self._shape.num_layers):
            keys, values = self._dense[layer]
            scaled_dot_product_attention(
                *(self._split, keys, values, self._seen),
                is_causal=self._is_causal,
                enable_gqa=True,
            )


if __name__ == "__main__":
    typer.run(main)
