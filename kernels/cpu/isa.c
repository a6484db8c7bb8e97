// Which instruction sets of kernels/cpu/isa.py this processor and its system can run, as bits.
#include <stdint.h>

enum { AVX2 = 1, AVX512 = 2, AVX512_BF16 = 4 };

__attribute__((visibility("default"))) int32_t supported_isas(void) {
    int32_t isas = 0;
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isas |= AVX2;
    if (isas && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        isas |= AVX512;
    if ((isas & AVX512) && __builtin_cpu_supports("avx512bf16")) isas |= AVX512_BF16;
#endif
    return isas;
}
