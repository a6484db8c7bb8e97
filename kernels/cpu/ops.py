"""The C kernels behind the signatures of kernels/reference.py."""

import ctypes
from collections.abc import Callable, Sequence

import torch

from kernels.adapted_linear import AdaptedLinear
from kernels.cpu.build import has_amx, load_library
from kernels.cpu.linear import OneDnnLinear, PackedLinear
from kernels.layouts import HeadNorm, KvLayout, LoraPlan, LoraSite, TokenBatch
from kernels.linear import PlainLinear

_POINTER, _INT, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_float
# Below this many multiply-adds, waking the other threads costs more than they do.
_PARALLEL_WORK = 200_000
_MAX_HEAD_DIM = 256
_MAX_SLICES = 3  # q, k and v
_PART_BYTES = 128  # of lora_work.h, at most


class _Plan(ctypes.Structure):
    _fields_ = [
        *((name, _POINTER) for name in ("arena", "rows", "tiles", "descriptors")),
        *((name, _POINTER) for name in ("chunk_offsets", "shrunk", "parts")),
        *((name, _INT) for name in ("num_tiles", "num_layers", "num_modules", "max_rank")),
    ]


class _Cache(ctypes.Structure):
    _fields_ = [
        ("arena", _POINTER),
        *((name, _LONG) for name in ("page_elems", "layer_offset")),
        *((name, _POINTER) for name in ("positions", "sequence", "block_tables")),
        ("table_stride", _LONG),
        *((name, _INT) for name in ("num_tokens", "num_q_heads", "num_kv_heads", "head_dim")),
        ("block_tokens", _INT),
    ]


_SIGNATURES = {
    "gemm_pack": [*(_POINTER,) * 2, *(_LONG,) * 4],
    "gemm": [*(_POINTER,) * 4, _LONG, _LONG],
    "rms_norm": [_POINTER, _POINTER, _POINTER, _POINTER, _INT, _INT, _FLOAT],
    "layer_norm": [*(_POINTER,) * 5, _INT, _INT, _FLOAT],
    "silu_mul": [_POINTER, _POINTER, _INT, _INT],
    "gelu_tanh": [_POINTER, _POINTER, _INT, _INT],
    "rope_and_cache": [
        *(_POINTER, _POINTER, _LONG, _POINTER, _INT),
        *(_POINTER, _POINTER, _FLOAT),
    ],
    "attention": [_POINTER, _POINTER, _POINTER, _LONG, _FLOAT, _INT, _INT],
    "lora_apply": [*(_POINTER, _POINTER, _INT, _INT, _INT, _POINTER, _LONG, _POINTER, _LONG)],
    "adapted_gemm": [
        *(_POINTER, _POINTER, _POINTER, _INT, _INT),
        *(_POINTER, _POINTER, _POINTER, _LONG, _LONG),
    ],
}


