// shrunk = x . a for a few rank rows of A and the tokens of a tile.
//
// Every element is one sum over the same lanes in the same order, however many rows are worked on
// together: what a token gets does not depend on the tokens beside it.
#pragma once

#include "lanes.h"
#include "lora_work.h"

// As many sums as there are registers for, beside what is multiplied.
#ifdef __AVX512F__
enum { DOT_ROWS = 4, DOT_TOKENS = 4 };
#else
enum { DOT_ROWS = 2, DOT_TOKENS = 2 };
#endif
// Few tokens wait for memory: it is read faster where fewer rows lie side by side.
enum { FEW_TOKENS = 2, FEW_ROWS = 2 };

#if defined(LORIKEET_BF16) && defined(__AVX512BF16__)
#include <immintrin.h>

enum { OPERAND_WIDTH = 2 * LANES };
typedef __m512bh operand;

INLINE void load_operand(operand *result, const scalar *values) {
    *result = (__m512bh)_mm512_loadu_si512(values);
}

INLINE void multiply_add(vec *sum, const operand *a, const operand *b) {
    *sum = (vec)_mm512_dpbf16_ps((__m512)*sum, *a, *b);
}
#else
enum { OPERAND_WIDTH = LANES };
typedef vec operand;

INLINE void load_operand(operand *result, const scalar *values) { load_vec(result, values); }
INLINE void multiply_add(vec *sum, const operand *a, const operand *b) { *sum += *a * *b; }
#endif

INLINE void load_rest(operand *result, const scalar *values, int count) {
    scalar padded[OPERAND_WIDTH] = {0};
    memcpy(padded, values, count * sizeof *values);
    load_operand(result, padded);
}

// The sums of `rows` rank rows with `tokens` rows of x over OPERAND_WIDTH elements, or `count`.
INLINE void add_dots(vec (*sums)[DOT_TOKENS], const scalar *const *x, const scalar *a,
                     int64_t width, int64_t begin, int count, int rows, int tokens) {
    operand values[DOT_TOKENS];
#pragma GCC unroll 4
    for (int token = 0; token < tokens; token++)
        if (count)
            load_rest(&values[token], x[token] + begin, count);
        else
            load_operand(&values[token], x[token] + begin);
#pragma GCC unroll 4
    for (int row = 0; row < rows; row++) {
        operand weights;
        if (count)
            load_rest(&weights, a + row * width + begin, count);
        else
            load_operand(&weights, a + row * width + begin);
#pragma GCC unroll 4
        for (int token = 0; token < tokens; token++)
            multiply_add(&sums[row][token], &weights, &values[token]);
    }
}

INLINE void dots(float *const *shrunk, const scalar *const *x, const scalar *a, int64_t width,
                 const Rows *ahead, int rows, int tokens) {
    vec sums[DOT_ROWS][DOT_TOKENS] = {0};
    int64_t i = 0;
    for (; i + OPERAND_WIDTH <= width; i += OPERAND_WIDTH) {
        fetch(ahead, i, OPERAND_WIDTH);
        add_dots(sums, x, a, width, i, 0, rows, tokens);
    }
    if (i < width) add_dots(sums, x, a, width, i, width - i, rows, tokens);
#pragma GCC unroll 4
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 4
        for (int token = 0; token < tokens; token++)
            shrunk[token][row] = sum_lanes(sums[row][token]);
}

static int most_rows(int tokens) { return tokens <= FEW_TOKENS ? FEW_ROWS : DOT_ROWS; }

// A row of A is worked on alone where a group of rank rows is not whole.
#define DOTS(tokens, most)                                                                 \
    case tokens:                                                                           \
        if (rows == most)                                                                  \
            dots(shrunk, x, a, width, ahead, most, tokens);                                \
        else                                                                               \
            dots(shrunk, x, a, width, ahead, 1, tokens);                                   \
        break;

DISPATCHED static void multiply_rows(float *const *shrunk, const scalar *const *x,
                                     const scalar *a, int64_t width, const Rows *ahead,
                                     int rows, int tokens) {
    switch (tokens) {
        DOTS(1, FEW_ROWS) DOTS(2, FEW_ROWS)
#ifdef __AVX512F__
        DOTS(3, DOT_ROWS) DOTS(4, DOT_ROWS)
#endif
    }
}

// What is fetched while some rows of a group are worked on: those in their place of the next one.
static Rows beside(const Rows *ahead, int first, int rows, int is_last) {
    int left = ahead->rows > first ? ahead->rows - first : 0;
    return (Rows){ahead->first + first * ahead->stride, ahead->stride,
                  is_last || left < rows ? left : rows, ahead->columns};
}

// One group of rank rows for all tokens of a tile; `ahead` is fetched meanwhile.
static void shrink_group(const Work *work, const Part *part, int row, Rows ahead) {
    const Plan *plan = work->plan;
    Rows group = rows_of_a(work, part, row, DOT_ROWS);
    int end = part->tile.start + part->tile.count;
    for (int token = part->tile.start; token < end; token += DOT_TOKENS, ahead.rows = 0) {
        int tokens = end - token < DOT_TOKENS ? end - token : DOT_TOKENS;
        int rows = group.rows == DOT_ROWS ? most_rows(tokens) : 1;
        float *shrunk[DOT_TOKENS];
        const scalar *x[DOT_TOKENS];
        for (int i = 0; i < tokens; i++) x[i] = work->x + plan->rows[token + i] * work->x_stride;
        for (int first = 0; first < group.rows; first += rows) {
            Rows next = beside(&ahead, first, rows, first + rows >= group.rows);
            for (int i = 0; i < tokens; i++)
                shrunk[i] = shrunk_row(work, token + i, part) + row + first;
            multiply_rows(shrunk, x, group.first + first * group.stride, group.stride, &next, rows,
                          tokens);
        }
    }
}

// Some groups of a part; `after` is what is read then.
static void shrink_part(const Work *work, const Part *part, Range groups, Rows after) {
    for (int64_t group = groups.begin; group < groups.end; group++) {
        int row = group * DOT_ROWS, next = row + DOT_ROWS;
        shrink_group(work, part, row,
                     group + 1 < groups.end ? rows_of_a(work, part, next, DOT_ROWS) : after);
    }
}
