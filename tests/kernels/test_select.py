"""Which kernels run; where none are fast, the warning says what to do."""

import logging

import pytest
import torch

from kernels.cpu.ops import CpuKernels
from kernels.reference import ReferenceKernels
from kernels.select import select_kernels

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_c_kernels_on_a_cpu(dtype: torch.dtype, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert isinstance(select_kernels(CPU, dtype), CpuKernels)
    assert not caplog.records


@pytest.mark.parametrize(
    ("device", "remedy"),
    [("cpu", "use dtype float32 or bfloat16"), ("cuda", "install triton"), ("mps", "NVIDIA GPU")],
)
def test_without_fast_kernels_the_warning_says_what_to_do(
    device: str,
    remedy: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        kernels = select_kernels(torch.device(device), torch.float16)
    assert isinstance(kernels, ReferenceKernels)
    assert remedy in caplog.text
