// y += shrunk . b for some columns of y, all rank rows of B and the tokens of a tile.
//
// Every element is one sum over the rank in order, in float32, and rounded once: the same however
// many rows are worked on together. B is not multiplied in pairs of bfloat16, for which `shrunk`
// would have to be rounded.
#pragma once

#include "lanes.h"
#include "lora_work.h"

enum { STRIP = 2 * LANES };
// As many sums as there are registers for; and STREAMED tokens are few, see stream_group.
#ifdef __AVX512F__
enum { EXPAND_TOKENS = 8, STREAMED = 3 };
#else
enum { EXPAND_TOKENS = 2, STREAMED = 1 };
#endif
// Rows of B that are read side by side; floats that the first cache has room for; how far ahead.
enum { GROUP_ROWS = 4, SUMS = 4096, FETCH_COLUMNS = 8 * STRIP };

typedef struct {
    vec half[2];
} Strip;

// The columns of a strip: in bfloat16 those of even number, then the odd; else in their order.
#ifdef LORIKEET_BF16
typedef uint32_t strip_words
    __attribute__((vector_size(LANES * sizeof(uint32_t)), aligned(2), may_alias));

INLINE void load_strip(Strip *strip, const scalar *values) {
    strip_words words = *(const strip_words *)values;
    strip->half[0] = (vec)(words << 16);
    strip->half[1] = (vec)(words & 0xffff0000u);
}

INLINE void store_strip(scalar *values, const Strip *strip) {  // round to nearest even
    strip_words even = (strip_words)strip->half[0], odd = (strip_words)strip->half[1];
    even += 0x7fff + ((even >> 16) & 1);
    odd += 0x7fff + ((odd >> 16) & 1);
    *(strip_words *)values = (even >> 16) | (odd & 0xffff0000u);
}
#else
INLINE void load_strip(Strip *strip, const scalar *values) {
    for (int i = 0; i < 2; i++) strip->half[i] = *(const vec *)(values + i * LANES);
}

INLINE void store_strip(scalar *values, const Strip *strip) {
    for (int i = 0; i < 2; i++) *(vec *)(values + i * LANES) = strip->half[i];
}
#endif

// Columns beyond `count` are zero.
INLINE void load_columns(Strip *strip, const scalar *values, int count) {
    if (count >= STRIP) {
        load_strip(strip, values);
        return;
    }
    scalar padded[STRIP] = {0};
    memcpy(padded, values, count * sizeof *values);
    load_strip(strip, padded);
}

INLINE void add_to_columns(scalar *values, const Strip *sums, int count) {
    Strip strip;
    load_columns(&strip, values, count);
    for (int i = 0; i < 2; i++) strip.half[i] += sums->half[i];
    if (count >= STRIP) {
        store_strip(values, &strip);
        return;
    }
    scalar padded[STRIP];
    store_strip(padded, &strip);
    memcpy(values, padded, count * sizeof *values);
}

// Tokens that are worked on together: their rows of `shrunk`, and of y from the first column on.
typedef struct {
    const float *shrunk[EXPAND_TOKENS];
    scalar *y[EXPAND_TOKENS];
} Block;

// totals += shrunk . b for one strip of some rows of B, of which the first is rank row `first`.
INLINE void add_rows(Strip *totals, const Block *block, int first, const Rows *b, int column,
                     int tokens) {
    for (int row = 0; row < b->rows; row++) {
        Strip values;
        load_columns(&values, b->first + row * b->stride + column, b->columns - column);
#pragma GCC unroll 8
        for (int token = 0; token < tokens; token++)
#pragma GCC unroll 2
            for (int i = 0; i < 2; i++)
                totals[token].half[i] += block->shrunk[token][first + row] * values.half[i];
    }
}

INLINE void add_to_y(const Block *block, const Strip *totals, int column, int count, int tokens) {
#pragma GCC unroll 8
    for (int token = 0; token < tokens; token++)
        add_to_columns(block->y[token] + column, &totals[token], count);
}

// Few tokens wait for memory, which is read best in long runs: a few rows of B side by side, strip
// after strip. The sums rest in the first cache between one group of rows and the next.
INLINE void stream_group(Strip *sums, const Block *block, int first, int is_last, const Rows *b,
                         const Rows *ahead, int tokens) {
    for (int column = 0; column < b->columns; column += STRIP, sums += tokens) {
        fetch(ahead, column, STRIP);
        Strip totals[EXPAND_TOKENS] = {0};
#pragma GCC unroll 8
        for (int token = 0; first && token < tokens; token++) totals[token] = sums[token];
        add_rows(totals, block, first, b, column, tokens);
        if (is_last) {
            add_to_y(block, totals, column, b->columns - column, tokens);
            continue;
        }
#pragma GCC unroll 8
        for (int token = 0; token < tokens; token++) sums[token] = totals[token];
    }
}

