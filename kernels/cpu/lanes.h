// Arithmetic on as many lanes at once as a register has, beside the compiler's own + - * /.
#pragma once

#include "common.h"

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

INLINE wide load_wide(const scalar *values) {
    return (wide)(__builtin_convertvector(*(const halves *)values, words) << 16);
}

INLINE void store_wide(scalar *values, wide x) {  // round to nearest even
    words bits = (words)x;
    *(halves *)values = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, halves);
}
#else
INLINE wide load_wide(const scalar *values) { return *(const wide *)values; }
INLINE void store_wide(scalar *values, wide x) { *(wide *)values = x; }
#endif

// No comparison and no conditional: GCC takes those of wide vectors apart, lane by lane.
INLINE wide pick(ints mask, wide yes, wide no) {
    return (wide)((mask & (ints)yes) | (~mask & (ints)no));
}

INLINE wide larger(wide a, wide b) { return pick((ints)(a - b) >> 31, b, a); }

INLINE wide all_wide(float x) { return (wide){0} + x; }

// All bits of the lanes [first, end).
INLINE ints lanes_between(int first, int end) {
    static const int32_t bits[32] = {
        -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
    return *(const ints *)(bits + 16 - end) & ~*(const ints *)(bits + 16 - first);
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

// exp of numbers that are not above zero; see fast_exp. What is not finite becomes NaN, and that by
// its bits: the compiler may take x - x for zero.
INLINE wide exp_wide(wide x) {
    ints infinity = {0};
    infinity += 0x7f800000;
    ints finite = (((ints)x & 0x7fffffff) - infinity) >> 31;
    x = larger(x, all_wide(-87.0f));
    ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, ints);
    wide whole = __builtin_convertvector(n, wide);
    wide r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    wide p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return pick(finite, p * (wide)((n + 127) << 23), (wide)(infinity | 0x400000));
}

// 1 / (1 + exp(-x)), without overflow on either side.
INLINE wide logistic(wide x) {
    ints negative = (ints)x >> 31;
    wide decay = exp_wide((wide)((ints)x | INT32_MIN));  // exp(-|x|)
    return pick(negative, decay, all_wide(1.0f)) / (1.0f + decay);
}
