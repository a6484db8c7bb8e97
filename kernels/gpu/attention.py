"""Causal attention over the paged KV cache; see KvLayout.

The grid is (tokens, KV heads), whatever the step holds. A tile is the tokens of one sequence up
to the next position that TILE_TOKENS divides: the program of its first token works for all of
them, and those of the others return at once.
"""

import triton
import triton.language as tl


@triton.jit
def _leads(token, position, positions, sequence, TILE_TOKENS: tl.constexpr):
    """Whether a tile begins with this token: its place says so, or no neighbour comes before it."""
    before = tl.maximum(token - 1, 0)
    follows = tl.load(sequence + before) == tl.load(sequence + token)
    follows &= tl.load(positions + before) == position - 1
    return (position % TILE_TOKENS == 0) | (token == 0) | (follows == 0)


@triton.jit
def _follow(mine, row_position, member, num_tokens, where, positions, sequence):
    """Which rows, of those that may, belong to tokens that follow the leader."""
    member &= mine < num_tokens
    member &= tl.load(sequence + mine, mask=member, other=-1) == where
    return member & (tl.load(positions + mine, mask=member, other=-1) == row_position)


@triton.jit
def _keys_and_values(keys, values, page_elems, table, key_position, written, d,
                     HEAD_DIM: tl.constexpr, BLOCK_TOKENS: tl.constexpr):  # fmt: skip
    """[DIM_BLOCK, LANES] keys and [LANES, DIM_BLOCK] values of the positions that are `written`."""
    page = tl.load(table + key_position // BLOCK_TOKENS, mask=written, other=0).to(tl.int64)
    slot, in_head = key_position % BLOCK_TOKENS, d < HEAD_DIM
    key = tl.load(
        keys + (page * page_elems + slot)[None, :] + d[:, None] * BLOCK_TOKENS,
        mask=in_head[:, None] & written[None, :],
        other=0.0,
    )
    value = tl.load(
        values + (page * page_elems + slot * HEAD_DIM)[:, None] + d[None, :],
        mask=written[:, None] & in_head[None, :],
        other=0.0,
    )
    return key, value


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
    num_tokens,
    num_kv_heads,
    window,
    scale,
    GROUP: tl.constexpr,
    TILE_TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    LANES: tl.constexpr,
):
    """Online softmax of a tile's query heads that share one KV head: row = token * GROUP + head."""
    token, kv = tl.program_id(0), tl.program_id(1)
    position = tl.load(positions + token)
    row, d, lane = tl.arange(0, ROWS), tl.arange(0, DIM_BLOCK), tl.arange(0, LANES)
    in_head = d < HEAD_DIM
    head = kv * GROUP + row % GROUP
    mine = token + row // GROUP
    width = num_kv_heads * GROUP * HEAD_DIM
    row_out = out + mine[:, None].to(tl.int64) * width + head[:, None] * HEAD_DIM + d[None, :]
    if position < 0:  # padding
        tl.store(row_out, tl.zeros((ROWS, DIM_BLOCK), out.dtype.element_ty),
                 mask=(row < GROUP)[:, None] & in_head[None, :])  # fmt: skip
        return
    if _leads(token, position, positions, sequence, TILE_TOKENS) == 0:
        return
    where = tl.load(sequence + token)
    row_position = position + row // GROUP
    member = row_position < (position // TILE_TOKENS + 1) * TILE_TOKENS
    member = _follow(mine, row_position, member, num_tokens, where, positions, sequence)
    row_queries = queries + mine[:, None].to(tl.int64) * query_stride
    query = tl.load(row_queries + head[:, None] * HEAD_DIM + d[None, :],
                    mask=member[:, None] & in_head[None, :], other=0.0)  # fmt: skip
    table = block_tables + where * table_stride
    keys = arena + layer_offset + kv * (BLOCK_TOKENS * HEAD_DIM)
    values = keys + num_kv_heads * (BLOCK_TOKENS * HEAD_DIM)
    oldest = tl.where(window > 0, tl.maximum(row_position - window + 1, 0), 0)
    highest = tl.full((ROWS,), -1e30, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    mixed = tl.zeros((ROWS, DIM_BLOCK), tl.float32)
    begin = tl.where(window > 0, tl.maximum(position - window + 1, 0), 0)
    end = tl.max(tl.where(member, row_position, -1), axis=0) + 1
    for start in range(begin // LANES * LANES, end, LANES):
        key_position = start + lane
        written = (key_position >= begin) & (key_position < end)
        key, value = _keys_and_values(keys, values, page_elems, table, key_position, written, d,
                                      HEAD_DIM, BLOCK_TOKENS)  # fmt: skip
        scores = tl.dot(query, key, input_precision="ieee") * scale
        seen = (key_position[None, :] <= row_position[:, None]) & (
            key_position[None, :] >= oldest[:, None]
        )
        scores = tl.where(seen, scores, -1e30)
        new_highest = tl.maximum(highest, tl.max(scores, axis=1))
        rescale = tl.exp(highest - new_highest)
        weights = tl.where(seen, tl.exp(scores - new_highest[:, None]), 0.0)
        mixed = mixed * rescale[:, None] + tl.dot(
            weights.to(value.dtype), value, input_precision="ieee"
        )
        total = total * rescale + tl.sum(weights, axis=1)
        highest = new_highest
    total = tl.where(member, total, 1.0)
    tl.store(
        row_out,
        (mixed / total[:, None]).to(out.dtype.element_ty),
        mask=member[:, None] & in_head[None, :],
    )