// Many tokens are bound by arithmetic: the sums stay in registers for all rows of B.
INLINE void multiply_columns(const Block *block, const Work *work, const Part *part,
                             const Range *columns, int fetches, int tokens) {
    int num_columns = columns->end - columns->begin;
    for (int column = 0; column < num_columns; column += STRIP) {
        Strip totals[EXPAND_TOKENS] = {0};
        for (int row = 0; row < part->rank; row += CHUNK_ROWS) {
            Rows b = rows_of_b(work, part, row, CHUNK_ROWS, columns);
            if (fetches) fetch(&b, column + FETCH_COLUMNS, STRIP);
            add_rows(totals, block, row, &b, column, tokens);
        }
        add_to_y(block, totals, column, num_columns - column, tokens);
    }
}

#define STREAM(tokens)                                                                     \
    case tokens:                                                                           \
        stream_group(sums, block, first, is_last, b, ahead, tokens);                       \
        break;
#define MULTIPLY(tokens)                                                                   \
    case tokens:                                                                           \
        multiply_columns(block, work, part, columns, fetches, tokens);                     \
        break;

DISPATCHED static void stream(Strip *sums, const Block *block, int first, int is_last,
                              const Rows *b, const Rows *ahead, int tokens) {
    switch (tokens) {
        STREAM(1)
#ifdef __AVX512F__
        STREAM(2) STREAM(3)
#endif
    }
}

DISPATCHED static void multiply(const Block *block, const Work *work, const Part *part,
                                const Range *columns, int fetches, int tokens) {
    switch (tokens) {
#ifdef __AVX512F__
        MULTIPLY(4) MULTIPLY(5) MULTIPLY(6) MULTIPLY(7) MULTIPLY(8)
#else
        MULTIPLY(2)
#endif
    }
}

static Block block_of(const Work *work, const Part *part, int token, int tokens, int64_t column) {
    Block block = {0};
    for (int i = 0; i < tokens; i++) {
        block.shrunk[i] = shrunk_row(work, token + i, part);
        scalar *y = work->y + work->plan->rows[token + i] * work->y_stride;
        block.y[i] = y + part->columns.out_start + column;
    }
    return block;
}

// Some columns for few tokens; `after` is what is read then.
static void stream_columns(const Work *work, const Part *part, const Block *block, int tokens,
                           Range columns, const Rows *after) {
    Strip sums[SUMS / STRIP];
    for (int row = 0; row < part->rank; row += GROUP_ROWS) {
        Rows b = rows_of_b(work, part, row, GROUP_ROWS, &columns), ahead = *after;
        int next = row + GROUP_ROWS;
        if (next < part->rank) ahead = rows_of_b(work, part, next, GROUP_ROWS, &columns);
        stream(sums, block, row, next >= part->rank, &b, &ahead, tokens);
    }
}

// What stream_columns does at once of some columns, as many as it has room for sums.
static Range first_pass(Range columns, int tokens) {
    int64_t most = SUMS / tokens / STRIP * STRIP, width = columns.end - columns.begin;
    int64_t num_passes = (width + most - 1) / most;
    int64_t strips = (width + num_passes * STRIP - 1) / (num_passes * STRIP);
    int64_t end = columns.begin + strips * STRIP;
    return (Range){columns.begin, end < columns.end ? end : columns.end};
}

// The rows of B that expand_part reads first of some columns.
static Rows first_of_b(const Work *work, const Part *part, Range columns) {
    Range pass = first_pass(columns, 1);
    return rows_of_b(work, part, 0, part->tile.count > STREAMED ? CHUNK_ROWS : GROUP_ROWS, &pass);
}

static void expand_block(const Work *work, const Part *part, int token, int tokens, Range columns,
                         const Rows *after) {
    Block block = block_of(work, part, token, tokens, columns.begin);
    if (tokens > STREAMED) {
        multiply(&block, work, part, &columns, token == part->tile.start, tokens);
        return;
    }
    while (columns.begin < columns.end) {
        Range pass = first_pass(columns, tokens);
        columns.begin = pass.end;
        int is_last = pass.end == columns.end;
        Rows ahead = is_last ? *after : first_of_b(work, part, columns);
        stream_columns(work, part, &block, tokens, pass, &ahead);
        for (int i = 0; i < tokens; i++) block.y[i] += pass.end - pass.begin;
    }
}

// Some columns of a part, all tokens of its tile in blocks of about equal size; `after` is what is
// read then.
static void expand_part(const Work *work, const Part *part, Range columns, Rows after) {
    Tile tile = part->tile;
    int num_blocks = (tile.count + EXPAND_TOKENS - 1) / EXPAND_TOKENS;
    for (int block = 0; block < num_blocks; block++) {
        int begin = tile.count * block / num_blocks, end = tile.count * (block + 1) / num_blocks;
        expand_block(work, part, tile.start + begin, end - begin, columns, &after);
    }
}
