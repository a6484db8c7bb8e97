"""The implementations that are held to the reference, each with the dtypes it is tested in."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from kernels.cpu.build import ELEMENT_TYPES, supported_isas
from kernels.cpu.ops import CpuKernels
from kernels.gpu.ops import TritonKernels

Case = tuple[torch.dtype, Callable[[], CpuKernels | TritonKernels]]


def _cases() -> dict[str, Case]:
    """C for every instruction set this processor has; Triton.

    Triton's interpreter multiplies the bit patterns of bfloat16: float16 stands in for it there.
    """
    cases: dict[str, Case] = {}
    for name in ELEMENT_TYPES:
        dtype: torch.dtype = getattr(torch, name)
        for isa in supported_isas(name):
            cases[f"cpu-{name}-{isa.name}"] = (dtype, partial(CpuKernels, dtype, isa.name))
    return cases | {
        "triton-float32": (torch.float32, TritonKernels),
        "triton-float16": (torch.float16, TritonKernels),
    }


CASES = _cases()


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def dtype(case: str) -> torch.dtype:
    return CASES[case][0]


@pytest.fixture
def kernels(case: str) -> CpuKernels | TritonKernels:
    return CASES[case][1]()
