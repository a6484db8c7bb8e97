"""The row-wise operations between the GEMMs; one program per row."""

import triton
import triton.language as tl


@triton.jit
def rms_norm(out, x, residual, weight, width, epsilon, HAS_RESIDUAL: tl.constexpr,
             BLOCK: tl.constexpr):  # fmt: skip
    start = tl.program_id(0).to(tl.int64) * width
    i = tl.arange(0, BLOCK)
    inside = i < width
    value = tl.load(x + start + i, mask=inside, other=0.0)
    if HAS_RESIDUAL:
        before = tl.load(residual + start + i, mask=inside, other=0.0)
        value = (value.to(tl.float32) + before.to(tl.float32)).to(x.dtype.element_ty)
        tl.store(residual + start + i, value, mask=inside)
    wide = value.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(wide * wide, axis=0) / width + epsilon)
    # Rounded where the reference rounds; the arithmetic itself is float32.
    normed = (wide * scale).to(x.dtype.element_ty).to(tl.float32)
    scaled = normed * tl.load(weight + i, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + start + i, scaled.to(out.dtype.element_ty), mask=inside)


@triton.jit
def layer_norm(out, x, residual, weight, bias, width, epsilon, HAS_RESIDUAL: tl.constexpr,
               BLOCK: tl.constexpr):  # fmt: skip
    start = tl.program_id(0).to(tl.int64) * width
    i = tl.arange(0, BLOCK)
    inside = i < width
    value = tl.load(x + start + i, mask=inside, other=0.0)
    if HAS_RESIDUAL:
        before = tl.load(residual + start + i, mask=inside, other=0.0)
        value = (value.to(tl.float32) + before.to(tl.float32)).to(x.dtype.element_ty)
        tl.store(residual + start + i, value, mask=inside)
    wide = value.to(tl.float32)
    wide = tl.where(inside, wide - tl.sum(wide, axis=0) / width, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(wide * wide, axis=0) / width + epsilon)
    scaled = wide * scale * tl.load(weight + i, mask=inside, other=0.0).to(tl.float32)
    shifted = scaled + tl.load(bias + i, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + start + i, shifted.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _logistic(x):
    """1 / (1 + exp(-x)), without overflow on either side."""
    decay = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, decay) / (1.0 + decay)


@triton.jit
def silu_mul(out, gate_up, width, BLOCK: tl.constexpr):
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i = block * BLOCK + tl.arange(0, BLOCK)
    inside = i < width
    gate = tl.load(gate_up + row * 2 * width + i, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * width + width + i, mask=inside, other=0.0).to(tl.float32)
    silu = (gate * _logistic(gate)).to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + row * width + i, (silu * up).to(out.dtype.element_ty), mask=inside)


@triton.jit
def gelu_tanh(out, x, width, BLOCK: tl.constexpr):
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i = block * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + row * width + i, mask=i < width, other=0.0).to(tl.float32)
    # Half of 1 + tanh(u) is the logistic function of 2u.
    twice = 1.5957691216057308 * (value + 0.044715 * value * value * value)
    result = (value * _logistic(twice)).to(out.dtype.element_ty)
    tl.store(out + row * width + i, result, mask=i < width)
