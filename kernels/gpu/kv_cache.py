"""The norm of each head, rotary embedding, and writing keys and values to their pages."""

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
def _scaled(x, weight, scale, inside, element_ty: tl.constexpr):
    """A part of a normed head, rounded where the reference rounds."""
    normed = (x * scale).to(element_ty).to(tl.float32)
    weights = tl.load(weight, mask=inside, other=0.0).to(tl.float32)
    return (normed * weights).to(element_ty).to(tl.float32)


@triton.jit
def rope_and_cache(
    qkv,
    qkv_stride,
    rotary,
    query_norm,
    key_norm,
    epsilon,
    arena,
    page_elems,
    layer_offset,
    positions,
    sequence,
    block_tables,
    table_stride,
    num_q_heads,
    num_kv_heads,
    NORMS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    ROTARY_DIM: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    REST_BLOCK: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
):
    """Grid (num_tokens, num_q_heads + num_kv_heads): a query head, or a key head and its value.

    A head is two halves that rotate, and a rest (REST_BLOCK 0: none) that does not.
    """
    token, head = tl.program_id(0), tl.program_id(1)
    position = tl.load(positions + token)
    if position < 0:  # padding
        return
    element_ty: tl.constexpr = qkv.dtype.element_ty
    half: tl.constexpr = ROTARY_DIM // 2
    i = tl.arange(0, HALF_BLOCK)
    inside = i < half
    source = qkv + token.to(tl.int64) * qkv_stride + head * HEAD_DIM
    first = tl.load(source + i, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(source + half + i, mask=inside, other=0.0).to(tl.float32)
    if REST_BLOCK > 0:
        j = ROTARY_DIM + tl.arange(0, REST_BLOCK)
        rest = tl.load(source + j, mask=j < HEAD_DIM, other=0.0).to(tl.float32)
    if NORMS:
        weight = key_norm
        if head < num_q_heads:
            weight = query_norm
        squares = tl.sum(first * first, axis=0) + tl.sum(second * second, axis=0)
        if REST_BLOCK > 0:
            squares += tl.sum(rest * rest, axis=0)
        scale = 1.0 / tl.sqrt(squares / HEAD_DIM + epsilon)
        first = _scaled(first, weight + i, scale, inside, element_ty)
        second = _scaled(second, weight + half + i, scale, inside, element_ty)
        if REST_BLOCK > 0:
            rest = _scaled(rest, weight + j, scale, j < HEAD_DIM, element_ty)
    angle = rotary + position * ROTARY_DIM + i
    cosine = tl.load(angle, mask=inside, other=0.0)
    sine = tl.load(angle + half, mask=inside, other=0.0)
    low = (first * cosine - second * sine).to(element_ty)
    high = (second * cosine + first * sine).to(element_ty)
    if head < num_q_heads:
        tl.store(source + i, low, mask=inside)
        tl.store(source + half + i, high, mask=inside)
        if NORMS and REST_BLOCK > 0:
            tl.store(source + j, rest.to(element_ty), mask=j < HEAD_DIM)
        return
    kv = head - num_q_heads
    where = tl.load(sequence + token)
    slot = position % BLOCK_TOKENS
    keys = _head(arena, page_elems, layer_offset, block_tables, table_stride, where, position,
                 kv, BLOCK_TOKENS, HEAD_DIM) + slot  # fmt: skip
    tl.store(keys + i * BLOCK_TOKENS, low, mask=inside)
    tl.store(keys + (i + half) * BLOCK_TOKENS, high, mask=inside)
    values = _head(arena, page_elems, layer_offset, block_tables, table_stride, where, position,
                   kv + num_kv_heads, BLOCK_TOKENS, HEAD_DIM) + slot * HEAD_DIM  # fmt: skip
    value = source + num_kv_heads * HEAD_DIM
    tl.store(values + i, tl.load(value + i, mask=inside, other=0.0), mask=inside)
    tl.store(values + half + i, tl.load(value + half + i, mask=inside, other=0.0), mask=inside)
    if REST_BLOCK > 0:
        tl.store(keys + j * BLOCK_TOKENS, rest.to(element_ty), mask=j < HEAD_DIM)
        tl.store(values + j, tl.load(value + j, mask=j < HEAD_DIM, other=0.0), mask=j < HEAD_DIM)
