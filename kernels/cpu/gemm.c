// y = x W^T + bias for a W that was packed once; see PackedLinear in kernels/cpu/linear.py.
//
// Every element of y is one sum over k in order, whatever rows and columns are worked on beside it:
// a row's result does not depend on the batch. oneDNN and MKL promise no such thing.
#include "common.h"

enum { PANEL = 32, GROUP_ROWS = 96 };

// The sums of ROWS rows and VECS vectors of columns are what fits in the registers.
#if defined(__AVX512F__)
enum { ROWS = 12, VECS = 2 };
#elif defined(__AVX2__)
enum { ROWS = 6, VECS = 1 };
#else
enum { ROWS = 4, VECS = 1 };
#endif

// A step is what one multiply-add takes from a row of x: one float, or a pair of bfloat16.
#ifdef LORIKEET_BF16
#include "bf16_pairs.h"
#else
enum { STEP = 1 };
typedef float step;
typedef vec steps;

INLINE void multiply_add(vec *sum, step x, const steps *w) { *sum += x * *w; }
#endif

// One call; `weights` is [out / PANEL, in / STEP, PANEL, STEP], padded with zeros.
typedef struct {
    const scalar *weights, *bias;
    int64_t in_features, out_features;
    scalar *y;
    const scalar *x;
    int64_t x_stride, num_rows;
} Gemm;

INLINE step load_step(const scalar *x, int num_valid) {
    step value;
    scalar valid[STEP] = {0};
    memcpy(valid, x, num_valid * sizeof *x);
    memcpy(&value, valid, sizeof value);
    return value;
}

INLINE void multiply_step(vec (*sums)[VECS], const Gemm *gemm, const scalar *x,
                          const scalar *weights, int num_valid, int rows) {
    steps w[VECS];
    memcpy(w, weights, sizeof w);
#pragma GCC unroll 12
    for (int row = 0; row < rows; row++) {
        step value = load_step(x + row * gemm->x_stride, num_valid);
#pragma GCC unroll 2
        for (int v = 0; v < VECS; v++) multiply_add(&sums[row][v], value, &w[v]);
    }
}

// totals = x W^T for some rows, at most ROWS, and VECS vectors of columns.
INLINE void multiply_block(vec (*totals)[VECS], const Gemm *gemm, const scalar *x,
                           const scalar *weights, int rows) {
    vec sums[ROWS][VECS] = {0};
    int64_t whole = gemm->in_features / STEP;
    int rest = gemm->in_features % STEP;
    for (int64_t k = 0; k < whole; k++)
        multiply_step(sums, gemm, x + k * STEP, weights + k * STEP * PANEL, STEP, rows);
    if (rest)
        multiply_step(sums, gemm, x + whole * STEP, weights + whole * STEP * PANEL, rest, rows);
#pragma GCC unroll 12
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 2
        for (int v = 0; v < VECS; v++) totals[row][v] = sums[row][v];
}

// y = totals + bias.
INLINE void finish_row(const Gemm *gemm, const vec *totals, int64_t row, int64_t column) {
    const float *values = (const float *)totals;
    int64_t left = gemm->out_features - column;
    int columns = left < VECS * LANES ? left : VECS * LANES;
    scalar *y = gemm->y + row * gemm->out_features + column;
    for (int i = 0; i < columns; i++)
        y[i] = store(values[i] + (gemm->bias ? load(gemm->bias[column + i]) : 0));
}

#define BLOCK(rows)                                                                      \
    case rows:                                                                           \
        multiply_block(totals, gemm, x, weights, rows < ROWS ? rows : ROWS);             \
        break;

DISPATCHED static void multiply_rows(const Gemm *gemm, int64_t row, int64_t column, int rows) {
    vec totals[ROWS][VECS];
    int64_t num_steps = (gemm->in_features + STEP - 1) / STEP;
    const scalar *x = gemm->x + row * gemm->x_stride;
    const scalar *weights = gemm->weights + (column / PANEL * num_steps * PANEL + column % PANEL) * STEP;
    switch (rows) {
        BLOCK(1) BLOCK(2) BLOCK(3) BLOCK(4)
#if defined(__AVX2__)
        BLOCK(5) BLOCK(6)
#endif
#if defined(__AVX512F__)
        BLOCK(7) BLOCK(8) BLOCK(9) BLOCK(10) BLOCK(11) BLOCK(12)
#endif
    }
    for (int i = 0; i < rows; i++) finish_row(gemm, totals[i], row + i, column);
}

// A group of rows, which stays in the cache with the panel, in blocks of about the same size.
static void multiply_panel(const Gemm *gemm, int64_t begin, int64_t panel) {
    int64_t left = gemm->num_rows - begin;
    int num_rows = left < GROUP_ROWS ? left : GROUP_ROWS;
    int64_t end_column = (panel + 1) * PANEL;
    int64_t last = end_column < gemm->out_features ? end_column : gemm->out_features;
    int num_blocks = (num_rows + ROWS - 1) / ROWS;
    for (int block = 0; block < num_blocks; block++) {
        int row = num_rows * block / num_blocks, end = num_rows * (block + 1) / num_blocks;
        for (int64_t column = panel * PANEL; column < last; column += VECS * LANES)
            multiply_rows(gemm, begin + row, column, end - row);
    }
}

EXPORT void gemm(const scalar *weights, const scalar *bias, int64_t in_features,
                 int64_t out_features, scalar *y, const scalar *x, int64_t x_stride,
                 int64_t num_rows, int32_t in_parallel) {
    Gemm call = {weights, bias, in_features, out_features, y, x, x_stride, num_rows};
    int64_t num_panels = (out_features + PANEL - 1) / PANEL;
#pragma omp parallel for collapse(2) if (in_parallel)
    for (int64_t begin = 0; begin < num_rows; begin += GROUP_ROWS)
        for (int64_t panel = 0; panel < num_panels; panel++) multiply_panel(&call, begin, panel);
}
