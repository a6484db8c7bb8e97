// Arithmetic on as many lanes at once as a register has, beside the compiler's own + - * /.
#pragma once

#include "common.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

// Vectors wider than a register would live in memory.
#if defined(__AVX512F__)
enum { WIDTH = 16 };
#elif defined(__AVX2__)
enum { WIDTH = 8 };
#else
enum { WIDTH = 4 };
#endif
typedef float wide __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4)));
typedef int32_t ints __attribute__((vector_size(WIDTH * sizeof(int32_t)), aligned(4)));

#ifdef LORIKEET_BF16
typedef uint16_t halves __attribute__((vector_size(WIDTH * sizeof(uint16_t)), aligned(2)));
typedef uint32_t words __attribute__((vector_size(WIDTH * sizeof(uint32_t)), aligned(4)));

INLINE words load_words(const scalar *values) {
#ifdef __AVX512F__  // one instruction, where GCC makes six of the conversion
    return (words)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)values));
#else
    return __builtin_convertvector(*(const halves *)values, words);
#endif
}

INLINE wide load_wide(const scalar *values) { return (wide)(load_words(values) << 16); }

INLINE void store_wide(scalar *values, wide x) {  // round to nearest even
#ifdef __AVX512BF16__
    __m256bh rounded = _mm512_cvtneps_pbh((__m512)x);
    memcpy(values, &rounded, sizeof rounded);
#else
    words bits = (words)x;
    *(halves *)values = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, halves);
#endif
}
#else
INLINE wide load_wide(const scalar *values) { return *(const wide *)values; }
INLINE void store_wide(scalar *values, wide x) { *(wide *)values = x; }
#endif

// What storing and loading makes of them.
INLINE wide rounded(wide x) {
    scalar values[WIDTH];
    store_wide(values, x);
    return load_wide(values);
}

// The same for the first `count` values, if there are not WIDTH; zeros beside them.
INLINE wide load_first(const scalar *values, int count) {
    if (count >= WIDTH) return load_wide(values);
    scalar padded[WIDTH] = {0};
    memcpy(padded, values, count * sizeof(scalar));
    return load_wide(padded);
}

INLINE void store_first(scalar *values, wide x, int count) {
    if (count >= WIDTH) {
        store_wide(values, x);
        return;
    }
    scalar padded[WIDTH];
    store_wide(padded, x);
    memcpy(values, padded, count * sizeof(scalar));
}

// No comparison and no conditional: GCC takes those of wide vectors apart, lane by lane.
INLINE wide pick(ints mask, wide yes, wide no) {
    return (wide)((mask & (ints)yes) | (~mask & (ints)no));
}

// Of a NaN and a number, either.
INLINE wide larger(wide a, wide b) {
#ifdef __AVX512F__
    return (wide)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return pick((ints)(a - b) >> 31, b, a);
#endif
}

INLINE wide all_wide(float x) { return (wide){0} + x; }

// All bits of the lanes [first, end).
INLINE ints lanes_between(int first, int end) {
    static const int32_t bits[32] = {
        -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
    return *(const ints *)(bits + 16 - end) & ~*(const ints *)(bits + 16 - first);
}

// The same of the lanes of the vector that begins at `lane`, where [first, end) may lie elsewhere.
INLINE ints lanes_seen(int lane, int first, int end) {
    first = first < lane ? 0 : first - lane < WIDTH ? first - lane : WIDTH;
    end = end < lane ? 0 : end - lane < WIDTH ? end - lane : WIDTH;
    return lanes_between(first, end);
}

// Lanes change places with those 8, 4, 2 or 1 further.
#define SWAP_8(x) \
    __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#define SWAP_4(x) \
    __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#define SWAP_2(x) \
    __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define SWAP_1(x) \
    __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)

INLINE float sum_lanes(vec x) {
    x += SWAP_8(x);
    x += SWAP_4(x);
    x += SWAP_2(x);
    x += SWAP_1(x);
    return x[0];
}

#if defined(__AVX512F__)
INLINE float sum_wide(wide x) { return sum_lanes(x); }

INLINE float max_wide(wide x) {
    x = larger(x, SWAP_8(x));
    x = larger(x, SWAP_4(x));
    x = larger(x, SWAP_2(x));
    x = larger(x, SWAP_1(x));
    return x[0];
}
#else
INLINE float sum_wide(wide x) {
    float sum = x[0];
    for (int lane = 1; lane < WIDTH; lane++) sum += x[lane];
    return sum;
}

INLINE float max_wide(wide x) {
    float max = x[0];
    for (int lane = 1; lane < WIDTH; lane++) max = x[lane] > max ? x[lane] : max;
    return max;
}
#endif

INLINE int any_above(wide x, float bound) {
#ifdef __AVX512F__
    return _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(bound), _CMP_GT_OQ) != 0;
#else
    return max_wide(x) > bound;
#endif
}

// 2^x to a few ulp, for x up to 127. Adding `shift` leaves the nearest whole number in the lowest
// bits, with the offset of an exponent: the compiler must not reorder these sums.
INLINE wide exp2_wide(wide x) {
    const float shift = 0x1.8p23f + 127;
    x = larger(x, all_wide(-125.0f));
    wide shifted = x + shift, r = x - (shifted - shift);
    wide p = r * 1.3264726904e-3f + 9.6715126613e-3f;
    p = p * r + 5.5507337442e-2f;
    p = p * r + 2.4022242085e-1f;
    p = p * r + 6.9314697760e-1f;
    p = p * r + 1.0f;
    return p * (wide)((ints)shifted << 23);
}

// 1 / (1 + exp(-x)), without overflow on either side; NaN for what is not finite.
INLINE wide logistic(wide x) {
    ints negative = (ints)x >> 31;
    wide decay = exp2_wide((wide)((ints)x | INT32_MIN) * 1.44269504f) + (x - x);  // exp(-|x|) or NaN
    return pick(negative, decay, all_wide(1.0f)) / (1.0f + decay);
}
