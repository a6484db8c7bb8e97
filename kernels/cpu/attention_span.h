// A span of keys and values, in vectors of what meets a step of a row.
//
// A step is what one multiply-add takes from a row: a float, or a pair of bfloat16 where the
// processor multiplies such. Vectors are joined from keys and values where they lie, or, if there are
// many rows, packed once: keys as [dim / STEP, SPAN] steps, values as [SPAN / STEP, columns] steps,
// columns being dim in whole vectors.
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

INLINE wide join_rows(const scalar *first, const scalar *second) {
    static const uint16_t in_turns[2 * WIDTH] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                 21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i both = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)first));
    both = _mm512_inserti64x4(both, _mm256_loadu_si256((const __m256i *)second), 1);
    return (wide)_mm512_permutexvar_epi16(_mm512_loadu_si512(in_turns), both);
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

INLINE wide join_rows(const scalar *first, const scalar *second) {
    (void)second;
    return load_wide(first);
}

INLINE void pack_step(operand *to, const scalar *first, const scalar *second, int i) {
    (void)second;
    to[i] = load(first[i]);
}
#endif

static const scalar zeros[MAX_HEAD_DIM];

INLINE int whole_vectors(int count) { return (count + WIDTH - 1) / WIDTH * WIDTH; }

// Where the pieces of a span lie: keys [dim, block_tokens] from a slot on, values [PIECE, dim].
typedef struct {
    const scalar *keys[SPAN / PIECE], *values[SPAN / PIECE];
} Pieces;

// What tiles see of a span: the positions begin + [first, end). Where it is read, the same place of
// the span that is `next` is asked for: so memory has time, and is not asked for much at once.
typedef struct {
    int begin, first, end, dim, block_tokens;
    Pieces here, next;
    scalar cut[2][PIECE * MAX_HEAD_DIM];  // the values of pieces that are seen in part
    operand keys[MAX_HEAD_DIM * SPAN], values[MAX_HEAD_DIM * SPAN];  // if packed
} Span;

// Finds what holds the positions [first, end), which are in one span.
static void find_pieces(Pieces *pieces, const Cache *cache, int sequence, int kv, int first, int end) {
    int64_t values = (int64_t)cache->num_kv_heads * cache->block_tokens * cache->head_dim;
    for (int position = first / PIECE * PIECE; position < end; position += PIECE) {
        int piece = position % SPAN / PIECE, slot = position % cache->block_tokens;
        const scalar *keys = kv_head(cache, sequence, position, KEYS, kv);
        pieces->keys[piece] = keys + slot;
        pieces->values[piece] = keys + values + slot * cache->head_dim;
    }
}

// Puts zeros where values are not seen: what lies there need not be numbers.
static void cut_values(Span *span) {
    int dim = span->dim, num_cut = 0;
    for (int begin = span->first / PIECE * PIECE; begin < span->end; begin += PIECE) {
        int first = span->first > begin ? span->first - begin : 0;
        int end = span->end < begin + PIECE ? span->end - begin : PIECE;
        if (end - first == PIECE) continue;
        const scalar **values = &span->here.values[begin / PIECE];
        scalar *cut = span->cut[num_cut++];
        memset(cut, 0, PIECE * dim * sizeof(scalar));
        memcpy(cut + first * dim, *values + first * dim, (end - first) * dim * sizeof(scalar));
        *values = cut;
    }
}

// A place in a span, and the same in the next.
typedef struct {
    const scalar *here, *next;
} Place;

INLINE Place keys_at(const Span *span, int lane) {
    int piece = lane / PIECE, slot = lane % PIECE;
    return (Place){span->here.keys[piece] + slot, span->next.keys[piece] + slot};
}

INLINE Place values_at(const Span *span, int lane, int column) {
    int piece = lane / PIECE, at = lane % PIECE * span->dim + column;
    return (Place){span->here.values[piece] + at, span->next.values[piece] + at};
}

// WIDTH steps: elements that lie side by side, in pairs with those that lie `apart`.
INLINE wide join(Place place, int64_t at, int64_t apart) {
    __builtin_prefetch(place.next + at, 0, 2);
    if (STEP > 1) __builtin_prefetch(place.next + at + apart, 0, 2);
    return join_rows(place.here + at, place.here + at + apart);
}

// The dimension after the last one is any: it meets a zero.
INLINE wide join_keys(const Span *span, Place keys, int d) {
    return join(keys, (int64_t)d * span->block_tokens, d + 1 < span->dim ? span->block_tokens : 0);
}

DISPATCHED static void pack_keys(Span *span) {
    for (int lane = span->first / WIDTH * WIDTH; lane < span->end; lane += WIDTH) {
        Place keys = keys_at(span, lane);
        for (int d = 0; d < span->dim; d += STEP)
            *(wide *)(span->keys + d * SPAN + lane * STEP) = join_keys(span, keys, d);
    }
}

DISPATCHED static void pack_values(Span *span) {
    int dim = span->dim, columns = whole_vectors(dim), i;
    for (int lane = span->first / PIECE * PIECE; lane < span->end; lane += STEP) {
        Place row = values_at(span, lane, 0);
        operand *to = span->values + lane * columns;
        for (i = 0; i + WIDTH <= dim; i += WIDTH) *(wide *)(to + i * STEP) = join(row, i, dim);
        for (; i < dim; i++) pack_step(to, row.here, row.here + dim, i);
        for (; i < columns; i++) pack_step(to, zeros, zeros, i);
    }
}
