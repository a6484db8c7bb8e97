// The row-wise operations between the GEMMs.
#include "lanes.h"

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

DISPATCHED static void layer_norm_row(scalar *out, const scalar *x, scalar *residual,
                                      const scalar *weight, const scalar *bias, int width,
                                      float epsilon) {
    float sum = 0, squares = 0;
    if (residual) {
        for (int i = 0; i < width; i++) residual[i] = store(load(x[i]) + load(residual[i]));
        x = residual;
    }
    for (int i = 0; i < width; i++) sum += load(x[i]);
    float mean = sum / width;
    for (int i = 0; i < width; i++) squares += (load(x[i]) - mean) * (load(x[i]) - mean);
    float scale = 1.0f / __builtin_sqrtf(squares / width + epsilon);
    for (int i = 0; i < width; i++)
        out[i] = store((load(x[i]) - mean) * scale * load(weight[i]) + load(bias[i]));
}

EXPORT void layer_norm(scalar *out, const scalar *x, scalar *residual, const scalar *weight,
                       const scalar *bias, int32_t num_rows, int32_t width, float epsilon) {
#pragma omp parallel for if ((int64_t)num_rows * width >= 65536)
    for (int row = 0; row < num_rows; row++)
        layer_norm_row(out + (int64_t)row * width, x + (int64_t)row * width,
                       residual ? residual + (int64_t)row * width : 0, weight, bias, width,
                       epsilon);
}

INLINE void silu_mul_lanes(scalar *out, const scalar *gate, const scalar *up) {
    wide x = load_wide(gate), factor = load_wide(up);
    store_wide(out, x * logistic(x));  // rounded where the reference rounds
    store_wide(out, load_wide(out) * factor);
}

DISPATCHED static void silu_mul_row(scalar *out, const scalar *gate, const scalar *up, int width) {
    int i = 0;
    for (; i + WIDTH <= width; i += WIDTH) silu_mul_lanes(out + i, gate + i, up + i);
    if (i == width) return;
    scalar rest[3][WIDTH] = {0};
    memcpy(rest[1], gate + i, (width - i) * sizeof(scalar));
    memcpy(rest[2], up + i, (width - i) * sizeof(scalar));
    silu_mul_lanes(rest[0], rest[1], rest[2]);
    memcpy(out + i, rest[0], (width - i) * sizeof(scalar));
}

EXPORT void silu_mul(scalar *out, const scalar *gate_up, int32_t num_rows, int32_t width) {
#pragma omp parallel for if ((int64_t)num_rows * width >= 65536)
    for (int row = 0; row < num_rows; row++) {
        const scalar *gate = gate_up + (int64_t)row * 2 * width;
        silu_mul_row(out + (int64_t)row * width, gate, gate + width, width);
    }
}

// x times the logistic function of 2u: half of 1 + tanh(u) is that.
INLINE void gelu_tanh_lanes(scalar *out, const scalar *from) {
    wide x = load_wide(from);
    store_wide(out, x * logistic(1.5957691216f * (x + 0.044715f * x * x * x)));
}

DISPATCHED static void gelu_tanh_row(scalar *out, const scalar *x, int width) {
    int i = 0;
    for (; i + WIDTH <= width; i += WIDTH) gelu_tanh_lanes(out + i, x + i);
    if (i == width) return;
    scalar rest[2][WIDTH] = {0};
    memcpy(rest[1], x + i, (width - i) * sizeof(scalar));
    gelu_tanh_lanes(rest[0], rest[1]);
    memcpy(out + i, rest[0], (width - i) * sizeof(scalar));
}

EXPORT void gelu_tanh(scalar *out, const scalar *x, int32_t num_rows, int32_t width) {
#pragma omp parallel for if ((int64_t)num_rows * width >= 65536)
    for (int row = 0; row < num_rows; row++)
        gelu_tanh_row(out + (int64_t)row * width, x + (int64_t)row * width, width);
}
