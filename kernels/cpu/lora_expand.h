// y += shrunk . B for some columns of a few rows of y, all chunks of B.
//
// Every element is one sum over the rank in order, in float32, and rounded once: the same however
// many rows are worked on together. B is not multiplied in pairs of bfloat16, for which `shrunk`
// would have to be rounded.
#pragma once

#include "lanes.h"

enum { CHUNK_ROWS = 16, COLUMNS = 512, EXPAND_ROWS = 4 };
#ifdef __AVX512F__
enum { EXPAND_TOKENS = 4 };
#else
enum { EXPAND_TOKENS = 2 };
#endif

// B of one slice: `offsets` of its chunks in the arena, already moved to the first column.
typedef struct {
    const scalar *arena;
    const int64_t *offsets;
    int rank;
    int64_t width;
} Expansion;

// sums += shrunk . b for `rows` rows of b, which are read in their order in memory.
INLINE void add_rows(float (*sums)[COLUMNS], float *const *shrunk, const scalar *b, int64_t width,
                     int first, int columns, int rows, int tokens) {
    for (int i = 0; i < columns; i += LANES) {
        vec values[EXPAND_ROWS];
#pragma GCC unroll 4
        for (int row = 0; row < rows; row++) {
            const scalar *from = b + row * width + i;
            scalar padded[LANES] = {0};
            if (columns - i < LANES) from = memcpy(padded, from, (columns - i) * sizeof *from);
            load_vec(&values[row], from);
        }
#pragma GCC unroll 4
        for (int token = 0; token < tokens; token++) {
            vec sum = *(vec *)(sums[token] + i);
#pragma GCC unroll 4
            for (int row = 0; row < rows; row++) sum += shrunk[token][first + row] * values[row];
            *(vec *)(sums[token] + i) = sum;
        }
    }
}

INLINE void expand(scalar *const *y, float *const *shrunk, const Expansion *expansion, int columns,
                   int tokens) {
    float sums[EXPAND_TOKENS][COLUMNS];
    for (int token = 0; token < tokens; token++)
        memset(sums[token], 0, (columns + LANES - 1) / LANES * LANES * sizeof(float));
    for (int begin = 0; begin < expansion->rank; begin += CHUNK_ROWS) {
        int left = expansion->rank - begin, num_rows = left < CHUNK_ROWS ? left : CHUNK_ROWS;
        const scalar *b = expansion->arena + expansion->offsets[begin / CHUNK_ROWS];
        int64_t width = expansion->width;
        int row = 0;
        for (; row + EXPAND_ROWS <= num_rows; row += EXPAND_ROWS)
            add_rows(sums, shrunk, b + row * width, width, begin + row, columns, EXPAND_ROWS,
                     tokens);
        for (; row < num_rows; row++)
            add_rows(sums, shrunk, b + row * width, width, begin + row, columns, 1, tokens);
    }
    for (int token = 0; token < tokens; token++)
        for (int i = 0; i < columns; i++)
            y[token][i] = store(load(y[token][i]) + sums[token][i]);
}

DISPATCHED static void expand_tokens(scalar *const *y, float *const *shrunk,
                                     const Expansion *expansion, int columns) {
    expand(y, shrunk, expansion, columns, EXPAND_TOKENS);
}

DISPATCHED static void expand_token(scalar *const *y, float *const *shrunk,
                                    const Expansion *expansion, int columns) {
    expand(y, shrunk, expansion, columns, 1);
}