class CpuKernels(AdaptedLinear):
    """Kernels for one element type; tensors must be of it, on the CPU, with unit inner stride."""

    name = "cpu"

    def __init__(self, dtype: torch.dtype, isa: str | None = None) -> None:
        """`isa` is one of kernels.cpu.build.supported_isas; None: the best of them.

        Raises CompilerMissingError where the library cannot be built.
        """
        library = load_library(str(dtype).removeprefix("torch."), isa)
        for name, argtypes in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = argtypes, None
        self.dtype, self.isa, self.library = dtype, isa, library
        self._uses_onednn = dtype == torch.bfloat16 and isa is None and has_amx()
        self._prepared: _PreparedPlan | None = None
        self._prepared_cache: _PreparedCache | None = None

    def make_linear(
        self, weights: Sequence[torch.Tensor], bias: torch.Tensor | None
    ) -> PackedLinear | OneDnnLinear:
        if self._uses_onednn:
            return OneDnnLinear(torch.cat(tuple(weights)), bias)
        return PackedLinear(self.library, weights, bias)

    def make_tied_embedding(
        self, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> PackedLinear | PlainLinear:
        # No rows can be read from oneDNN's form, which gains nothing for a last layer's few tokens.
        if self._uses_onednn:
            return PlainLinear(weight.clone(), bias)
        return PackedLinear(self.library, [weight], bias)

    def rms_norm(
        self,
        x: torch.Tensor,
        residual: torch.Tensor | None,
        weight: torch.Tensor,
        epsilon: float,
    ) -> torch.Tensor:
        out = torch.empty_like(x)
        where = None if residual is None else residual.data_ptr()
        self.library.rms_norm(
            out.data_ptr(), x.data_ptr(), where, weight.data_ptr(), *x.shape, epsilon
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
        where = None if residual is None else residual.data_ptr()
        self.library.layer_norm(
            *(out.data_ptr(), x.data_ptr(), where, weight.data_ptr(), bias.data_ptr()),
            *(*x.shape, epsilon),
        )
        return out

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        num_rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        out = gate_up.new_empty(num_rows, width)
        self.library.silu_mul(out.data_ptr(), gate_up.data_ptr(), num_rows, width)
        return out

    def gelu_tanh(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        self.library.gelu_tanh(out.data_ptr(), x.data_ptr(), *x.shape)
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
        num_q_heads = qkv.shape[1] // layout.head_dim - 2 * layout.num_kv_heads
        cache = self._cache(arena, layout, layer, batch, num_q_heads)
        norms: tuple[int | None, int | None, float] = (None, None, 0.0)
        if head_norm is not None:
            norms = (head_norm.query.data_ptr(), head_norm.key.data_ptr(), head_norm.epsilon)
        self.library.rope_and_cache(
            *(cache, qkv.data_ptr(), qkv.stride(0)),
            *(rotary.data_ptr(), rotary.shape[1], *norms),
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
        num_q_heads = queries.shape[1] // layout.head_dim
        cache = self._cache(arena, layout, layer, batch, num_q_heads)
        max_tokens = batch.block_tables.shape[1] * layout.block_tokens
        self.library.attention(
            cache,
            out.data_ptr(),
            queries.data_ptr(),
            queries.stride(0),
            layout.head_dim**-0.5,
            window,
            out.numel() * max_tokens >= _PARALLEL_WORK,
        )
        return out

    def _cache(
        self,
        arena: torch.Tensor,
        layout: KvLayout,
        layer: int,
        batch: TokenBatch,
        num_q_heads: int,
    ) -> int:
        prepared = self._prepared_cache
        if prepared is None or not prepared.is_for(arena, layout, batch, num_q_heads):
            prepared = _PreparedCache(arena, layout, batch, num_q_heads)
            self._prepared_cache = prepared
        return prepared.at_layer(layer)

    def lora_apply(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        arena: torch.Tensor,
        plan: LoraPlan,
        site: LoraSite,
        layer: int,
    ) -> None:
        self.library.lora_apply(
            *(self._address_of(plan, arena), site.table.data_ptr(), len(site.slices)),
            *(site.in_features, layer, y.data_ptr(), y.stride(0), x.data_ptr(), x.stride(0)),
        )

    def adapted_linear(
        self,
        linear: Callable[[torch.Tensor], torch.Tensor],
        x: torch.Tensor,
        arena: torch.Tensor,
        plan: LoraPlan,
        site: LoraSite,
        layer: int,
    ) -> torch.Tensor:
        if not isinstance(linear, PackedLinear):
            return super().adapted_linear(linear, x, arena, plan, site, layer)
        x, y, packed_x = linear.room_for(x)
        self.library.adapted_gemm(
            *(linear.address, self._address_of(plan, arena), site.table.data_ptr()),
            *(len(site.slices), layer, y.data_ptr(), packed_x.data_ptr(), x.data_ptr()),
            *(x.stride(0), x.shape[0]),
        )
        return y

    def _address_of(self, plan: LoraPlan, arena: torch.Tensor) -> int:
        prepared = self._prepared
        if prepared is None or prepared.plan is not plan:
            prepared = self._prepared = _PreparedPlan(plan, arena)
        return prepared.address


class _PreparedPlan:
    """A plan in the form of lora.c, made once for the many calls of a step."""

    def __init__(self, plan: LoraPlan, arena: torch.Tensor) -> None:
        self.plan = plan
        num_sums = plan.rows.shape[0] * plan.max_rank * _MAX_SLICES
        self._shrunk = torch.empty(num_sums, dtype=torch.float32)
        num_parts = plan.tiles.shape[0] * _MAX_SLICES
        self._parts = torch.empty(num_parts * _PART_BYTES, dtype=torch.uint8)
        _, num_layers, num_modules, _ = plan.descriptors.shape
        self._arguments = _Plan(
            *(arena.data_ptr(), plan.rows.data_ptr(), plan.tiles.data_ptr()),
            *(plan.descriptors.data_ptr(), plan.chunk_offsets.data_ptr(), self._shrunk.data_ptr()),
            self._parts.data_ptr(),
            *(plan.tiles.shape[0], num_layers, num_modules, plan.max_rank),
        )
        self.address = ctypes.addressof(self._arguments)


class _PreparedCache:
    """An arena and the tokens of a step in the form of kv_cache.h, made once for its many calls."""

    def __init__(
        self, arena: torch.Tensor, layout: KvLayout, batch: TokenBatch, num_q_heads: int
    ) -> None:
        assert layout.head_dim <= _MAX_HEAD_DIM, "attention.c keeps tiles on its stack"
        self._made_for = (arena, layout, batch, num_q_heads)
        tables = batch.block_tables
        self._arguments = _Cache(
            *(arena.data_ptr(), arena.stride(0), 0),
            *(batch.positions.data_ptr(), batch.sequence.data_ptr(), tables.data_ptr()),
            *(tables.stride(0), batch.positions.shape[0], num_q_heads, layout.num_kv_heads),
            *(layout.head_dim, layout.block_tokens),
        )
        self._address = ctypes.addressof(self._arguments)

    def is_for(
        self, arena: torch.Tensor, layout: KvLayout, batch: TokenBatch, num_q_heads: int
    ) -> bool:
        made_for = self._made_for
        same = made_for[0] is arena and made_for[1] is layout and made_for[2] is batch
        return same and made_for[3] == num_q_heads

    def at_layer(self, layer: int) -> int:
        """The address of the arguments; they are of this layer until the next call."""
        self._arguments.layer_offset = layer * self._made_for[1].layer_elems
        return self._address
