// What a few query rows make of a span of keys and values.
//
// Every row does the same arithmetic in the same order whatever rows are beside it, and whatever of
// the span is there that it does not see.
#pragma once

#include "attention_span.h"

enum { TILE_ROWS = 128, MARGIN = 8 };
// Between the queries of a tile: known to the compiler, and no multiple of what the caches repeat at.
enum { QUERY_STRIDE = MAX_HEAD_DIM + 64 / (int)sizeof(operand) };

// Vectors of the sums of ROWS rows: what the registers hold beside what is multiplied.
#ifdef __AVX512F__
enum { ROWS = 8, VECTORS = 2 };
#else
enum { ROWS = 4, VECTORS = 2 };
#endif

// The softmax so far of every row of a tile, relative to `max`, which is in powers of two.
typedef struct {
    float *max;
    wide *sum;     // still one for each lane
    float *mixed;  // [rows, columns]
} Sums;

// Query rows that look at the keys of one head: some heads of the first token, of the second …
typedef struct {
    int sequence, kv;
    int first_position, num_tokens, num_heads, window, dim;
    float scale;                       // of scores, to powers of two
    int next_sequence, next_position;  // the token that the same thread goes on with; or negative
    operand queries[TILE_ROWS * QUERY_STRIDE];  // with zeros up to a whole step
} Tile;

// Some rows of a tile and a span: scores, then weights, of the lanes [first, end) that any row sees.
typedef struct {
    int first, end, end_vector;  // `first` and `end_vector` are at whole vectors
    float scores[ROWS][SPAN];
    operand weights[ROWS][SPAN];
    float rescale[ROWS];  // what the sums so far are multiplied with
} Group;

static int least(int a, int b) { return a < b ? a : b; }
static int greatest(int a, int b) { return a > b ? a : b; }

// The lanes of a span that a row may see: [first, end).
INLINE int first_lane(const Tile *tile, int row, const Span *span) {
    int position = tile->first_position + row / tile->num_heads;
    return tile->window ? greatest(0, position - tile->window + 1 - span->begin) : 0;
}

INLINE int end_lane(const Tile *tile, int row, const Span *span) {
    return least(SPAN, tile->first_position + row / tile->num_heads + 1 - span->begin);
}

// totals[row] += a step of x[row] times vectors of steps.
INLINE void multiply(wide (*totals)[VECTORS], const operand *x, int x_stride, const wide *steps,
                     int rows, int vectors) {
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            multiply_add(&totals[row][v], x + row * x_stride, &steps[v]);
}

// scores[row][lane] = query . key for some vectors of lanes.
INLINE void score_lanes(Group *group, const operand *queries, const Span *span, int lane, int rows,
                        int vectors, int is_packed) {
    const operand *packed = span->keys + lane * STEP;
    wide totals[ROWS][VECTORS] = {0}, steps[VECTORS];
    Place keys[VECTORS];
    for (int v = 0; v < vectors; v++) keys[v] = keys_at(span, lane + v * WIDTH);
    for (int d = 0; d < span->dim; d += STEP, packed += SPAN * STEP) {
        for (int v = 0; v < vectors; v++)
            steps[v] = is_packed ? *(wide *)(packed + v * WIDTH * STEP) : join_keys(span, keys[v], d);
        multiply(totals, queries + d, QUERY_STRIDE, steps, rows, vectors);
    }
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            *(wide *)(group->scores[row] + lane + v * WIDTH) = totals[row][v];
}

INLINE void score(Group *group, const operand *queries, const Span *span, int rows, int is_packed) {
    int lane = group->first;
    for (; lane + VECTORS * WIDTH <= group->end_vector; lane += VECTORS * WIDTH)
        score_lanes(group, queries, span, lane, rows, VECTORS, is_packed);
    for (; lane < group->end_vector; lane += WIDTH)
        score_lanes(group, queries, span, lane, rows, 1, is_packed);
}

// mixed = rescale * mixed + weights . values for some vectors of columns.
INLINE void mix_columns(float *mixed, const Group *group, const Span *span, int column, int rows,
                        int vectors, int is_packed) {
    int columns = whole_vectors(span->dim);
    wide totals[ROWS][VECTORS], steps[VECTORS];
    Place values[VECTORS];
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            totals[row][v] =
                group->rescale[row] * *(wide *)(mixed + row * columns + column + v * WIDTH);
    for (int lane = group->first, end; lane < group->end; lane = end) {
        const operand *packed = span->values + (lane * columns + column * STEP);
        end = least(group->end, lane / PIECE * PIECE + PIECE);
        for (int v = 0; v < vectors; v++) values[v] = values_at(span, lane, column + v * WIDTH);
        for (int i = 0; i < end - lane; i += STEP, packed += columns * STEP) {
            for (int v = 0; v < vectors; v++)
                steps[v] = is_packed ? *(wide *)(packed + v * WIDTH * STEP)
                                     : join(values[v], (int64_t)i * span->dim, span->dim);
            multiply(totals, group->weights[0] + lane + i, SPAN, steps, rows, vectors);
        }
    }
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            *(wide *)(mixed + row * columns + column + v * WIDTH) = totals[row][v];
}

