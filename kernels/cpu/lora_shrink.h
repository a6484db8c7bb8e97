// shrunk = x . a for the rank rows of one chunk of A and a few rows of x.
//
// Every element is one sum over the same lanes in the same order, however many rows are worked on
// together: what a token gets does not depend on the tokens beside it.
#pragma once

#include "lanes.h"

// As many sums as there are registers for, beside what is multiplied.
#ifdef __AVX512F__
enum { DOT_ROWS = 4, DOT_TOKENS = 4 };
#else
enum { DOT_ROWS = 2, DOT_TOKENS = 2 };
#endif

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
                 int first, int rows, int tokens) {
    vec sums[DOT_ROWS][DOT_TOKENS] = {0};
    const scalar *chunk = a + first * width;
    int64_t i = 0;
    for (; i + OPERAND_WIDTH <= width; i += OPERAND_WIDTH)
        add_dots(sums, x, chunk, width, i, 0, rows, tokens);
    if (i < width) add_dots(sums, x, chunk, width, i, width - i, rows, tokens);
#pragma GCC unroll 4
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 4
        for (int token = 0; token < tokens; token++)
            shrunk[token][first + row] = sum_lanes(sums[row][token]);
}

// All `num_rows` rank rows of a chunk with DOT_TOKENS rows of x.
DISPATCHED static void shrink_tokens(float *const *shrunk, const scalar *const *x,
                                     const scalar *a, int num_rows, int64_t width) {
    int row = 0;
    for (; row + DOT_ROWS <= num_rows; row += DOT_ROWS)
        dots(shrunk, x, a, width, row, DOT_ROWS, DOT_TOKENS);
    for (; row < num_rows; row++) dots(shrunk, x, a, width, row, 1, DOT_TOKENS);
}

// The same with one row of x.
DISPATCHED static void shrink_token(float *const *shrunk, const scalar *const *x, const scalar *a,
                                    int num_rows, int64_t width) {
    int row = 0;
    for (; row + DOT_ROWS <= num_rows; row += DOT_ROWS)
        dots(shrunk, x, a, width, row, DOT_ROWS, 1);
    for (; row < num_rows; row++) dots(shrunk, x, a, width, row, 1, 1);
}
