// y = x W^T + bias for a W that was packed once; see PackedLinear in kernels/cpu/linear.py.
//
// Every element of y is one sum over k in order, whatever rows and columns are worked on beside it:
// a row's result does not depend on the batch. oneDNN and MKL promise no such thing.
#include "gemm.h"

enum { PANEL = 32, GROUP = 8 };
// Multiply-adds, below which waking the other threads costs more than they do.
enum { PARALLEL_WORK = 200000 };

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

// One call. A block of x, rows [row, row + n), is copied to packed_x + row * num_steps * STEP as
// [num_steps, n, STEP]: rows a multiple of 4 KB apart would all want the same few lines of the first
// cache.
typedef struct {
    const Linear *linear;
    int64_t num_steps, num_panels, num_blocks;
    scalar *y, *packed_x;
    const scalar *x;
    int64_t x_stride, num_rows;
} Gemm;

typedef struct {
    int64_t row;
    int num_rows;
} Block;

// What is fetched from memory meanwhile: a line with each step.
typedef struct {
    const char *from;
    int64_t stride;
} Ahead;

// Blocks have at most ROWS rows, and about the same number of them.
static Block block_of(const Gemm *gemm, int64_t block) {
    int64_t row = gemm->num_rows * block / gemm->num_blocks;
    return (Block){row, gemm->num_rows * (block + 1) / gemm->num_blocks - row};
}

// Rows of `size` elements as [steps, stride], filled up with zeros: a line of each row at a time,
// as rows a multiple of 4 KB apart would drive each other out of the first cache.
DISPATCHED static void interleave(step *to, int64_t stride, const scalar *from,
                                  int64_t from_stride, int num_rows, int64_t size) {
    enum { LINE = 64 / sizeof(step) };
    int64_t num_whole = size / STEP;
    for (int64_t begin = 0; begin < num_whole; begin += LINE) {
        int64_t end = begin + LINE < num_whole ? begin + LINE : num_whole;
        for (int row = 0; row < num_rows; row++)
            for (int64_t k = begin; k < end; k++)
                memcpy(to + k * stride + row, from + row * from_stride + k * STEP, sizeof *to);
    }
    for (int row = 0; size % STEP && row < num_rows; row++) {
        scalar last[STEP] = {from[row * from_stride + size - 1]};
        memcpy(to + num_whole * stride + row, last, sizeof last);
    }
}

static void pack_block(const Gemm *gemm, Block block) {
    step *packed = (step *)gemm->packed_x + block.row * gemm->num_steps;
    interleave(packed, block.num_rows, gemm->x + block.row * gemm->x_stride, gemm->x_stride,
               block.num_rows, gemm->linear->in_features);
}

INLINE void multiply_step(vec (*sums)[VECS], const scalar *x, const scalar *weights, int rows) {
    steps w[VECS];
#pragma GCC unroll 2
    for (int v = 0; v < VECS; v++) memcpy(&w[v], weights + v * LANES * STEP, sizeof w[v]);
#pragma GCC unroll 12
    for (int row = 0; row < rows; row++) {
        step value;
        memcpy(&value, x + row * STEP, sizeof value);
#pragma GCC unroll 2
        for (int v = 0; v < VECS; v++) multiply_add(&sums[row][v], value, &w[v]);
    }
}

// totals = x W^T for a block of `rows` rows, at most ROWS, and VECS vectors of columns.
INLINE void multiply_block(vec (*totals)[VECS], const scalar *x, const scalar *weights,
                           int64_t num_steps, int rows, Ahead ahead) {
    vec sums[ROWS][VECS] = {0};
    for (int64_t k = 0; k < num_steps; k++) {
        __builtin_prefetch(ahead.from + k * ahead.stride, 0, 2);
        multiply_step(sums, x + k * rows * STEP, weights + k * STEP * PANEL, rows);
    }
#pragma GCC unroll 12
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 2
        for (int v = 0; v < VECS; v++) totals[row][v] = sums[row][v];
}

// y = totals + bias.
INLINE void finish_row(const Gemm *gemm, const vec *totals, int64_t row, int64_t column) {
    const Linear *linear = gemm->linear;
    const float *values = (const float *)totals;
    int64_t left = linear->out_features - column;
    int columns = left < VECS * LANES ? left : VECS * LANES;
    scalar *y = gemm->y + row * linear->out_features + column;
    for (int i = 0; i < columns; i++)
        y[i] = store(values[i] + (linear->bias ? load(linear->bias[column + i]) : 0));
}