INLINE void mix(float *mixed, const Group *group, const Span *span, int rows, int is_packed) {
    int column = 0, columns = whole_vectors(span->dim);
    for (; column + VECTORS * WIDTH <= columns; column += VECTORS * WIDTH)
        mix_columns(mixed, group, span, column, rows, VECTORS, is_packed);
    for (; column < columns; column += WIDTH)
        mix_columns(mixed, group, span, column, rows, 1, is_packed);
}

INLINE float exp2_float(float x) { return exp2_wide(all_wide(x))[0]; }

// Moves the maximum of a row, and its sums with it, to what some lanes hold.
DISPATCHED static void raise(const Sums *sums, int row, wide highest, float scale, float *rescale) {
    float max = max_wide(highest) * scale;
    *rescale = exp2_float(sums->max[row] - max);
    sums->sum[row] *= *rescale;
    sums->max[row] = max;
}

// Scores of the lanes [first, end) of one row become weights, and join its sums. Those of them
// outside [from, to), if `masked`, weigh nothing. A score that is not finite weighs NaN.
// The maximum may be too low by MARGIN powers of two: it seldom has to be raised then.
INLINE void soften(const Sums *sums, int row, float scale, Group *group, int i, int first, int end,
                   int from, int to, int masked) {
    float *scores = group->scores[i];
    wide highest = all_wide(-1e30f), sum = {0};
#pragma GCC unroll 4
    for (int lane = first; lane < end; lane += WIDTH) {
        wide *here = (wide *)(scores + lane);
        if (masked) *here = pick(lanes_seen(lane, from, to), *here, all_wide(-1e30f));
        highest = larger(highest, *here);
    }
    group->rescale[i] = 1;
    if (any_above(highest * scale, sums->max[row] + MARGIN))
        raise(sums, row, highest, scale, &group->rescale[i]);
    float max = sums->max[row];
#pragma GCC unroll 4
    for (int lane = first; lane < end; lane += WIDTH) {
        wide here = *(wide *)(scores + lane);
        wide weights = exp2_wide(here * scale - max) + (here - here);
        if (masked) weights = (wide)(lanes_seen(lane, from, to) & (ints)weights);
        to_operands(group->weights[i] + lane, weights);
        sum += weights;
    }
    sums->sum[row] += sum;
}

// The scores of a row of a group become weights.
DISPATCHED static void soften_row(const Sums *sums, const Tile *tile, int row, const Span *span,
                                  Group *group, int i) {
    int from = first_lane(tile, row, span), to = end_lane(tile, row, span);
    if (from == 0 && to == SPAN) soften(sums, row, tile->scale, group, i, 0, SPAN, 0, 0, 0);
    else soften(sums, row, tile->scale, group, i, group->first, group->end_vector, from, to, 1);
}

// Adds a span of keys to the sums of some rows.
INLINE void attend(const Sums *sums, const Tile *tile, int row, const Span *span, int rows,
                   int is_packed) {
    int end = end_lane(tile, row + rows - 1, span);
    Group group;
    group.first = first_lane(tile, row, span) / WIDTH * WIDTH;
    group.end = end;
    group.end_vector = whole_vectors(end);
    score(&group, tile->queries + row * QUERY_STRIDE, span, rows, is_packed);
    for (int i = 0; i < rows; i++) soften_row(sums, tile, row + i, span, &group, i);
    mix(sums->mixed + row * whole_vectors(tile->dim), &group, span, rows, is_packed);
}

#define ATTEND(rows)                                                                       \
    case rows:                                                                             \
        if (is_packed) attend(sums, tile, row, span, rows, 1);                             \
        else attend(sums, tile, row, span, rows, 0);                                       \
        break;

DISPATCHED static void attend_rows(const Sums *sums, const Tile *tile, int row, const Span *span,
                                   int rows, int is_packed) {
    switch (rows) {
        ATTEND(1) ATTEND(2) ATTEND(4)
#ifdef __AVX512F__
        ATTEND(8)
#endif
    }
}
