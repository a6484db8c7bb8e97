// What lora_apply is called with, and how its threads share it: see LoraPlan in kernels/layouts.py.
#pragma once

#include "common.h"

enum { CHUNK_ROWS = 16, LINE_ELEMENTS = 64 / sizeof(scalar) };
// Reading an element of an adapter takes as long as multiplying it with this many tokens.
enum { READ_COST = 6 };
// Below this cost, of some microseconds, waking the other threads takes longer than they do.
enum { PARALLEL_COST = 500000 };

typedef struct {
    int32_t module, out_start, out_features;
} Slice;

typedef struct {
    int32_t adapter, start, count;
} Tile;

typedef struct {
    int32_t rank, first;
} Descriptor;

// What a part is to one phase, in units of equal cost; `before` is the cost of all parts before.
typedef struct {
    int64_t before, unit_cost, num_units;
} Phase;

// The tokens of one tile with one slice of their adapter; `chunks` are the offsets of A's chunks,
// then those of B's. Shrinking it comes in groups of rank rows, expanding it in strips of columns.
typedef struct {
    const int64_t *chunks;
    Tile tile;
    Slice columns;
    int32_t slice, rank;
    Phase shrink, expand;
} Part;
_Static_assert(sizeof(Part) <= 128, "as kernels/cpu/ops.py has it");

// What a step's calls have in common: kernels.layouts.LoraPlan, its arena, and room to work in.
typedef struct {
    const scalar *arena;
    const int32_t *rows;
    const Tile *tiles;
    const Descriptor *descriptors;  // [num_adapters, num_layers, num_modules]
    const int64_t *chunk_offsets;
    float *shrunk;  // x A^T [rows, slices, max_rank]
    Part *parts;    // [tiles, slices]
    int32_t num_tiles, num_layers, num_modules, max_rank;
} Plan;

// One call: one site of one layer, for all rows of the plan.
typedef struct {
    const Plan *plan;
    const Slice *slices;
    int32_t num_slices, in_features, layer, num_parts;
    scalar *y;
    const scalar *x;
    int64_t y_stride, x_stride;
} Work;

// Units of one part that one thread does, or columns.
typedef struct {
    int64_t begin, end;
} Range;

// Some columns of some rows of A or B in the arena, which lie `stride` elements apart.
typedef struct {
    const scalar *first;
    int64_t stride;
    int rows, columns;
} Rows;

// Into the second cache: `count` columns from a column on, as far as there are any.
INLINE void fetch(const Rows *ahead, int column, int count) {
    if (column >= ahead->columns) return;
    for (int row = 0; row < ahead->rows; row++)
        for (int i = 0; i < count; i += LINE_ELEMENTS)
            __builtin_prefetch(ahead->first + row * ahead->stride + column + i, 0, 2);
}

static int num_chunks(const Part *part) { return (part->rank + CHUNK_ROWS - 1) / CHUNK_ROWS; }

// At most `most` rank rows from `row` on, within their chunk; `chunks` are those of A or of B.
INLINE Rows rows_of(const Work *work, const Part *part, const int64_t *chunks, int row, int most,
                    int64_t width) {
    const scalar *chunk = work->plan->arena + chunks[row / CHUNK_ROWS];
    int left = part->rank - row;
    return (Rows){chunk + row % CHUNK_ROWS * width, width, left < most ? left : most, width};
}

INLINE Rows rows_of_a(const Work *work, const Part *part, int row, int most) {
    return rows_of(work, part, part->chunks, row, most, work->in_features);
}

INLINE Rows rows_of_b(const Work *work, const Part *part, int row, int most,
                      const Range *columns) {
    const int64_t *chunks = part->chunks + num_chunks(part);
    Rows rows = rows_of(work, part, chunks, row, most, part->columns.out_features);
    rows.first += columns->begin;
    rows.columns = columns->end - columns->begin;
    return rows;
}

static float *shrunk_row(const Work *work, int row, const Part *part) {
    int64_t index = (int64_t)row * work->num_slices + part->slice;
    return work->plan->shrunk + index * work->plan->max_rank;
}

static int64_t total_cost(const Phase *last) {
    return last->before + last->unit_cost * last->num_units;
}

static Phase phase_after(const Phase *last, int64_t unit_cost, int64_t num_units) {
    return (Phase){total_cost(last), unit_cost, num_units};
}

// Fills plan->parts, in their order; all that is adapted.
static void find_parts(Work *work, int group_rows, int strip_columns) {
    const Plan *plan = work->plan;
    Phase shrink = {0}, expand = {0};
    for (int t = 0; t < plan->num_tiles; t++)
        for (int s = 0; s < work->num_slices; s++) {
            Tile tile = plan->tiles[t];
            Slice slice = work->slices[s];
            int64_t layer = (int64_t)tile.adapter * plan->num_layers + work->layer;
            Descriptor found = plan->descriptors[layer * plan->num_modules + slice.module];
            if (found.rank == 0) continue;
            const int64_t *chunks = plan->chunk_offsets + found.first;
            __builtin_prefetch(chunks);
            int64_t cost = tile.count + READ_COST;
            shrink = phase_after(&shrink, cost, (found.rank + group_rows - 1) / group_rows);
            expand = phase_after(&expand, cost * found.rank,
                                (slice.out_features + strip_columns - 1) / strip_columns);
            plan->parts[work->num_parts++] =
                (Part){chunks, tile, slice, s, found.rank, shrink, expand};
        }
}

static int64_t units_before(const Phase *phase, int64_t cost) {
    int64_t units = (cost - phase->before + phase->unit_cost - 1) / phase->unit_cost;
    return cost <= phase->before ? 0 : units < phase->num_units ? units : phase->num_units;
}

// The units of a part that are done by one of `num_threads`, of which each has one run of them.
static Range share(const Phase *phase, const Phase *last, int thread, int num_threads) {
    int64_t total = total_cost(last);
    return (Range){units_before(phase, total * thread / num_threads),
                   units_before(phase, total * (thread + 1) / num_threads)};
}
