// y[row] += (x[row] A^T) B for rows of many adapters of any rank; see LoraPlan in kernels/layouts.py.
#include "common.h"

enum { CHUNK_ROWS = 16, COLUMNS = 128 };

typedef struct {
    int32_t module, out_start, out_features;
} Slice;

typedef struct {
    int32_t adapter, start, count;
} Tile;

typedef struct {
    int32_t rank, first;
} Descriptor;

// shrunk[j] = x . a[j] for the rows of one chunk of A.
DISPATCHED static void shrink_chunk(float *shrunk, const scalar *x, const scalar *a, int num_rows,
                                    int64_t width) {
    int j = 0;
    for (; j + 4 <= num_rows; j += 4) {
        const scalar *a0 = a + j * width, *a1 = a0 + width, *a2 = a1 + width, *a3 = a2 + width;
        float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        for (int64_t i = 0; i < width; i++) {
            float value = load(x[i]);
            s0 += value * load(a0[i]);
            s1 += value * load(a1[i]);
            s2 += value * load(a2[i]);
            s3 += value * load(a3[i]);
        }
        shrunk[j] = s0, shrunk[j + 1] = s1, shrunk[j + 2] = s2, shrunk[j + 3] = s3;
    }
    for (; j < num_rows; j++) {
        float sum = 0;
        for (int64_t i = 0; i < width; i++) sum += load(x[i]) * load(a[j * width + i]);
        shrunk[j] = sum;
    }
}

// y[0:columns] += shrunk . B[:, 0:columns], all chunks of B; columns <= COLUMNS.
static inline __attribute__((always_inline)) void expand_columns(
    scalar *y, const float *shrunk, const scalar *arena, const int64_t *offsets, int rank,
    int64_t width, int columns) {
    float sum[COLUMNS] = {0};
    for (int begin = 0; begin < rank; begin += CHUNK_ROWS) {
        const scalar *b = arena + offsets[begin / CHUNK_ROWS];
        int end = rank - begin < CHUNK_ROWS ? rank - begin : CHUNK_ROWS;
        for (int j = 0; j < end; j++, b += width) {
            float value = shrunk[begin + j];
            for (int i = 0; i < columns; i++) sum[i] += value * load(b[i]);
        }
    }
    for (int i = 0; i < columns; i++) y[i] = store(load(y[i]) + sum[i]);
}

// With a constant number of columns the sums stay in registers.
DISPATCHED static void expand_block(scalar *y, const float *shrunk, const scalar *arena,
                                    const int64_t *offsets, int rank, int64_t width) {
    expand_columns(y, shrunk, arena, offsets, rank, width, COLUMNS);
}

DISPATCHED static void expand_tail(scalar *y, const float *shrunk, const scalar *arena,
                                   const int64_t *offsets, int rank, int64_t width, int columns) {
    expand_columns(y, shrunk, arena, offsets, rank, width, columns);
}

typedef struct {
    scalar *y;
    int64_t y_stride;
    const scalar *x;
    int64_t x_stride;
    const scalar *arena;
    const int32_t *rows;
    const Tile *tiles;
    const Descriptor *descriptors;  // of this layer
    int64_t adapter_stride;         // from an adapter's descriptors to the next adapter's
    const int64_t *chunk_offsets;
    const Slice *slices;
    int32_t num_tiles, num_slices, in_features, max_rank;
    float *shrunk;  // [rows, num_slices, max_rank]
} Site;

static Descriptor descriptor(const Site *site, Tile tile, int slice) {
    return site->descriptors[tile.adapter * site->adapter_stride + site->slices[slice].module];
}

static float *shrunk_row(const Site *site, int row, int slice) {
    return site->shrunk + ((int64_t)row * site->num_slices + slice) * site->max_rank;
}

static void shrink(const Site *site, Tile tile, int slice, int chunk) {
    Descriptor part = descriptor(site, tile, slice);
    int begin = chunk * CHUNK_ROWS;
    if (begin >= part.rank) return;
    int num_rows = part.rank - begin < CHUNK_ROWS ? part.rank - begin : CHUNK_ROWS;
    const scalar *a = site->arena + site->chunk_offsets[part.first + chunk];
    for (int row = tile.start; row < tile.start + tile.count; row++)
        shrink_chunk(shrunk_row(site, row, slice) + begin,
                     site->x + site->rows[row] * site->x_stride, a, num_rows, site->in_features);
}

static void expand(const Site *site, Tile tile, int slice, int block) {
    Descriptor part = descriptor(site, tile, slice);
    Slice columns = site->slices[slice];
    int begin = block * COLUMNS;
    if (part.rank == 0 || begin >= columns.out_features) return;
    int remaining = columns.out_features - begin;
    const int64_t *offsets =
        site->chunk_offsets + part.first + (part.rank + CHUNK_ROWS - 1) / CHUNK_ROWS;
    for (int row = tile.start; row < tile.start + tile.count; row++) {
        scalar *y = site->y + site->rows[row] * site->y_stride + columns.out_start + begin;
        const float *shrunk = shrunk_row(site, row, slice);
        if (remaining >= COLUMNS)
            expand_block(y, shrunk, site->arena + begin, offsets, part.rank, columns.out_features);
        else
            expand_tail(y, shrunk, site->arena + begin, offsets, part.rank, columns.out_features,
                        remaining);
    }
}

// One parallel region per site: the barrier between the two loops is the only synchronisation.
EXPORT void lora_apply(const Site *site, int32_t widest_slice, int32_t in_parallel) {
    int num_chunks = (site->max_rank + CHUNK_ROWS - 1) / CHUNK_ROWS;
    int num_blocks = (widest_slice + COLUMNS - 1) / COLUMNS;
#pragma omp parallel if (in_parallel)
    {
#pragma omp for collapse(3) schedule(dynamic)
        for (int tile = 0; tile < site->num_tiles; tile++)
            for (int slice = 0; slice < site->num_slices; slice++)
                for (int chunk = 0; chunk < num_chunks; chunk++)
                    shrink(site, site->tiles[tile], slice, chunk);
#pragma omp for collapse(3) schedule(dynamic)
        for (int tile = 0; tile < site->num_tiles; tile++)
            for (int slice = 0; slice < site->num_slices; slice++)
                for (int block = 0; block < num_blocks; block++)
                    expand(site, site->tiles[tile], slice, block);
    }
}
