// A site of a step in one call: the base model's product, then what the adapters add to it.
#include "gemm.h"
#include "lora.h"

EXPORT void adapted_gemm(const Linear *linear, const Plan *plan, const Slice *slices,
                         int32_t num_slices, int32_t layer, scalar *y, scalar *packed_x,
                         const scalar *x, int64_t x_stride, int64_t num_rows) {
    Work work = {plan, slices, num_slices, linear->in_features,  layer,
                 0,    y,      x,          linear->out_features, x_stride};
    multiply(linear, y, packed_x, x, x_stride, num_rows);
    add_adapters(&work);
}
