"""Attention over the paged cache on a CPU, at Llama 3's and TinyLlama's heads: ours and torch's.

    python -m benchmarks.attention_cpu [--threads N] [--dtype float32] [--runs N] [--json]

torch's scaled_dot_product_attention gets dense keys and values; ours gives a token the same result
however its prompt is cut.
"""

import json
from functools import partial
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.interleaved import DType, median_milliseconds
from kernels.cpu.ops import CpuKernels
from kernels.layouts import KvLayout, TokenBatch

HEADS = {"llama-3-8b": (32, 8, 128), "tinyllama": (32, 4, 64)}  # query heads, KV heads, head_dim
STEPS = {"prefill 512": (0, 512), "chunk of 256 at 1024": (1024, 256), "decode at 1024": (1024, 1)}


def main(
    threads: Annotated[int, typer.Option(help="0: torch's own choice.")] = 0,
    dtype: DType = DType.bfloat16,
    runs: int = 15,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Times one layer's attention for every step of every model."""
    if threads:
        torch.set_num_threads(threads)
    kernels = CpuKernels(getattr(torch, dtype.value))
    figures = {
        (model, step): _measure(kernels, *heads, *tokens, runs)
        for model, heads in HEADS.items()
        for step, tokens in STEPS.items()
    }
    if as_json:
        rows = [{"model": m, "step": s, "milliseconds": ms} for (m, s), ms in figures.items()]
        print(json.dumps({"dtype": dtype.value, "figures": rows}))
    else:
        _print(figures, dtype)


def _measure(
    kernels: CpuKernels, heads: int, kv_heads: int, head_dim: int, before: int, now: int, runs: int
) -> list[float]:
    """Milliseconds of ours and of torch."""
    layout = KvLayout(1, kv_heads, head_dim, 16)
    num_blocks = layout.num_blocks(before + now)
    batch = TokenBatch(
        torch.arange(before, before + now, dtype=torch.int32),
        torch.zeros(now, dtype=torch.int32),
        torch.randperm(num_blocks, dtype=torch.int32)[None],
    )
    arena = torch.randn(num_blocks, layout.page_elems).to(kernels.dtype)
    queries = torch.randn(now, heads * head_dim).to(kernels.dtype)
    dense = torch.randn(2, 1, kv_heads, before + now, head_dim).to(kernels.dtype)
    seen = torch.ones(now, before + now, dtype=torch.bool).tril(before) if before else None
    split = queries.view(1, now, heads, head_dim).transpose(1, 2)
    ours = partial(kernels.attention, queries, arena, layout, 0, batch)
    dense_call = partial(scaled_dot_product_attention, split, dense[0], dense[1], seen)
    torchs = partial(dense_call, is_causal=seen is None, enable_gqa=True)
    return median_milliseconds([ours, torchs], runs)


def _print(figures: dict[tuple[str, str], list[float]], dtype: DType) -> None:
    table = Table(title=f"{dtype.value}, threads {torch.get_num_threads()}, one layer")
    for heading in ("model", "step", "ms", "of torch's time"):
        table.add_column(heading, justify="left" if heading in ("model", "step") else "right")
    for (model, step), (ours, torchs) in figures.items():
        table.add_row(model, step, f"{ours:.2f}", f"{ours / torchs:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
