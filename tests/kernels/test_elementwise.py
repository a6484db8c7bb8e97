"""Norms and activations against their plain-torch twins."""

import pytest
import torch
from torch.nn.functional import layer_norm

from tests.kernels.compare import REFERENCE, Fast, assert_close


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("width", [8, 250, 2048])
def test_rms_norm(kernels: Fast, dtype: torch.dtype, with_residual: bool, width: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(5, width, dtype=dtype), torch.randn(width, dtype=dtype)
    residuals = [torch.ones(5, width, dtype=dtype) if with_residual else None for _ in range(2)]
    got = kernels.rms_norm(x, residuals[0], weight, 1e-5)
    want = REFERENCE.rms_norm(x, residuals[1], weight, 1e-5)
    assert_close(got, want)
    if with_residual:
        torch.testing.assert_close(residuals[0], residuals[1])


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("width", [8, 250, 2048])
def test_layer_norm(kernels: Fast, dtype: torch.dtype, with_residual: bool, width: int) -> None:
    """Rows far from zero: their mean must be taken off before they are squared."""
    torch.manual_seed(0)
    x = torch.randn(5, width).to(dtype) + 8
    weight, bias = torch.randn(2, width).to(dtype)
    residuals = [torch.ones(5, width, dtype=dtype) if with_residual else None for _ in range(2)]
    got = kernels.layer_norm(x, residuals[0], weight, bias, 1e-5)
    assert_close(got, REFERENCE.layer_norm(x, residuals[1], weight, bias, 1e-5))
    if with_residual:
        torch.testing.assert_close(residuals[0], residuals[1])
    else:
        want = layer_norm(x.float(), (width,), weight.float(), bias.float(), 1e-5)
        assert_close(got, want.to(dtype))


@pytest.mark.parametrize("width", [8, 37, 64])
def test_silu_mul(kernels: Fast, dtype: torch.dtype, width: int) -> None:
    gate_up = torch.linspace(-100, 100, 6 * 2 * width).reshape(6, 2 * width).to(dtype)
    assert_close(kernels.silu_mul(gate_up), REFERENCE.silu_mul(gate_up))


@pytest.mark.parametrize("width", [8, 37, 64])
def test_gelu_tanh(kernels: Fast, dtype: torch.dtype, width: int) -> None:
    x = torch.linspace(-12, 12, 6 * width).reshape(6, width).to(dtype)
    assert_close(kernels.gelu_tanh(x), REFERENCE.gelu_tanh(x))


@pytest.mark.parametrize("name", ["silu_mul", "gelu_tanh"])
def test_what_is_not_finite_stays_so(kernels: Fast, dtype: torch.dtype, name: str) -> None:
    """The engine ends a request whose output is not finite; a kernel must not hide that."""
    x = torch.ones(3, 32, dtype=dtype)
    x[1, 5] = float("nan")
    finite = getattr(kernels, name)(x).isfinite().all(dim=1)
    assert finite.tolist() == [True, False, True]
