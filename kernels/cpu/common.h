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

// exp by range reduction and a degree-6 polynomial: 2 ulp, and the compiler can vectorise it.
INLINE float fast_exp(float x) {
    x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    float scaled = x * 1.44269504f;
    int32_t n = (int32_t)(scaled + (scaled >= 0 ? 0.5f : -0.5f));
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = (n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}
