// The row-wise operations between the GEMMs.
#include "common.h"

DISPATCHED static void norm_row(scalar *out, const scalar *x, scalar *residual,
                                const scalar *weight, int width, float epsilon) {
    float squares = 0;
    if (residual) {
        for (int i = 0; i < width; i++) residual[i] = store(load(x[i]) + load(residual[i]));
        x = residual;
    }
    for (int i = 0; i < width; i++) squares += load(x[i]) * load(x[i]);
    float scale = 1.0f / __builtin_sqrtf(squares / width + epsilon);
    for (int i = 0; i < width; i++)
        out[i] = store(load(weight[i]) * load(store(load(x[i]) * scale)));
}

EXPORT void rms_norm(scalar *out, const scalar *x, scalar *residual, const scalar *weight,
                     int32_t num_rows, int32_t width, float epsilon) {
#pragma omp parallel for if ((int64_t)num_rows * width >= 65536)
    for (int row = 0; row < num_rows; row++)
        norm_row(out + (int64_t)row * width, x + (int64_t)row * width,
                 residual ? residual + (int64_t)row * width : 0, weight, width, epsilon);
}

DISPATCHED static void silu_mul_row(scalar *restrict out, const scalar *restrict gate,
                                    const scalar *restrict up, int width) {
    for (int i = 0; i < width; i++) {
        float value = load(gate[i]);
        float silu = load(store(value / (1.0f + fast_exp(-value))));
        out[i] = store(silu * load(up[i]));
    }
}

EXPORT void silu_mul(scalar *out, const scalar *gate_up, int32_t num_rows, int32_t width) {
#pragma omp parallel for if ((int64_t)num_rows * width >= 65536)
    for (int row = 0; row < num_rows; row++) {
        const scalar *gate = gate_up + (int64_t)row * 2 * width;
        silu_mul_row(out + (int64_t)row * width, gate, gate + width, width);
    }
}
