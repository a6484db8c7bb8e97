// A span of keys and values, packed so that what meets a step of a row lies side by side.
//
// A step is what one multiply-add takes from a row: a float, or a pair of bfloat16 where the
// processor multiplies such. Packed keys are [dim / STEP, SPAN] steps, packed values
// [SPAN / STEP, columns] steps, columns being dim in whole vectors.
#pragma once

#include "kv_cache.h"
#include "lanes.h"

enum { SPAN = 64, PIECE = 16 };  // positions; a piece never straddles two pages

#if defined(LORIKEET_BF16) && defined(__AVX512BF16__)
enum { STEP = 2 };
typedef uint16_t operand;

INLINE void multiply_add(wide *sum, const operand *step, const wide *steps) {
    int32_t pair;
    memcpy(&pair, step, sizeof pair);
    *sum = (wide)_mm512_dpbf16_ps((__m512)*sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)*steps);
}

INLINE operand to_operand(scalar x) { return x; }
INLINE void to_operands(operand *to, wide x) { store_wide(to, x); }

INLINE void pack_vector(operand *to, const scalar *first, const scalar *second) {
    *(words *)to = load_words(first) | load_words(second) << 16;
}

INLINE void pack_step(operand *to, const scalar *first, const scalar *second, int i) {
    to[2 * i] = first[i];
    to[2 * i + 1] = second[i];
}
#else
enum { STEP = 1 };
typedef float operand;

INLINE void multiply_add(wide *sum, const operand *step, const wide *steps) {
    *sum += *step * *steps;
}

INLINE operand to_operand(scalar x) { return load(x); }
INLINE void to_operands(operand *to, wide x) { *(wide *)to = x; }

INLINE void pack_vector(operand *to, const scalar *first, const scalar *second) {
    (void)second;
    *(wide *)to = load_wide(first);
}

INLINE void pack_step(operand *to, const scalar *first, const scalar *second, int i) {
    (void)second;
    to[i] = load(first[i]);
}
#endif

// Keys and values of the next span, to be asked for a piece at a time while this one is worked on: the
// memory has time, and no burst of requests holds up the loads between them.
typedef struct {
    const char *at[2 * SPAN / PIECE];
    int stride[2 * SPAN / PIECE], count[2 * SPAN / PIECE];  // bytes from line to line; lines
    int next, end;
} Ahead;

// What tiles see of a span: the positions begin + [first, end). The values of others are zeros.
typedef struct {
    int begin, first, end;
    Ahead *ahead;
    operand keys[MAX_HEAD_DIM * SPAN], values[MAX_HEAD_DIM * SPAN];
} Span;

static const scalar zeros[MAX_HEAD_DIM];

INLINE int whole_vectors(int count) { return (count + WIDTH - 1) / WIDTH * WIDTH; }

// The keys of one piece, [dim, block_tokens] where they come from.
DISPATCHED static void pack_keys(operand *to, const scalar *keys, int dim, int block_tokens) {
    for (int d = 0; d < dim; d += STEP) {
        const scalar *first = keys + d * block_tokens;
        const scalar *second = d + 1 < dim ? first + block_tokens : zeros;
        for (int i = 0; i < PIECE; i += WIDTH)
            pack_vector(to + (d * SPAN / STEP + i) * STEP, first + i, second + i);
    }
}

// Of the values of one piece, [PIECE, dim], those of [first, end).
DISPATCHED static void pack_values(operand *to, const scalar *values, int dim, int first, int end) {
    int columns = whole_vectors(dim), i;
    for (int token = 0; token < PIECE; token += STEP, to += columns * STEP) {
        const scalar *rows[2];
        for (int part = 0; part < 2; part++) {
            int is_seen = token + part >= first && token + part < end;
            rows[part] = is_seen ? values + (token + part) * dim : zeros;
        }
        for (i = 0; i + WIDTH <= dim; i += WIDTH)
            pack_vector(to + i * STEP, rows[0] + i, rows[1] + i);
        for (; i < dim; i++) pack_step(to, rows[0], rows[1], i);
        for (; i < columns; i++) pack_step(to, zeros, zeros, i);
    }
}

static void pack_span(Span *span, const Cache *cache, int sequence, int kv) {
    int dim = cache->head_dim, columns = whole_vectors(dim);
    for (int at = span->first / PIECE * PIECE; at < span->end; at += PIECE) {
        int position = span->begin + at, slot = position % cache->block_tokens;
        pack_keys(span->keys + at * STEP, kv_head(cache, sequence, position, KEYS, kv) + slot, dim,
                  cache->block_tokens);
        pack_values(span->values + at * columns,
                    kv_head(cache, sequence, position, VALUES, kv) + slot * dim, dim,
                    span->first - at, span->end - at);
    }
}

enum { LINE = 64 };  // bytes that memory gives at once

static void add_ahead(Ahead *ahead, const scalar *at, int stride, int count) {
    ahead->at[ahead->end] = (const char *)at;
    ahead->stride[ahead->end] = stride;
    ahead->count[ahead->end++] = count;
}

// The keys and values at the positions [first, end), which are in one span, are next.
static void plan_ahead(Ahead *ahead, const Cache *cache, int sequence, int kv, int first, int end) {
    int dim = cache->head_dim, block_tokens = cache->block_tokens;
    int num_lines = (PIECE * dim * (int)sizeof(scalar) + LINE - 1) / LINE;
    for (int position = first / PIECE * PIECE; position < end; position += PIECE) {
        int slot = position % block_tokens;
        const scalar *keys = kv_head(cache, sequence, position, KEYS, kv) + slot;
        if (block_tokens == PIECE) add_ahead(ahead, keys, LINE, num_lines);
        else add_ahead(ahead, keys, block_tokens * (int)sizeof(scalar), dim);
        add_ahead(ahead, kv_head(cache, sequence, position, VALUES, kv) + slot * dim, LINE, num_lines);
    }
}

INLINE void fetch_ahead(Ahead *ahead) {
    if (ahead->next == ahead->end) return;
    int i = ahead->next++;
    for (int line = 0; line < ahead->count[i]; line++)
        __builtin_prefetch(ahead->at[i] + line * ahead->stride[i], 0, 2);
}
