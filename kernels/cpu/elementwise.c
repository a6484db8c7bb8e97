// The row-wise operations between the GEMMs, a vector at a time.
#include "lanes.h"

// x, or its sum with the residual, which is kept.
INLINE wide joined(const scalar *x, scalar *residual, int i, int left) {
    wide value = load_first(x + i, left);
    if (!residual) return value;
    value = rounded(value + load_first(residual + i, left));
    store_first(residual + i, value, left);
    return value;
}

DISPATCHED static void norm_row(scalar *out, const scalar *x, scalar *residual,
                                const scalar *weight, int width, float epsilon) {
    wide squares = {0};
    for (int i = 0; i < width; i += WIDTH) {
        wide value = joined(x, residual, i, width - i);
        squares += value * value;
    }
    if (residual) x = residual;
    float scale = 1.0f / __builtin_sqrtf(sum_wide(squares) / width + epsilon);
    for (int i = 0; i < width; i += WIDTH) {
        wide value = rounded(load_first(x + i, width - i) * scale);
        store_first(out + i, load_first(weight + i, width - i) * value, width - i);
    }
}

EXPORT void rms_norm(scalar *out, const scalar *x, scalar *residual, const scalar *weight,
                     int32_t num_rows, int32_t width, float epsilon) {
#pragma omp parallel for if ((int64_t)num_rows * width >= 65536)
    for (int row = 0; row < num_rows; row++)
        norm_row(out + (int64_t)row * width, x + (int64_t)row * width,
                 residual ? residual + (int64_t)row * width : 0, weight, width, epsilon);
}

// The sum of the squared distances from the mean; lanes beside the row are none of it.
static float squared_distances(const scalar *x, int width, float mean) {
    wide squares = {0};
    int i = 0;
    for (; i + WIDTH <= width; i += WIDTH) {
        wide distance = load_wide(x + i) - mean;
        squares += distance * distance;
    }
    float sum = sum_wide(squares);
    for (; i < width; i++) sum += (load(x[i]) - mean) * (load(x[i]) - mean);
    return sum;
}

DISPATCHED static void layer_norm_row(scalar *out, const scalar *x, scalar *residual,
                                      const scalar *weight, const scalar *bias, int width,
                                      float epsilon) {
    wide sum = {0};
    for (int i = 0; i < width; i += WIDTH) sum += joined(x, residual, i, width - i);
    if (residual) x = residual;
    float mean = sum_wide(sum) / width;
    float scale = 1.0f / __builtin_sqrtf(squared_distances(x, width, mean) / width + epsilon);
    for (int i = 0; i < width; i += WIDTH) {
        int left = width - i;
        wide value = (load_first(x + i, left) - mean) * scale;
        store_first(out + i, value * load_first(weight + i, left) + load_first(bias + i, left), left);
    }
}

EXPORT void layer_norm(scalar *out, const scalar *x, scalar *residual, const scalar *weight,
                       const scalar *bias, int32_t num_rows, int32_t width, float epsilon) {
#pragma omp parallel for if ((int64_t)num_rows * width >= 65536)
    for (int row = 0; row < num_rows; row++)
        layer_norm_row(out + (int64_t)row * width, x + (int64_t)row * width,
                       residual ? residual + (int64_t)row * width : 0, weight, bias, width,
                       epsilon);
}

DISPATCHED static void silu_mul_row(scalar *out, const scalar *gate, const scalar *up, int width) {
    for (int i = 0; i < width; i += WIDTH) {
        wide x = load_first(gate + i, width - i), factor = load_first(up + i, width - i);
        store_first(out + i, rounded(x * logistic(x)) * factor, width - i);
    }
}

EXPORT void silu_mul(scalar *out, const scalar *gate_up, int32_t num_rows, int32_t width) {
#pragma omp parallel for if ((int64_t)num_rows * width >= 65536)
    for (int row = 0; row < num_rows; row++) {
        const scalar *gate = gate_up + (int64_t)row * 2 * width;
        silu_mul_row(out + (int64_t)row * width, gate, gate + width, width);
    }
}

// x times the logistic function of 2u: half of 1 + tanh(u) is that.
DISPATCHED static void gelu_tanh_row(scalar *out, const scalar *from, int width) {
    for (int i = 0; i < width; i += WIDTH) {
        wide x = load_first(from + i, width - i);
        wide twice_u = 1.5957691216f * (x + 0.044715f * x * x * x);
        store_first(out + i, x * logistic(twice_u), width - i);
    }
}

EXPORT void gelu_tanh(scalar *out, const scalar *x, int32_t num_rows, int32_t width) {
#pragma omp parallel for if ((int64_t)num_rows * width >= 65536)
    for (int row = 0; row < num_rows; row++)
        gelu_tanh_row(out + (int64_t)row * width, x + (int64_t)row * width, width);
}
