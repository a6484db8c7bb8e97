"""The Triton kernels behind the signatures of kernels/reference.py."""

import torch
import triton

from kernels.gpu import attention, elementwise
from kernels.gpu.lora_ops import LoraOps
from kernels.layouts import KvLayout, LoraPlan, LoraSite, TokenBatch

_LANES = 16  # tokens of KV a program looks at together; KvLayout's blocks are multiples of it
_SMALLEST_DOT = 16


class TritonKernels:
    """Kernels for float32, bfloat16 and float16 tensors on a GPU with unit inner stride."""

    name = "triton"

    def __init__(self) -> None:
        self._lora = LoraOps()

    def rms_norm(
        self,
        x: torch.Tensor,
        residual: torch.Tensor | None,
        weight: torch.Tensor,
        epsilon: float,
    ) -> torch.Tensor:
        out = torch.empty_like(x)
        num_rows, width = x.shape
        elementwise.rms_norm[(num_rows,)](
            *(out, x, x if residual is None else residual, weight, width, epsilon),
            HAS_RESIDUAL=residual is not None,
            BLOCK=triton.next_power_of_2(width),
        )
        return out

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        num_rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        out = gate_up.new_empty(num_rows, width)
        block = min(1024, triton.next_power_of_2(width))
        grid = (num_rows, triton.cdiv(width, block))
        elementwise.silu_mul[grid](out, gate_up, width, BLOCK=block)
        return out

    def rope_and_cache(
        self,
        qkv: torch.Tensor,
        rotary: torch.Tensor,
        arena: torch.Tensor,
        layout: KvLayout,
        layer: int,
        batch: TokenBatch,
    ) -> None:
        num_tokens = qkv.shape[0]
        num_q_heads = qkv.shape[1] // layout.head_dim - 2 * layout.num_kv_heads
        attention.rope_and_cache[(num_tokens, num_q_heads + layout.num_kv_heads)](
            *(qkv, qkv.stride(0), rotary, *_cache(arena, layout, layer, batch)),
            *(num_q_heads, layout.num_kv_heads),
            HEAD_DIM=layout.head_dim,
            HALF_BLOCK=triton.next_power_of_2(layout.head_dim // 2),
            BLOCK_TOKENS=layout.block_tokens,
        )

    def attention(
        self,
        queries: torch.Tensor,
        arena: torch.Tensor,
        layout: KvLayout,
        layer: int,
        batch: TokenBatch,
    ) -> torch.Tensor:
        out = queries.new_empty(queries.shape)
        group = queries.shape[1] // layout.head_dim // layout.num_kv_heads
        attention.attention[(queries.shape[0], layout.num_kv_heads)](
            *(out, queries, queries.stride(0), *_cache(arena, layout, layer, batch)),
            *(layout.num_kv_heads, layout.head_dim**-0.5),
            GROUP=group,
            GROUP_BLOCK=max(_SMALLEST_DOT, triton.next_power_of_2(group)),
            HEAD_DIM=layout.head_dim,
            DIM_BLOCK=max(_SMALLEST_DOT, triton.next_power_of_2(layout.head_dim)),
            BLOCK_TOKENS=layout.block_tokens,
            LANES=_LANES,
        )
        return out

    def lora_apply(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        arena: torch.Tensor,
        plan: LoraPlan,
        site: LoraSite,
        layer: int,
    ) -> None:
        self._lora.apply(y, x, arena, plan, site, layer)


def _cache(arena: torch.Tensor, layout: KvLayout, layer: int, batch: TokenBatch) -> tuple:
    tables = batch.block_tables
    return (
        *(arena, arena.stride(0), layer * layout.layer_elems),
        *(batch.positions, batch.sequence, tables, tables.stride(0)),
    )
