"""The base model's linear layers: every instruction set here against float64, and row by row."""

import pytest
import torch

from kernels.cpu.build import supported_isas
from kernels.cpu.linear import OneDnnLinear
from kernels.cpu.ops import CpuKernels
from kernels.linear import PlainLinear

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CASES = [(name, isa.name) for name in DTYPES for isa in supported_isas(name)]
SHAPES = [(1, 1), (7, 33), (64, 192), (65, 70), (300, 31)]  # in, out
NUM_ROWS = 107  # more than a group of gemm.c; its blocks have up to 12 rows


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def kernels(request: pytest.FixtureRequest) -> CpuKernels:
    element_type, isa = request.param
    return CpuKernels(DTYPES[element_type], isa)


@pytest.fixture
def dtype(kernels: CpuKernels) -> torch.dtype:
    return kernels.dtype


def make_case(
    dtype: torch.dtype, in_features: int, out_features: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(in_features)
    weight = (torch.randn(out_features, in_features) / in_features**0.5).to(dtype)
    return torch.randn(NUM_ROWS, in_features).to(dtype), weight, torch.randn(out_features).to(dtype)


def assert_near(
    got: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> None:
    """Within the rounding of the result, and of one sum in float32 over the width."""
    want = torch.nn.functional.linear(
        x.double(), weight.double(), None if bias is None else bias.double()
    )
    magnitude = x.double().abs() @ weight.double().abs().T
    bound = torch.finfo(got.dtype).eps * want.abs()
    bound = bound + 2 * torch.finfo(torch.float32).eps * x.shape[1] ** 0.5 * (magnitude + 1)
    assert ((got.double() - want).abs() <= bound).all()


@pytest.mark.parametrize(("in_features", "out_features"), SHAPES)
@pytest.mark.parametrize("with_bias", [False, True])
def test_the_packed_linear_is_a_linear(
    kernels: CpuKernels, dtype: torch.dtype, in_features: int, out_features: int, with_bias: bool
) -> None:
    x, weight, bias = make_case(dtype, in_features, out_features)
    own_bias = bias if with_bias else None
    linear = kernels.make_linear([weight], own_bias)
    assert_near(linear(x), x, weight, own_bias)
    assert torch.equal(linear.weight, weight)
    strided = torch.cat((x, x), dim=1)[:, :in_features]
    assert torch.equal(linear(strided), linear(x))


@pytest.mark.parametrize(("in_features", "out_features"), SHAPES)
def test_a_row_does_not_depend_on_the_rows_beside_it(
    kernels: CpuKernels, dtype: torch.dtype, in_features: int, out_features: int
) -> None:
    x, weight, bias = make_case(dtype, in_features, out_features)
    linear = kernels.make_linear([weight], bias)
    whole = linear(x)
    for count in (*range(1, 27), 95, 96, 97):
        assert torch.equal(linear(x[-count:]), whole[-count:]), count


def test_threads_change_nothing(kernels: CpuKernels, dtype: torch.dtype) -> None:
    x, weight, bias = make_case(dtype, 300, 200)
    linear = kernels.make_linear([weight], bias)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(linear(x))
    torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_rows_are_looked_up_in_the_packed_form(kernels: CpuKernels, dtype: torch.dtype) -> None:
    _, weight, _ = make_case(dtype, 65, 70)
    embedding = kernels.make_tied_embedding(weight, None)
    tokens = torch.tensor([3, 69, 0, 32, 31, 3], dtype=torch.int32)
    assert torch.equal(embedding.rows(tokens), weight[tokens])
    assert torch.equal(PlainLinear(weight, None).rows(tokens), weight[tokens])


def test_weights_are_kept_once(kernels: CpuKernels, dtype: torch.dtype) -> None:
    weight = torch.randn(64, 64).to(dtype)
    assert kernels.make_linear([weight], None).num_bytes == weight.nbytes
    assert kernels.make_linear([weight], weight[0]).num_bytes == weight.nbytes + weight[0].nbytes


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_onednn_is_a_linear(dtype: torch.dtype) -> None:
    """What a processor with AMX gets; oneDNN runs on every x86 one."""
    x, weight, bias = make_case(dtype, 64, 192)
    for own_bias in (None, bias):
        linear = OneDnnLinear(weight, own_bias)
        assert_near(linear(x), x, weight, own_bias)
        assert torch.equal(linear.weight, weight)


def test_weights_one_below_the_other_are_one_linear(
    kernels: CpuKernels, dtype: torch.dtype
) -> None:
    x, weight, bias = make_case(dtype, 65, 103)
    whole = kernels.make_linear([weight], bias)
    parts = kernels.make_linear([weight[:33], weight[33:35], weight[35:]], bias)
    assert torch.equal(parts.weight, weight)
    assert torch.equal(parts(x), whole(x))
