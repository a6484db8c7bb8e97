// y[row] += (x[row] A^T) B for rows of many adapters of any rank; see LoraPlan in kernels/layouts.py.
#include "common.h"

enum { CHUNK_ROWS = 16, COLUMNS = 512 };

typedef struct {
    int32_t module, out_start, out_features;
} Slice;

typedef struct {
    int32_t adapter, start, count;
} Tile;

typedef struct {
    int32_t rank, first;
} Descriptor;

// shrunk[j] = x . a[j] for the rows of one chunk of A, and the same for a second row of x.
DISPATCHED static void shrink_pair(float *shrunk, float *shrunk2, const scalar *x,
                                   const scalar *x2, const scalar *a, int num_rows,
                                   int64_t width) {
    int j = 0;
    for (; j + 4 <= num_rows; j += 4) {
        const scalar *a0 = a + j * width, *a1 = a0 + width, *a2 = a1 + width, *a3 = a2 + width;
        float s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0;
        for (int64_t i = 0; i < width; i++) {
            float v0 = load(a0[i]), v1 = load(a1[i]), v2 = load(a2[i]), v3 = load(a3[i]);
            float s = load(x[i]), t = load(x2[i]);
            s0 += s * v0, s1 += s * v1, s2 += s * v2, s3 += s * v3;
            t0 += t * v0, t1 += t * v1, t2 += t * v2, t3 += t * v3;
        }
        shrunk[j] = s0, shrunk[j + 1] = s1, shrunk[j + 2] = s2, shrunk[j + 3] = s3;
        shrunk2[j] = t0, shrunk2[j + 1] = t1, shrunk2[j + 2] = t2, shrunk2[j + 3] = t3;
    }
    for (; j < num_rows; j++) {
        float s = 0, t = 0;
        for (int64_t i = 0; i < width; i++) {
            float value = load(a[j * width + i]);
            s += load(x[i]) * value, t += load(x2[i]) * value;
        }
        shrunk[j] = s, shrunk2[j] = t;
    }
}

// sums += shrunk . b for `num_rows` rows of B, read four at a time and in their order in memory.
INLINE void accumulate(float *restrict sums, const float *shrunk, const scalar *b, int num_rows,
                       int64_t width, int columns) {
    int j = 0;
    for (; j + 4 <= num_rows; j += 4) {
        const scalar *b0 = b + j * width, *b1 = b0 + width, *b2 = b1 + width, *b3 = b2 + width;
        for (int i = 0; i < columns; i++)
            sums[i] += (shrunk[j] * load(b0[i]) + shrunk[j + 1] * load(b1[i])) +
                       (shrunk[j + 2] * load(b2[i]) + shrunk[j + 3] * load(b3[i]));
    }
    for (; j < num_rows; j++)
        for (int i = 0; i < columns; i++) sums[i] += shrunk[j] * load(b[j * width + i]);
}

// y[0:columns] += shrunk . B[:, 0:columns], all chunks of B; columns <= COLUMNS.
DISPATCHED static void expand_columns(scalar *restrict y, const float *shrunk, const scalar *arena,
                                      const int64_t *offsets, int rank, int64_t width,
                                      int columns) {
    float sums[COLUMNS];
    memset(sums, 0, columns * sizeof *sums);
    for (int begin = 0; begin < rank; begin += CHUNK_ROWS) {
        int num_rows = rank - begin < CHUNK_ROWS ? rank - begin : CHUNK_ROWS;
        accumulate(sums, shrunk + begin, arena + offsets[begin / CHUNK_ROWS], num_rows, width,
                   columns);
    }
    for (int i = 0; i < columns; i++) y[i] = store(load(y[i]) + sums[i]);
}

// What a step's calls have in common: kernels.layouts.LoraPlan, its arena, and room for x A^T.
typedef struct {
    const scalar *arena;
    const int32_t *rows;
    const Tile *tiles;
    const Descriptor *descriptors;  // [num_adapters, num_layers, num_modules]
    const int64_t *chunk_offsets;
    float *shrunk;  // [rows, slices, max_rank]
    int32_t num_tiles, num_layers, num_modules, max_rank;
} Plan;

