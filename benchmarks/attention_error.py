"""How far attention on a CPU is from float64: ours, torch's, and transformers', step by step."""

from collections.abc import Iterator

import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.report import Row
from kernels.cpu.ops import CpuKernels
from kernels.layouts import KvLayout, TokenBatch

_BLOCK_TOKENS = 16
_NUM_HEADS, _NUM_KV_HEADS, _HEAD_DIM = 32, 4, 64  # TinyLlama's
_NUM_TOKENS = 512
_SCALES = (1, 3)  # of queries and keys; 3 makes sharp softmaxes


def error_rows(kernels: CpuKernels) -> Iterator[Row]:
    """The roots of the mean squared errors of a prompt, for normal inputs, values of scale 1."""
    for scale in _SCALES:
        qkv = torch.randn(_NUM_TOKENS, _NUM_HEADS + 2 * _NUM_KV_HEADS, _HEAD_DIM)
        qkv[:, :-_NUM_KV_HEADS] *= scale
        qkv = qkv.to(kernels.dtype)
        heads = qkv.transpose(0, 1)
        queries = heads[:_NUM_HEADS]
        keys, values = heads[_NUM_HEADS:-_NUM_KV_HEADS], heads[-_NUM_KV_HEADS:]
        want = _in_steps(queries.double(), keys.double(), values.double())
        results = {
            "ours": _ours(kernels, qkv),
            "torch's": scaled_dot_product_attention(
                queries, keys, values, is_causal=True, enable_gqa=True
            ),
            "in steps": _in_steps(queries, keys, values),
        }
        errors: dict[str, float | None] = {
            name: float((got.double() - want).square().mean().sqrt())
            for name, got in results.items()
        }
        yield Row(f"{_NUM_TOKENS} tokens, queries and keys of scale {scale}", errors)


def _in_steps(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """[heads, T, head_dim], rounded to the dtype after every step; the softmax is in float32."""
    keys, values = (
        part.repeat_interleave(_NUM_HEADS // _NUM_KV_HEADS, 0) for part in (keys, values)
    )
    scores = queries @ keys.transpose(1, 2) * _HEAD_DIM**-0.5
    later = torch.ones(_NUM_TOKENS, _NUM_TOKENS, dtype=torch.bool).triu(1)
    scores = scores.masked_fill(later, float("-inf"))
    wide = torch.promote_types(scores.dtype, torch.float32)
    mixed: torch.Tensor = scores.softmax(-1, dtype=wide).to(queries.dtype) @ values
    return mixed


def _ours(kernels: CpuKernels, qkv: torch.Tensor) -> torch.Tensor:
    layout = KvLayout(1, _NUM_KV_HEADS, _HEAD_DIM, _BLOCK_TOKENS)
    num_blocks = layout.num_blocks(_NUM_TOKENS)
    batch = TokenBatch(
        torch.arange(_NUM_TOKENS, dtype=torch.int32),
        torch.zeros(_NUM_TOKENS, dtype=torch.int32),
        torch.randperm(num_blocks, dtype=torch.int32).view(1, num_blocks),
    )
    arena = torch.zeros(num_blocks, layout.page_elems, dtype=kernels.dtype)
    rotary = torch.tensor([1.0, 0.0]).repeat(_NUM_TOKENS, 1)  # by no angle
    rows = qkv.flatten(1).clone()
    kernels.rope_and_cache(rows, rotary, arena, layout, 0, batch)
    out = kernels.attention(rows[:, : _NUM_HEADS * _HEAD_DIM], arena, layout, 0, batch)
    return out.view(_NUM_TOKENS, _NUM_HEADS, _HEAD_DIM).transpose(0, 1)
