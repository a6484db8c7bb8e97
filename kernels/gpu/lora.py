"""LoRA over paged chunks of any rank; see kernels.layouts for chunks, kernels.lora_work for work.

Every kernel is a fixed grid of NUM_PROGRAMS programs that loop over the step's work up to a count
on the device, so a CUDA graph replays it for any batch. A program whose chunk a layer does not have
goes on to its next one, so a rank-8 adapter next to a rank-64 one moves an eighth of the bytes.

    shrink: item (tile, chunk, slice, split)       planes[split, row, slice, chunk] = x A^T
    expand: item (tile, block of output columns)   y[row, block] += (sum of planes) B

The planes are float32 and summed in their order: no atomics, and nothing to zero first. How many
there are follows from the input's width alone. Rows of single tokens (`_rows`) are worked on one
after the other, by the same code whatever shares their tile; runs of tokens (`_tiles`) in matrix
products of TILE_ROWS rows. So no row's result depends on what else is in the batch.
"""

import triton
import triton.language as tl

# Changes from call to call: one compiled kernel must do for all layers.
_VARYING = ["layer_offset"]


@triton.jit
def _part(descriptors, adapter_stride, layer_offset, adapter, module):
    """(rank, first chunk) of one adapted module of a layer."""
    entry = descriptors + adapter * adapter_stride + layer_offset + module * 2
    return tl.load(entry), tl.load(entry + 1)


@triton.jit
def _chunk(arena, chunk_offsets, index, ALIGNED: tl.constexpr):
    """Where a chunk begins; told to be aligned, so that it is read 16 bytes at a time."""
    return arena + tl.multiple_of(tl.load(chunk_offsets + index), ALIGNED)


@triton.jit
def _columns(slices, part, COLUMN_MULTIPLE: tl.constexpr):
    """(module, first output column, number of columns) of a slice."""
    entry = slices + part * 3
    out_start = tl.multiple_of(tl.load(entry + 1), COLUMN_MULTIPLE)
    return tl.load(entry), out_start, tl.multiple_of(tl.load(entry + 2), COLUMN_MULTIPLE)