// One call: one site of one layer, for all rows of the plan.
typedef struct {
    const Plan *plan;
    const Slice *slices;
    int32_t num_slices, in_features, layer;
    scalar *y;
    const scalar *x;
    int64_t y_stride, x_stride;
} Work;

static Descriptor descriptor(const Work *work, Tile tile, int slice) {
    const Plan *plan = work->plan;
    int64_t layer = (int64_t)tile.adapter * plan->num_layers + work->layer;
    return plan->descriptors[layer * plan->num_modules + work->slices[slice].module];
}

static float *shrunk_row(const Work *work, int row, int slice) {
    int64_t index = (int64_t)row * work->num_slices + slice;
    return work->plan->shrunk + index * work->plan->max_rank;
}

static void shrink(const Work *work, Tile tile, int slice, int chunk) {
    const Plan *plan = work->plan;
    Descriptor part = descriptor(work, tile, slice);
    int begin = chunk * CHUNK_ROWS;
    if (begin >= part.rank) return;
    int num_rows = part.rank - begin < CHUNK_ROWS ? part.rank - begin : CHUNK_ROWS;
    const int64_t *offsets = plan->chunk_offsets + part.first + chunk;
    int end = tile.start + tile.count;
    for (int row = tile.start; row < end; row += 2) {
        int second = row + 1 < end ? row + 1 : row;  // an odd row out is worked on twice
        shrink_pair(shrunk_row(work, row, slice) + begin, shrunk_row(work, second, slice) + begin,
                    work->x + plan->rows[row] * work->x_stride,
                    work->x + plan->rows[second] * work->x_stride, plan->arena + offsets[0],
                    num_rows, work->in_features);
    }
}

static void expand(const Work *work, Tile tile, int slice, int block) {
    const Plan *plan = work->plan;
    Descriptor part = descriptor(work, tile, slice);
    Slice columns = work->slices[slice];
    int begin = block * COLUMNS;
    if (part.rank == 0 || begin >= columns.out_features) return;
    int remaining = columns.out_features - begin;
    const int64_t *offsets =
        plan->chunk_offsets + part.first + (part.rank + CHUNK_ROWS - 1) / CHUNK_ROWS;
    for (int row = tile.start; row < tile.start + tile.count; row++)
        expand_columns(work->y + plan->rows[row] * work->y_stride + columns.out_start + begin,
                       shrunk_row(work, row, slice), plan->arena + begin, offsets, part.rank,
                       columns.out_features, remaining < COLUMNS ? remaining : COLUMNS);
}

// One parallel region per site: the barrier between the two loops is the only synchronisation.
EXPORT void lora_apply(const Plan *plan, const Slice *slices, int32_t num_slices,
                       int32_t in_features, int32_t widest_slice, int32_t layer, scalar *y,
                       int64_t y_stride, const scalar *x, int64_t x_stride, int32_t in_parallel) {
    Work work = {plan, slices, num_slices, in_features, layer, y, x, y_stride, x_stride};
    int num_chunks = (plan->max_rank + CHUNK_ROWS - 1) / CHUNK_ROWS;
    int num_blocks = (widest_slice + COLUMNS - 1) / COLUMNS;
#pragma omp parallel if (in_parallel)
    {
#pragma omp for collapse(3) schedule(dynamic)
        for (int tile = 0; tile < plan->num_tiles; tile++)
            for (int slice = 0; slice < num_slices; slice++)
                for (int chunk = 0; chunk < num_chunks; chunk++)
                    shrink(&work, plan->tiles[tile], slice, chunk);
#pragma omp for collapse(3) schedule(dynamic)
        for (int tile = 0; tile < plan->num_tiles; tile++)
            for (int slice = 0; slice < num_slices; slice++)
                for (int block = 0; block < num_blocks; block++)
                    expand(&work, plan->tiles[tile], slice, block);
    }
}
