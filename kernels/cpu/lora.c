// y[row] += (x[row] A^T) B for rows of many adapters of any rank; see LoraPlan in kernels/layouts.py.
#include "lora_expand.h"
#include "lora_shrink.h"

typedef struct {
    int32_t module, out_start, out_features;
} Slice;

typedef struct {
    int32_t adapter, start, count;
} Tile;

typedef struct {
    int32_t rank, first;
} Descriptor;

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

// One chunk of A for the rows of a tile.
static void shrink_tile(const Work *work, Tile tile, int slice, int chunk) {
    const Plan *plan = work->plan;
    Descriptor part = descriptor(work, tile, slice);
    int begin = chunk * CHUNK_ROWS;
    if (begin >= part.rank) return;
    int num_rows = part.rank - begin < CHUNK_ROWS ? part.rank - begin : CHUNK_ROWS;
    const scalar *a = plan->arena + plan->chunk_offsets[part.first + chunk];
    int end = tile.start + tile.count;
    for (int row = tile.start; row < end;) {
        int tokens = end - row >= DOT_TOKENS ? DOT_TOKENS : 1;
        float *shrunk[DOT_TOKENS];
        const scalar *x[DOT_TOKENS];
        for (int i = 0; i < tokens; i++) {
            shrunk[i] = shrunk_row(work, row + i, slice) + begin;
            x[i] = work->x + plan->rows[row + i] * work->x_stride;
        }
        (tokens == 1 ? shrink_token : shrink_tokens)(shrunk, x, a, num_rows, work->in_features);
        row += tokens;
    }
}

// One block of columns of B for the rows of a tile.
static void expand_tile(const Work *work, Tile tile, int slice, int block) {
    const Plan *plan = work->plan;
    Descriptor part = descriptor(work, tile, slice);
    Slice columns = work->slices[slice];
    int begin = block * COLUMNS, left = columns.out_features - begin, end = tile.start + tile.count;
    if (part.rank == 0 || left <= 0) return;
    int num_chunks = (part.rank + CHUNK_ROWS - 1) / CHUNK_ROWS;
    Expansion expansion = {plan->arena + begin, plan->chunk_offsets + part.first + num_chunks,
                           part.rank, columns.out_features};
    for (int row = tile.start; row < end;) {
        int tokens = end - row >= EXPAND_TOKENS ? EXPAND_TOKENS : 1;
        float *shrunk[EXPAND_TOKENS];
        scalar *y[EXPAND_TOKENS];
        for (int i = 0; i < tokens; i++) {
            shrunk[i] = shrunk_row(work, row + i, slice);
            y[i] = work->y + plan->rows[row + i] * work->y_stride + columns.out_start + begin;
        }
        int num_columns = left < COLUMNS ? left : COLUMNS;
        (tokens == 1 ? expand_token : expand_tokens)(y, shrunk, &expansion, num_columns);
        row += tokens;
    }
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
                    shrink_tile(&work, plan->tiles[tile], slice, chunk);
#pragma omp for collapse(3) schedule(dynamic)
        for (int tile = 0; tile < plan->num_tiles; tile++)
            for (int slice = 0; slice < num_slices; slice++)
                for (int block = 0; block < num_blocks; block++)
                    expand_tile(&work, plan->tiles[tile], slice, block);
    }
}
