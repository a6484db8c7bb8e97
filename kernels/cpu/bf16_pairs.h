// Multiply-adds of pairs of bfloat16: a pair of one row of x with the pairs of sixteen columns.
#pragma once

#include "common.h"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

enum { STEP = 2 };
typedef uint32_t step;  // the first of the pair in the low half
typedef uint32_t steps __attribute__((vector_size(LANES * sizeof(uint32_t)), aligned(4)));

INLINE void multiply_add(vec *sum, step x, const steps *w) {
#ifdef __AVX512BF16__
    *sum = (vec)_mm512_dpbf16_ps((__m512)*sum, (__m512bh)_mm512_set1_epi32((int)x), (__m512bh)*w);
#else
    *sum += load((scalar)x) * (vec)(*w << 16);
    *sum += load((scalar)(x >> 16)) * (vec)(*w & 0xffff0000u);
#endif
}