#define CASE(rows)                                                                             \
    case rows:                                                                                 \
        multiply_block(totals, x, weights, gemm->num_steps, rows < ROWS ? rows : ROWS, ahead); \
        break;

DISPATCHED static void multiply_columns(const Gemm *gemm, Block block, int64_t column,
                                        Ahead ahead) {
    vec totals[ROWS][VECS];
    const scalar *x = gemm->packed_x + block.row * gemm->num_steps * STEP;
    const scalar *weights =
        gemm->linear->weights + (column / PANEL * gemm->num_steps * PANEL + column % PANEL) * STEP;
    switch (block.num_rows) {
        CASE(1) CASE(2) CASE(3) CASE(4)
#if defined(__AVX2__)
        CASE(5) CASE(6)
#endif
#if defined(__AVX512F__)
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
    }
    for (int i = 0; i < block.num_rows; i++) finish_row(gemm, totals[i], block.row + i, column);
}

static void multiply_panel(const Gemm *gemm, Block block, int64_t panel, Ahead ahead) {
    int64_t end = (panel + 1) * PANEL;
    if (end > gemm->linear->out_features) end = gemm->linear->out_features;
    for (int64_t column = panel * PANEL; column < end; column += VECS * LANES)
        multiply_columns(gemm, block, column, ahead);
}

// Only the first of a group's blocks would wait for a panel, and memory for all others: so each
// fetches its share of the next panel. The processor itself runs ahead of a block that is alone.
static Ahead share_of(const Gemm *gemm, int64_t panel, int64_t index, int64_t num_blocks) {
    const int64_t step_bytes = PANEL * STEP * sizeof(scalar), share = step_bytes / num_blocks;
    const char *weights =
        (const char *)gemm->linear->weights + panel * gemm->num_steps * step_bytes;
    if (num_blocks == 1) return (Ahead){weights, 0};
    return (Ahead){weights + gemm->num_steps * (step_bytes + index * share), share};
}

// A group of blocks stays in a cache while one panel after the other meets it.
static void multiply_group(const Gemm *gemm, int64_t first, int64_t end) {
    int64_t num_blocks = end - first;
#pragma omp for nowait
    for (int64_t panel = 0; panel < gemm->num_panels; panel++)
        for (int64_t i = 0; i < num_blocks; i++)
            multiply_panel(gemm, block_of(gemm, first + i), panel,
                           share_of(gemm, panel, i, num_blocks));
}

static int64_t steps_of(int64_t in_features) { return (in_features + STEP - 1) / STEP; }

void multiply(const Linear *linear, scalar *y, scalar *packed_x, const scalar *x, int64_t x_stride,
              int64_t num_rows) {
    int64_t num_blocks = (num_rows + ROWS - 1) / ROWS, num_groups = (num_blocks + GROUP - 1) / GROUP;
    int64_t num_panels = (linear->out_features + PANEL - 1) / PANEL;
    Gemm call = {linear, steps_of(linear->in_features), num_panels, num_blocks, y,
                 packed_x, x, x_stride, num_rows};
    int64_t work = num_rows * call.num_steps * STEP * num_panels * PANEL;
#pragma omp parallel if (work >= PARALLEL_WORK)
    {
#pragma omp for
        for (int64_t block = 0; block < num_blocks; block++)
            pack_block(&call, block_of(&call, block));
        for (int64_t group = 0; group < num_groups; group++)
            multiply_group(&call, num_blocks * group / num_groups,
                           num_blocks * (group + 1) / num_groups);
    }
}

EXPORT void gemm(const Linear *linear, scalar *y, scalar *packed_x, const scalar *x,
                 int64_t x_stride, int64_t num_rows) {
    multiply(linear, y, packed_x, x, x_stride, num_rows);
}

// Some rows of W, from `first` on, to the panels they belong to; what is packed was all zeros.
EXPORT void gemm_pack(scalar *packed, const scalar *rows, int64_t row_stride, int64_t num_rows,
                      int64_t in_features, int64_t first) {
    int64_t num_steps = steps_of(in_features), end = first + num_rows;
#pragma omp parallel for
    for (int64_t panel = first / PANEL; panel < (end + PANEL - 1) / PANEL; panel++) {
        int64_t begin = panel * PANEL > first ? panel * PANEL : first;
        int64_t stop = (panel + 1) * PANEL < end ? (panel + 1) * PANEL : end;
        step *to = (step *)packed + panel * num_steps * PANEL + begin % PANEL;
        interleave(to, PANEL, rows + (begin - first) * row_stride, row_stride, stop - begin,
                   in_features);
    }
}
