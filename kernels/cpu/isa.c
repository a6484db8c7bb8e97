// Which instruction sets of kernels/cpu/isa.py this processor and its system can run, as bits.
#include <stdint.h>

enum { AVX2 = 1, AVX512 = 2, AVX512_BF16 = 4, AMX_BF16 = 8 };

#ifdef __x86_64__
#include <cpuid.h>

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>

// Tiles are 8 KB of state a thread must ask the kernel for, once per process.
enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
static int may_use_tiles(void) {
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#else
static int may_use_tiles(void) { return 0; }
#endif

static int has_tiles(void) {
    uint32_t a, b, c, d;
    const uint32_t bf16_and_tile = 1u << 22 | 1u << 24;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    return (d & bf16_and_tile) == bf16_and_tile && may_use_tiles();
}

static int32_t x86_isas(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return AVX2;
    if (!__builtin_cpu_supports("avx512bf16")) return AVX2 | AVX512;
    return AVX2 | AVX512 | AVX512_BF16 | (has_tiles() ? AMX_BF16 : 0);
}
#else
static int32_t x86_isas(void) { return 0; }
#endif

__attribute__((visibility("default"))) int32_t supported_isas(void) { return x86_isas(); }
