// Shared by the CPU kernels. Each source is compiled once per element type: float, or bfloat16
// with -DLORIKEET_BF16, and instruction set. Arithmetic is always float.
#pragma once

#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

// A function of its own, and not inlined: its loops are compiled once, the same for every caller.
#define DISPATCHED __attribute__((noinline))

#ifdef LORIKEET_BF16
typedef uint16_t scalar;

static inline float load(scalar value) {
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

static inline scalar store(float value) {  // round to nearest even
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (scalar)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#else
typedef float scalar;

static inline float load(scalar value) { return value; }
static inline scalar store(float value) { return value; }
#endif

// Sixteen lanes, whatever the machine has: the compiler splits them where registers are narrower.
enum { LANES = 16 };
typedef float vec __attribute__((vector_size(LANES * sizeof(float)), aligned(4)));

#define INLINE static inline __attribute__((always_inline))

INLINE void load_vec(vec *result, const scalar *values) {
#ifdef LORIKEET_BF16
    typedef uint16_t halves __attribute__((vector_size(LANES * sizeof(uint16_t)), aligned(2)));
    typedef uint32_t words __attribute__((vector_size(LANES * sizeof(uint32_t)), aligned(4)));
    words bits = __builtin_convertvector(*(const halves *)values, words) << 16;
    *result = (vec)bits;
#else
    *result = *(const vec *)values;
#endif
}
