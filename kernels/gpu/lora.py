"""LoRA over paged chunks of any rank: one launch shrinks, one expands; see kernels.layouts.

Both grids follow from the plan's shapes alone. A program whose chunk or columns an adapter does
not have returns at once, so a rank-8 adapter next to a rank-64 one moves an eighth of the bytes.
"""

import triton
import triton.language as tl


@triton.jit
def _part(descriptors, adapter_stride, adapter, module):
    """(rank, first chunk) of one adapted module; `descriptors` is already at the layer."""
    entry = descriptors + adapter * adapter_stride + module * 2
    return tl.load(entry), tl.load(entry + 1)


@triton.jit
def shrink(
    shrunk,  # [SPLITS, num_rows, num_slices, max_rank] float32
    x,
    x_stride,
    arena,
    rows,
    tiles,
    descriptors,
    adapter_stride,
    chunk_offsets,
    slices,
    num_rows,
    num_slices,
    max_rank,
    in_features,
    TILE_ROWS: tl.constexpr,
    CHUNK_ROWS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """shrunk[split] = x A^T over every SPLITS-th block of the input; expand adds the planes up.

    Grid (num_tiles, num_slices * chunks of the largest rank, SPLITS).
    """
    tile = tiles + tl.program_id(0) * 3
    part = tl.program_id(1) % num_slices
    begin = tl.program_id(1) // num_slices * CHUNK_ROWS
    split = tl.program_id(2)
    adapter, start, count = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    rank, first = _part(descriptors, adapter_stride, adapter, tl.load(slices + part * 3))
    if begin >= rank:
        return
    member = tl.arange(0, TILE_ROWS)
    row = tl.load(rows + start + member, mask=member < count, other=0)
    j = tl.arange(0, CHUNK_ROWS)
    a = arena + tl.load(chunk_offsets + first + begin // CHUNK_ROWS)
    total = tl.zeros((TILE_ROWS, CHUNK_ROWS), tl.float32)
    for block in range(split * BLOCK_IN, in_features, SPLITS * BLOCK_IN):
        i = block + tl.arange(0, BLOCK_IN)
        x_part = tl.load(
            x + row[:, None] * x_stride + i[None, :],
            mask=(member < count)[:, None] & (i < in_features)[None, :],
            other=0.0,
        )
        a_part = tl.load(
            a + j[None, :] * in_features + i[:, None],
            mask=(begin + j < rank)[None, :] & (i < in_features)[:, None],
            other=0.0,
        )
        total += tl.dot(x_part, a_part, input_precision="ieee")
    where = (split * num_rows + start + member[:, None]) * num_slices + part
    tl.store(
        shrunk + where * max_rank + begin + j[None, :],
        total,
        mask=(member < count)[:, None] & (begin + j < rank)[None, :],
    )


@triton.jit
def expand(
    y,
    y_stride,
    shrunk,
    arena,
    rows,
    tiles,
    descriptors,
    adapter_stride,
    chunk_offsets,
    slices,
    num_rows,
    num_slices,
    max_rank,
    TILE_ROWS: tl.constexpr,
    CHUNK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """y[row, columns of the slice] += shrunk B. Grid (num_tiles, num_slices, blocks of columns)."""
    tile = tiles + tl.program_id(0) * 3
    part = tl.program_id(1)
    adapter, start, count = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    rank, first = _part(descriptors, adapter_stride, adapter, tl.load(slices + part * 3))
    out_start, out_features = tl.load(slices + part * 3 + 1), tl.load(slices + part * 3 + 2)
    column = tl.program_id(2) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    if (rank == 0) | (tl.program_id(2) * BLOCK_OUT >= out_features):
        return
    member = tl.arange(0, TILE_ROWS)
    row = tl.load(rows + start + member, mask=member < count, other=0)
    j = tl.arange(0, CHUNK_ROWS)
    chunks = chunk_offsets + first + (rank + CHUNK_ROWS - 1) // CHUNK_ROWS
    total = tl.zeros((TILE_ROWS, BLOCK_OUT), tl.float32)
    for begin in range(0, rank, CHUNK_ROWS):
        inner = tl.zeros((TILE_ROWS, CHUNK_ROWS), tl.float32)
        inside = (member < count)[:, None] & (begin + j < rank)[None, :]
        for split in tl.static_range(SPLITS):
            where = (split * num_rows + start + member[:, None]) * num_slices + part
            inner += tl.load(shrunk + where * max_rank + begin + j[None, :], mask=inside, other=0.0)
        b_part = tl.load(
            arena
            + tl.load(chunks + begin // CHUNK_ROWS)
            + j[:, None] * out_features
            + column[None, :],
            mask=(begin + j < rank)[:, None] & (column < out_features)[None, :],
            other=0.0,
        )
        total += tl.dot(inner.to(b_part.dtype), b_part, input_precision="ieee")
    where_y = y + row[:, None] * y_stride + out_start + column[None, :]
    inside_y = (member < count)[:, None] & (column < out_features)[None, :]
    before = tl.load(where_y, mask=inside_y, other=0.0).to(tl.float32)
    tl.store(where_y, (before + total).to(y.dtype.element_ty), mask=inside_y)
