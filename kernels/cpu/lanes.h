// Arithmetic on sixteen lanes at once, beside what common.h loads and the compiler's own + - * /.
#pragma once

#include "common.h"

typedef int32_t ints __attribute__((vector_size(LANES * sizeof(int32_t)), aligned(4)));

INLINE void store_vec(scalar *values, vec x) {
#ifdef LORIKEET_BF16
    typedef uint16_t halves __attribute__((vector_size(LANES * sizeof(uint16_t)), aligned(2)));
    typedef uint32_t words __attribute__((vector_size(LANES * sizeof(uint32_t)), aligned(4)));
    words bits = (words)x;  // round to nearest even
    *(halves *)values = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, halves);
#else
    *(vec *)values = x;
#endif
}

// No comparison and no conditional: GCC takes those of wide vectors apart, lane by lane.
INLINE vec pick(ints mask, vec yes, vec no) {
    return (vec)((mask & (ints)yes) | (~mask & (ints)no));
}

INLINE vec larger(vec a, vec b) { return pick((ints)(a - b) >> 31, b, a); }

// Lanes change places with those 8, 4, 2 or 1 further.
#define SWAP_8(x) \
    __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#define SWAP_4(x) \
    __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#define SWAP_2(x) \
    __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define SWAP_1(x) \
    __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)

INLINE float max_lane(vec x) {
    x = larger(x, SWAP_8(x));
    x = larger(x, SWAP_4(x));
    x = larger(x, SWAP_2(x));
    x = larger(x, SWAP_1(x));
    return x[0];
}

INLINE float sum_lanes(vec x) {
    x += SWAP_8(x);
    x += SWAP_4(x);
    x += SWAP_2(x);
    x += SWAP_1(x);
    return x[0];
}

INLINE vec all_lanes(float x) { return (vec){0} + x; }

// exp of numbers that are not above zero; see fast_exp. What is not finite becomes NaN, and that by
// its bits: the compiler may take x - x for zero.
INLINE vec exp_lanes(vec x) {
    ints infinity = {0};
    infinity += 0x7f800000;
    ints finite = (((ints)x & 0x7fffffff) - infinity) >> 31;
    x = larger(x, all_lanes(-87.0f));
    ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, ints);
    vec whole = __builtin_convertvector(n, vec);
    vec r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return pick(finite, p * (vec)((n + 127) << 23), (vec)(infinity | 0x400000));
}

// All bits of the lanes [first, end).
INLINE ints lanes_between(int first, int end) {
    static const int32_t bits[3 * LANES] = {
        -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
    const ints *before_end = (const ints *)(bits + LANES - end);
    return *before_end & ~*(const ints *)(bits + LANES - first);
}

// 1 / (1 + exp(-x)), without overflow on either side.
INLINE vec logistic(vec x) {
    ints negative = (ints)x >> 31;
    vec decay = exp_lanes((vec)((ints)x | INT32_MIN));  // exp(-|x|)
    return pick(negative, decay, all_lanes(1.0f)) / (1.0f + decay);
}
