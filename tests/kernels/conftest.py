"""The implementations that are held to the reference, each with the dtypes it is tested in."""

import pytest
import torch

from kernels.cpu.ops import CpuKernels
from kernels.gpu.ops import TritonKernels

# Triton's interpreter multiplies the bit patterns of bfloat16: float16 stands in for it there.
CASES = {
    "cpu-float32": torch.float32,
    "cpu-bfloat16": torch.bfloat16,
    "triton-float32": torch.float32,
    "triton-float16": torch.float16,
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def dtype(case: str) -> torch.dtype:
    return CASES[case]


@pytest.fixture
def kernels(case: str) -> CpuKernels | TritonKernels:
    return TritonKernels() if case.startswith("triton") else CpuKernels(CASES[case])