@triton.jit(do_not_specialize=_VARYING)
def shrink_rows(
    planes,
    split_stride,
    part_stride,
    x,
    x_stride,
    arena,
    rows,
    tiles,
    chunks,
    counts,
    descriptors,
    adapter_stride,
    layer_offset,
    chunk_offsets,
    slices,
    num_slices,
    in_features,
    CHUNK_ROWS: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    SPLITS: tl.constexpr,
    NUM_PROGRAMS: tl.constexpr,
):
    """Single tokens: each row of A meets x in fused multiply-adds, summed across at the end."""
    j, i = tl.arange(0, CHUNK_ROWS), tl.arange(0, BLOCK_IN)
    num_items = tl.load(counts + 1) * num_slices * SPLITS
    for item in range(tl.program_id(0), num_items, NUM_PROGRAMS):
        split = item % SPLITS
        part = item // SPLITS % num_slices
        work = chunks + item // SPLITS // num_slices * 2
        tile = tiles + tl.load(work) * 3
        begin = tl.load(work + 1) * CHUNK_ROWS
        module = tl.load(slices + part * 3)
        rank, first = _part(descriptors, adapter_stride, layer_offset, tl.load(tile), module)
        if begin < rank:
            start = tl.load(tile + 1)
            a = _chunk(arena, chunk_offsets, first + begin // CHUNK_ROWS, ALIGNED)
            for member in range(start, start + tl.load(tile + 2)):
                row = x + tl.load(rows + member).to(tl.int64) * x_stride
                sums = tl.zeros((CHUNK_ROWS, BLOCK_IN), tl.float32)
                for block in range(split * BLOCK_IN, in_features, SPLITS * BLOCK_IN):
                    inside = block + i < in_features
                    x_part = tl.load(row + block + i, mask=inside, other=0.0)
                    a_part = tl.load(
                        a + j[:, None] * in_features + block + i[None, :],
                        mask=(begin + j < rank)[:, None] & inside[None, :],
                        other=0.0,
                    )
                    sums += a_part.to(tl.float32) * x_part.to(tl.float32)[None, :]
                where = planes + split * split_stride.to(tl.int64)
                where += (member * num_slices + part) * part_stride + begin
                tl.store(where + j, tl.sum(sums, axis=1), mask=begin + j < rank)


@triton.jit(do_not_specialize=_VARYING)
def expand_rows(
    y,
    y_stride,
    planes,
    split_stride,
    part_stride,
    arena,
    rows,
    tiles,
    counts,
    descriptors,
    adapter_stride,
    layer_offset,
    chunk_offsets,
    slices,
    blocks,
    num_slices,
    num_blocks,
    CHUNK_ROWS: tl.constexpr,
    ALIGNED: tl.constexpr,
    COLUMN_MULTIPLE: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    SPLITS: tl.constexpr,
    NUM_PROGRAMS: tl.constexpr,
):
    """Single tokens: as in shrink_rows, with the rank's rows of B summed once at the end."""
    j, i = tl.arange(0, CHUNK_ROWS), tl.arange(0, BLOCK_OUT)
    num_items = tl.load(counts) * num_blocks
    for item in range(tl.program_id(0), num_items, NUM_PROGRAMS):
        block = blocks + item % num_blocks * 2
        tile = tiles + item // num_blocks * 3
        part = tl.load(block)
        column = tl.multiple_of(tl.load(block + 1), BLOCK_OUT) + i
        module, out_start, out_features = _columns(slices, part, COLUMN_MULTIPLE)
        rank, first = _part(descriptors, adapter_stride, layer_offset, tl.load(tile), module)
        if rank > 0:
            start = tl.load(tile + 1)
            inside = column < out_features
            b_first = first + (rank + CHUNK_ROWS - 1) // CHUNK_ROWS
            for member in range(start, start + tl.load(tile + 2)):
                where = planes + (member * num_slices + part) * part_stride + j
                sums = tl.zeros((CHUNK_ROWS, BLOCK_OUT), tl.float32)
                for begin in range(0, rank, CHUNK_ROWS):
                    shrunk = tl.zeros((CHUNK_ROWS,), tl.float32)
                    for split in tl.static_range(SPLITS):
                        plane = where + split * split_stride.to(tl.int64) + begin
                        shrunk += tl.load(plane, mask=begin + j < rank, other=0.0)
                    b = _chunk(arena, chunk_offsets, b_first + begin // CHUNK_ROWS, ALIGNED)
                    b_part = tl.load(
                        b + j[:, None] * out_features + column[None, :],
                        mask=(begin + j < rank)[:, None] & inside[None, :],
                        other=0.0,
                    )
                    sums += shrunk[:, None] * b_part.to(tl.float32)
                row = y + tl.load(rows + member).to(tl.int64) * y_stride + out_start + column
                before = tl.load(row, mask=inside, other=0.0).to(tl.float32)
                total = before + tl.sum(sums, axis=0)
                tl.store(row, total.to(y.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=_VARYING)
def shrink_tiles(
    planes,
    split_stride,
    part_stride,
    x,
    x_stride,
    arena,
    rows,
    tiles,
    chunks,
    counts,
    descriptors,
    adapter_stride,
    layer_offset,
    chunk_offsets,
    slices,
    num_slices,
    in_features,
    TILE_ROWS: tl.constexpr,
    CHUNK_ROWS: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    SPLITS: tl.constexpr,
    NUM_PROGRAMS: tl.constexpr,
):
    """Runs of tokens: a tile of rows against a chunk of A, as matrix products."""
    j, i, member = tl.arange(0, CHUNK_ROWS), tl.arange(0, BLOCK_IN), tl.arange(0, TILE_ROWS)
    num_items = tl.load(counts + 1) * num_slices * SPLITS
    for item in range(tl.program_id(0), num_items, NUM_PROGRAMS):
        split = item % SPLITS
        part = item // SPLITS % num_slices
        work = chunks + item // SPLITS // num_slices * 2
        tile = tiles + tl.load(work) * 3
        begin = tl.load(work + 1) * CHUNK_ROWS
        module = tl.load(slices + part * 3)
        rank, first = _part(descriptors, adapter_stride, layer_offset, tl.load(tile), module)
        if begin < rank:
            start = tl.load(tile + 1)
            present = member < tl.load(tile + 2)
            row = tl.load(rows + start + member, mask=present, other=0).to(tl.int64)
            a = _chunk(arena, chunk_offsets, first + begin // CHUNK_ROWS, ALIGNED)
            sums = tl.zeros((TILE_ROWS, CHUNK_ROWS), tl.float32)
            for block in range(split * BLOCK_IN, in_features, SPLITS * BLOCK_IN):
                inside = block + i < in_features
                x_part = tl.load(
                    x + row[:, None] * x_stride + block + i[None, :],
                    mask=present[:, None] & inside[None, :],
                    other=0.0,
                )
                a_part = tl.load(
                    a + j[None, :] * in_features + block + i[:, None],
                    mask=(begin + j < rank)[None, :] & inside[:, None],
                    other=0.0,
                )
                sums += tl.dot(x_part, a_part, input_precision="ieee")
            where = planes + split * split_stride.to(tl.int64)
            where += ((start + member) * num_slices + part)[:, None] * part_stride + begin
            stored = present[:, None] & (begin + j < rank)[None, :]
            tl.store(where + j[None, :], sums, mask=stored)


@triton.jit(do_not_specialize=_VARYING)
def expand_tiles(
    y,
    y_stride,
    planes,
    split_stride,
    part_stride,
    arena,
    rows,
    tiles,
    counts,
    descriptors,
    adapter_stride,
    layer_offset,
    chunk_offsets,
    slices,
    blocks,
    num_slices,
    num_blocks,
    TILE_ROWS: tl.constexpr,
    CHUNK_ROWS: tl.constexpr,
    ALIGNED: tl.constexpr,
    COLUMN_MULTIPLE: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    SPLITS: tl.constexpr,
    NUM_PROGRAMS: tl.constexpr,
):
    """Runs of tokens: a tile of rows against a block of B's columns, chunk after chunk."""
    j, i, member = tl.arange(0, CHUNK_ROWS), tl.arange(0, BLOCK_OUT), tl.arange(0, TILE_ROWS)
    num_items = tl.load(counts) * num_blocks
    for item in range(tl.program_id(0), num_items, NUM_PROGRAMS):
        block = blocks + item % num_blocks * 2
        tile = tiles + item // num_blocks * 3
        part = tl.load(block)
        column = tl.multiple_of(tl.load(block + 1), BLOCK_OUT) + i
        module, out_start, out_features = _columns(slices, part, COLUMN_MULTIPLE)
        rank, first = _part(descriptors, adapter_stride, layer_offset, tl.load(tile), module)
        if rank > 0:
            start = tl.load(tile + 1)
            present, inside = member < tl.load(tile + 2), column < out_features
            row = tl.load(rows + start + member, mask=present, other=0).to(tl.int64)
            b_first = first + (rank + CHUNK_ROWS - 1) // CHUNK_ROWS
            where = planes + ((start + member) * num_slices + part)[:, None] * part_stride
            sums = tl.zeros((TILE_ROWS, BLOCK_OUT), tl.float32)
            for begin in range(0, rank, CHUNK_ROWS):
                shrunk = tl.zeros((TILE_ROWS, CHUNK_ROWS), tl.float32)
                for split in tl.static_range(SPLITS):
                    shrunk += tl.load(
                        where + split * split_stride.to(tl.int64) + begin + j[None, :],
                        mask=present[:, None] & (begin + j < rank)[None, :],
                        other=0.0,
                    )
                b = _chunk(arena, chunk_offsets, b_first + begin // CHUNK_ROWS, ALIGNED)
                b_part = tl.load(
                    b + j[:, None] * out_features + column[None, :],
                    mask=(begin + j < rank)[:, None] & inside[None, :],
                    other=0.0,
                )
                sums += tl.dot(shrunk.to(b_part.dtype), b_part, input_precision="ieee")
            place = y + row[:, None] * y_stride + out_start + column[None, :]
            touched = present[:, None] & inside[None, :]
            before = tl.load(place, mask=touched, other=0.0).to(tl.float32)
            tl.store(place, (before + sums).to(y.dtype.element_ty), mask=touched)
