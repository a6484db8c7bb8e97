"""The Triton kernels behind the signatures of kernels/reference.py."""

from collections.abc import Sequence

import torch
import triton

from kernels.adapted_linear import AdaptedLinear
from kernels.gpu import attention, elementwise, kv_cache
from kernels.gpu.lora_ops import LoraOps
from kernels.layouts import HeadNorm, KvLayout, LoraPlan, LoraSite, TokenBatch
from kernels.linear import PlainLinear

_LANES = 32  # tokens of KV a program looks at together
_TILE_ROWS = 64  # query rows that share them in a prefill
_SMALLEST_DOT = 16


class TritonKernels(AdaptedLinear):
    """Kernels for float32, bfloat16 and float16 tensors on a GPU with unit inner stride."""

    name = "triton"

    def __init__(self) -> None:
        self._lora = LoraOps()

    def make_linear(
        self, weights: Sequence[torch.Tensor], bias: torch.Tensor | None
    ) -> PlainLinear:
        return PlainLinear(torch.cat(tuple(weights)), bias)

    def make_tied_embedding(self, weight: torch.Tensor, bias: torch.Tensor | None) -> PlainLinear:
        return self.make_linear([weight], bias)

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

    def layer_norm(
        self,
        x: torch.Tensor,
        residual: torch.Tensor | None,
        weight: torch.Tensor,
        bias: torch.Tensor,
        epsilon: float,
    ) -> torch.Tensor:
        out = torch.empty_like(x)
        num_rows, width = x.shape
        elementwise.layer_norm[(num_rows,)](
            *(out, x, x if residual is None else residual, weight, bias, width, epsilon),
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

    def gelu_tanh(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        num_rows, width = x.shape
        block = min(1024, triton.next_power_of_2(width))
        grid = (num_rows, triton.cdiv(width, block))
        elementwise.gelu_tanh[grid](out, x, width, BLOCK=block)
        return out

    def rope_and_cache(
        self,
        qkv: torch.Tensor,
        rotary: torch.Tensor,
        arena: torch.Tensor,
        layout: KvLayout,
        layer: int,
        batch: TokenBatch,
        head_norm: HeadNorm | None = None,
    ) -> None:
        num_tokens, rotary_dim = qkv.shape[0], rotary.shape[1]
        num_q_heads = qkv.shape[1] // layout.head_dim - 2 * layout.num_kv_heads
        norms = (qkv, qkv, 0.0)  # not read
        if head_norm is not None:
            norms = (head_norm.query, head_norm.key, head_norm.epsilon)
        rest = layout.head_dim - rotary_dim
        kv_cache.rope_and_cache[(num_tokens, num_q_heads + layout.num_kv_heads)](
            *(qkv, qkv.stride(0), rotary, *norms, *_cache(arena, layout, layer, batch)),
            *(num_q_heads, layout.num_kv_heads),
            NORMS=head_norm is not None,
            HEAD_DIM=layout.head_dim,
            ROTARY_DIM=rotary_dim,
            HALF_BLOCK=triton.next_power_of_2(rotary_dim // 2),
            REST_BLOCK=triton.next_power_of_2(rest) if rest else 0,
            BLOCK_TOKENS=layout.block_tokens,
        )

    def attention(
        self,
        queries: torch.Tensor,
        arena: torch.Tensor,
        layout: KvLayout,
        layer: int,
        batch: TokenBatch,
        window: int = 0,
    ) -> torch.Tensor:
        out = queries.new_empty(queries.shape)
        num_tokens = queries.shape[0]
        group = queries.shape[1] // layout.head_dim // layout.num_kv_heads
        tile_tokens = 1
        if num_tokens > batch.block_tables.shape[0]:  # some sequence has several tokens
            tile_tokens = max(1, _TILE_ROWS // triton.next_power_of_2(group))
        attention.attention[(num_tokens, layout.num_kv_heads)](
            *(out, queries, queries.stride(0), *_cache(arena, layout, layer, batch)),
            *(num_tokens, layout.num_kv_heads, window, layout.head_dim**-0.5),
            GROUP=group,
            TILE_TOKENS=tile_tokens,
            ROWS=max(_SMALLEST_DOT, triton.next_power_of_2(tile_tokens * group)),
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
