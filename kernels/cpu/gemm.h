// A linear layer of the base model; see PackedLinear in kernels/cpu/linear.py.
#pragma once

#include "common.h"

// `weights` is [out_features / PANEL, num_steps, PANEL, STEP], padded with zeros; bias may be null.
typedef struct {
    const scalar *weights, *bias;
    int64_t in_features, out_features;
} Linear;

// y = x W^T + bias for `num_rows` rows; packed_x has room for those of x, filled up to whole steps.
void multiply(const Linear *linear, scalar *y, scalar *packed_x, const scalar *x, int64_t x_stride,
              int64_t num_rows);
