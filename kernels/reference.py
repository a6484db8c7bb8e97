"""Plain-torch twins of every kernel: the definition the fast ones are tested against, and the
fallback where there is no compiler. Same signatures, any device, any floating dtype."""

from collections.abc import Sequence

import torch

from kernels.adapted_linear import AdaptedLinear
from kernels.layouts import CHUNK_ROWS, HeadNorm, KvLayout, LoraPlan, LoraSite, TokenBatch
from kernels.linear import PlainLinear


class ReferenceKernels(AdaptedLinear):
    """Each method documents the operation; the other implementations only say what differs."""

    name = "reference"

    def make_linear(
        self, weights: Sequence[torch.Tensor], bias: torch.Tensor | None
    ) -> PlainLinear:
        """A linear layer of weights [out, in], one below the other, and bias [all out] or None.

        The weights, which may be views of a file, are copied to the form that is best.
        """
        return PlainLinear(torch.cat(tuple(weights)), bias)

    def make_tied_embedding(self, weight: torch.Tensor, bias: torch.Tensor | None) -> PlainLinear:
        """An embedding, looked up by row, that is a linear layer with this bias as well; a copy."""
        return self.make_linear([weight], bias)

    def rms_norm(
        self,
        x: torch.Tensor,
        residual: torch.Tensor | None,
        weight: torch.Tensor,
        epsilon: float,
    ) -> torch.Tensor:
        """Adds x to `residual` in place (if given) and returns the normed sum. All [T, hidden]."""
        if residual is not None:
            x = residual.add_(x)
        return _rms_norm(x, weight, epsilon)

    def layer_norm(
        self,
        x: torch.Tensor,
        residual: torch.Tensor | None,
        weight: torch.Tensor,
        bias: torch.Tensor,
        epsilon: float,
    ) -> torch.Tensor:
        """Adds x to `residual` in place (if given) and returns the normed sum. All [T, hidden]."""
        if residual is not None:
            x = residual.add_(x)
        wide = x.float()
        wide = wide - wide.mean(-1, keepdim=True)
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
        return (wide * weight.float() + bias.float()).to(x.dtype)

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up for gate_up [T, 2 * intermediate]; returns [T, intermediate]."""
        gate, up = gate_up.chunk(2, dim=-1)
        return torch.nn.functional.silu(gate) * up

    def gelu_tanh(self, x: torch.Tensor) -> torch.Tensor:
        """GELU by its tanh approximation ("gelu_new"), elementwise."""
        return torch.nn.functional.gelu(x, approximate="tanh")

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
        """Norms (if asked) and rotates queries and keys; keys and values go to their pages.

        qkv [T, (num_q_heads + 2 * num_kv_heads) * head_dim]: its queries are changed in place, its
        keys may be. rotary [max_len, rotary_dim] float32, cosines then sines, for the first
        rotary_dim elements of a head; the others stay. arena [num_pages, page_elems].
        """
        real = (batch.positions >= 0).nonzero().flatten()
        heads = qkv.view(qkv.shape[0], -1, layout.head_dim)[real]
        num_q_heads = heads.shape[1] - 2 * layout.num_kv_heads
        queries, keys, values = heads.split(
            [num_q_heads, layout.num_kv_heads, layout.num_kv_heads], dim=1
        )
        if head_norm is not None:
            queries = _rms_norm(queries, head_norm.query, head_norm.epsilon)
            keys = _rms_norm(keys, head_norm.key, head_norm.epsilon)
        positions = batch.positions[real].long()
        angles = rotary[positions].unsqueeze(1)
        qkv[real, : num_q_heads * layout.head_dim] = _rotate(queries, angles).flatten(1)
        key_view, value_view = _kv_views(arena, layout, layer)
        page = batch.block_tables[batch.sequence[real].long(), positions // layout.block_tokens]
        slot = positions % layout.block_tokens
        key_view[page.long(), :, :, slot] = _rotate(keys, angles).to(arena.dtype)
        value_view[page.long(), :, slot] = values.to(arena.dtype)

    def attention(
        self,
        queries: torch.Tensor,
        arena: torch.Tensor,
        layout: KvLayout,
        layer: int,
        batch: TokenBatch,
        window: int = 0,
    ) -> torch.Tensor:
        """Causal attention of each token over its sequence's pages, the token itself included.

        A token meets the last `window` tokens up to itself; 0: all of them. queries
        [T, num_q_heads * head_dim] may be a strided view; returns the same shape, dense.
        """
        num_q_heads = queries.shape[1] // layout.head_dim
        group = num_q_heads // layout.num_kv_heads
        out = torch.zeros(queries.shape, dtype=queries.dtype, device=queries.device)
        key_view, value_view = _kv_views(arena, layout, layer)
        real = batch.positions >= 0
        for index in batch.sequence[real].unique().tolist():
            tokens = (real & (batch.sequence == index)).nonzero().flatten()
            positions = batch.positions[tokens].long()
            length = int(positions.max()) + 1
            pages = batch.block_tables[index, : layout.num_blocks(length)].long()
            keys = key_view[pages].permute(1, 0, 3, 2).flatten(1, 2)[:, :length].float()
            values = value_view[pages].transpose(0, 1).flatten(1, 2)[:, :length].float()
            query = queries[tokens].view(-1, layout.num_kv_heads, group, layout.head_dim).float()
            scores = torch.einsum("tkgd,knd->tkgn", query, keys) * layout.head_dim**-0.5
            hidden = _hidden(positions, length, window)
            scores = scores.masked_fill(hidden[:, None, None], float("-inf"))
            mixed = torch.einsum("tkgn,knd->tkgd", scores.softmax(-1), values)
            out[tokens] = mixed.reshape(len(tokens), -1).to(out.dtype)
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
        """y[row] += (x[row] @ A.T) @ B.T for every row of every tile, in place.

        y [T, out] where the site's slices say which columns; x [T, in_features].
        """
        flat = arena.view(-1)
        for adapter, start, count in plan.tiles.tolist():
            rows = plan.rows[start : start + count].long()
            for part in site.slices:
                rank, first = plan.descriptors[adapter, layer, part.module].tolist()
                if rank == 0:
                    continue
                num_chunks = -(-rank // CHUNK_ROWS)
                offsets = plan.chunk_offsets[first : first + 2 * num_chunks].tolist()
                a = _gather(flat, offsets[:num_chunks], rank, site.in_features)
                b = _gather(flat, offsets[num_chunks:], rank, part.out_features)
                columns = slice(part.out_start, part.out_start + part.out_features)
                delta = (x[rows].float() @ a.float().T) @ b.float()
                y[rows, columns] += delta.to(y.dtype)


def _rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return weight * wide.to(x.dtype)


def _rotate(heads: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Rotary embedding by halves, as in Hugging Face Llama. heads [T, H, D], angles [T, 1, R]."""
    rotary_dim = angles.shape[-1]
    cosine, sine = angles.chunk(2, dim=-1)
    first, second = heads[..., :rotary_dim].float().chunk(2, dim=-1)
    rotated = torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
    return torch.cat((rotated.to(heads.dtype), heads[..., rotary_dim:]), dim=-1)


def _hidden(positions: torch.Tensor, length: int, window: int) -> torch.Tensor:
    """[T, length] bool: the keys that each token must not see."""
    key = torch.arange(length, device=positions.device)
    hidden = key > positions[:, None]
    return hidden | (key <= positions[:, None] - window) if window else hidden


def _kv_views(
    arena: torch.Tensor, layout: KvLayout, layer: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys [pages, kv_heads, head_dim, block] and values [pages, kv_heads, block, head_dim]."""
    start = layer * layout.layer_elems
    both = arena[:, start : start + layout.layer_elems]
    both = both.unflatten(1, (2, layout.num_kv_heads, layout.head_elems))
    return (
        both[:, 0].unflatten(2, (layout.head_dim, layout.block_tokens)),
        both[:, 1].unflatten(2, (layout.block_tokens, layout.head_dim)),
    )


def _gather(flat: torch.Tensor, offsets: list[int], rank: int, width: int) -> torch.Tensor:
    """The chunks of one matrix as [rank, width]."""
    parts = []
    for index, offset in enumerate(offsets):
        num_rows = min(CHUNK_ROWS, rank - index * CHUNK_ROWS)
        parts.append(flat[offset : offset + num_rows * width].view(num_rows, width))
    return torch.cat(parts)
