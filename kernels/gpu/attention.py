"""Rotary embedding, the paged KV cache, and causal attention over it; see KvLayout."""

import triton
import triton.language as tl


@triton.jit
def _head(arena, page_elems, layer_offset, block_tables, table_stride, sequence, position,
          head, BLOCK_TOKENS: tl.constexpr, HEAD_DIM: tl.constexpr):  # fmt: skip
    """Where the keys or values of one head begin in the page that holds a position.

    `head` counts the key heads first, then the value heads.
    """
    page = tl.load(block_tables + sequence * table_stride + position // BLOCK_TOKENS).to(tl.int64)
    return arena + page * page_elems + layer_offset + head * (BLOCK_TOKENS * HEAD_DIM)


@triton.jit
def rope_and_cache(
    qkv,
    qkv_stride,
    rotary,
    arena,
    page_elems,
    layer_offset,
    positions,
    sequence,
    block_tables,
    table_stride,
    num_q_heads,
    num_kv_heads,
    HEAD_DIM: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
):
    """Grid (num_tokens, num_q_heads + num_kv_heads): a query head, or a key head and its value."""
    token, head = tl.program_id(0), tl.program_id(1)
    position = tl.load(positions + token)
    half: tl.constexpr = HEAD_DIM // 2
    i = tl.arange(0, HALF_BLOCK)
    source = qkv + token * qkv_stride + head * HEAD_DIM + i
    first = tl.load(source, mask=i < half, other=0.0).to(tl.float32)
    second = tl.load(source + half, mask=i < half, other=0.0).to(tl.float32)
    angle = rotary + position * HEAD_DIM + i
    cosine = tl.load(angle, mask=i < half, other=0.0)
    sine = tl.load(angle + half, mask=i < half, other=0.0)
    low = (first * cosine - second * sine).to(qkv.dtype.element_ty)
    high = (second * cosine + first * sine).to(qkv.dtype.element_ty)
    if head < num_q_heads:
        tl.store(source, low, mask=i < half)
        tl.store(source + half, high, mask=i < half)
        return
    kv = head - num_q_heads
    where = tl.load(sequence + token)
    slot = position % BLOCK_TOKENS
    keys = _head(arena, page_elems, layer_offset, block_tables, table_stride, where, position,
                 kv, BLOCK_TOKENS, HEAD_DIM) + slot  # fmt: skip
    tl.store(keys + i * BLOCK_TOKENS, low, mask=i < half)
    tl.store(keys + (i + half) * BLOCK_TOKENS, high, mask=i < half)
    values = _head(arena, page_elems, layer_offset, block_tables, table_stride, where, position,
                   kv + num_kv_heads, BLOCK_TOKENS, HEAD_DIM) + slot * HEAD_DIM  # fmt: skip
    value = source + num_kv_heads * HEAD_DIM
    tl.store(values + i, tl.load(value, mask=i < half, other=0.0), mask=i < half)
    tl.store(values + half + i, tl.load(value + half, mask=i < half, other=0.0), mask=i < half)


@triton.jit
def attention(
    out,
    queries,
    query_stride,
    arena,
    page_elems,
    layer_offset,
    positions,
    sequence,
    block_tables,
    table_stride,
    num_kv_heads,
    scale,
    GROUP: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    LANES: tl.constexpr,
):
    """Online softmax of the query heads that share one KV head. Grid (num_tokens, num_kv_heads)."""
    token, kv = tl.program_id(0), tl.program_id(1)
    length = tl.load(positions + token) + 1
    where = tl.load(sequence + token)
    g, d, lane = tl.arange(0, GROUP_BLOCK), tl.arange(0, DIM_BLOCK), tl.arange(0, LANES)
    inside = (g < GROUP)[:, None] & (d < HEAD_DIM)[None, :]
    heads = (kv * GROUP + g)[:, None] * HEAD_DIM + d[None, :]
    query = tl.load(queries + token * query_stride + heads, mask=inside, other=0.0)
    highest = tl.full((GROUP_BLOCK,), -1e30, tl.float32)
    total = tl.zeros((GROUP_BLOCK,), tl.float32)
    mixed = tl.zeros((GROUP_BLOCK, DIM_BLOCK), tl.float32)
    for begin in range(0, length, LANES):
        slot = begin % BLOCK_TOKENS + lane
        keys = _head(arena, page_elems, layer_offset, block_tables, table_stride, where, begin,
                     kv, BLOCK_TOKENS, HEAD_DIM)  # fmt: skip
        seen = begin + lane < length
        key = tl.load(
            keys + d[:, None] * BLOCK_TOKENS + slot[None, :],
            mask=(d < HEAD_DIM)[:, None] & seen[None, :],
            other=0.0,
        )
        scores = tl.dot(query, key, input_precision="ieee") * scale
        scores = tl.where(seen[None, :], scores, -1e30)
        new_highest = tl.maximum(highest, tl.max(scores, axis=1))
        rescale = tl.exp(highest - new_highest)
        weights = tl.exp(scores - new_highest[:, None])
        values = _head(arena, page_elems, layer_offset, block_tables, table_stride, where, begin,
                       kv + num_kv_heads, BLOCK_TOKENS, HEAD_DIM)  # fmt: skip
        value = tl.load(
            values + slot[:, None] * HEAD_DIM + d[None, :],
            mask=seen[:, None] & (d < HEAD_DIM)[None, :],
            other=0.0,
        )
        mixed = mixed * rescale[:, None] + tl.dot(
            weights.to(value.dtype), value, input_precision="ieee"
        )
        total = total * rescale + tl.sum(weights, axis=1)
        highest = new_highest
    row = out + token * (num_kv_heads * GROUP * HEAD_DIM) + heads
    tl.store(row, (mixed / total[:, None]).to(out.dtype.element_ty), mask=inside)
