// What a few query rows make of a span of keys and values.
//
// Every row does the same arithmetic in the same order whatever rows are beside it, and whatever of
// the span is there that it does not see.
#pragma once

#include "attention_span.h"

enum { TILE_ROWS = 128, ROWS = 4, MARGIN = 8 };

// Vectors of the sums of ROWS rows: what the registers hold beside what is multiplied.
#ifdef __AVX512F__
enum { VECTORS = 4 };
#else
enum { VECTORS = 2 };
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
    operand queries[TILE_ROWS * MAX_HEAD_DIM];  // [rows, dim in whole steps]
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

// totals[row] += the steps of x[row] times the vectors of y, step after step.
INLINE void multiply(wide (*totals)[VECTORS], const operand *x, int x_stride, const operand *y,
                     int y_stride, int num_steps, int rows, int vectors) {
    wide sums[ROWS][VECTORS];
    memcpy(sums, totals, sizeof sums);
    for (int i = 0; i < num_steps; i++) {
        wide columns[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            columns[v] = *(const wide *)(y + (i * y_stride + v * WIDTH) * STEP);
#pragma GCC unroll 4
        for (int row = 0; row < rows; row++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                multiply_add(&sums[row][v], x + row * x_stride + i * STEP, &columns[v]);
    }
    memcpy(totals, sums, sizeof sums);
}

// scores[row][lane] = query . key for some vectors of lanes.
INLINE void score_lanes(Group *group, const operand *queries, const operand *keys, int num_steps,
                        int lane, int rows, int vectors) {
    wide totals[ROWS][VECTORS] = {0};
    multiply(totals, queries, num_steps * STEP, keys + lane * STEP, SPAN, num_steps, rows, vectors);
#pragma GCC unroll 4
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            *(wide *)(group->scores[row] + lane + v * WIDTH) = totals[row][v];
}

INLINE void score(Group *group, const operand *queries, const Span *span, int num_steps, int rows) {
    int lane = group->first;
    for (; lane + VECTORS * WIDTH <= group->end_vector; lane += VECTORS * WIDTH)
        score_lanes(group, queries, span->keys, num_steps, lane, rows, VECTORS);
    for (; lane < group->end_vector; lane += WIDTH)
        score_lanes(group, queries, span->keys, num_steps, lane, rows, 1);
}

// mixed = rescale * mixed + weights . values for some vectors of columns.
INLINE void mix_columns(float *mixed, const Group *group, const operand *values, int columns,
                        int rows, int vectors) {
    int first = group->first / STEP, end = (group->end + STEP - 1) / STEP;
    wide totals[ROWS][VECTORS];
#pragma GCC unroll 4
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            totals[row][v] = group->rescale[row] * *(wide *)(mixed + row * columns + v * WIDTH);
    multiply(totals, group->weights[0] + first * STEP, SPAN, values + first * columns * STEP,
             columns, end - first, rows, vectors);
#pragma GCC unroll 4
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            *(wide *)(mixed + row * columns + v * WIDTH) = totals[row][v];
}

INLINE void mix(float *mixed, const Group *group, const Span *span, int columns, int rows) {
    int d = 0;
    for (; d + VECTORS * WIDTH <= columns; d += VECTORS * WIDTH)
        mix_columns(mixed + d, group, span->values + d * STEP, columns, rows, VECTORS);
    for (; d < columns; d += WIDTH)
        mix_columns(mixed + d, group, span->values + d * STEP, columns, rows, 1);
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

// Adds a span of keys to the sums of some rows.
INLINE void attend(const Sums *sums, const Tile *tile, int row, const Span *span, int rows) {
    int num_steps = (tile->dim + STEP - 1) / STEP, columns = whole_vectors(tile->dim);
    int end = end_lane(tile, row + rows - 1, span);
    Group group;
    group.first = first_lane(tile, row, span) / WIDTH * WIDTH;
    group.end = end;
    group.end_vector = whole_vectors(end);
    fetch_ahead(span->ahead);
    score(&group, tile->queries + row * num_steps * STEP, span, num_steps, rows);
    fetch_ahead(span->ahead);
    for (int i = 0; i < rows; i++) {
        int from = first_lane(tile, row + i, span), to = end_lane(tile, row + i, span);
        if (from == 0 && to == SPAN) soften(sums, row + i, tile->scale, &group, i, 0, SPAN, 0, 0, 0);
        else
            soften(sums, row + i, tile->scale, &group, i, group.first, group.end_vector, from, to, 1);
    }
    fetch_ahead(span->ahead);
    mix(sums->mixed + row * columns, &group, span, columns, rows);
    fetch_ahead(span->ahead);
}

DISPATCHED static void attend_rows(const Sums *sums, const Tile *tile, int row, const Span *span) {
    attend(sums, tile, row, span, ROWS);
}

DISPATCHED static void attend_row(const Sums *sums, const Tile *tile, int row, const Span *span) {
    attend(sums, tile, row, span, 1);
}
