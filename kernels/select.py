"""Which implementation of the kernels runs on a device."""

import importlib.util
import logging
from typing import TYPE_CHECKING, TypeAlias

import torch

from kernels.cpu.build import CompilerMissingError
from kernels.cpu.linear import OneDnnLinear, PackedLinear
from kernels.cpu.ops import CpuKernels
from kernels.linear import PlainLinear
from kernels.reference import ReferenceKernels

if TYPE_CHECKING:
    from kernels.gpu.ops import TritonKernels

logger = logging.getLogger(__name__)


_C_TYPES = (torch.float32, torch.bfloat16)
_REMEDIES = {"cpu": "use dtype float32 or bfloat16", "cuda": "install triton"}
Kernels: TypeAlias = "CpuKernels | ReferenceKernels | TritonKernels"
Embedding: TypeAlias = PlainLinear | PackedLinear
Linear: TypeAlias = Embedding | OneDnnLinear


def select_kernels(device: torch.device, dtype: torch.dtype) -> Kernels:
    """Triton on a GPU, C on a CPU; else the reference, with a warning: it is slow."""
    if device.type == "cuda" and importlib.util.find_spec("triton"):
        from kernels.gpu.ops import TritonKernels  # imports triton, which a CPU does not need

        return TritonKernels()
    try:
        if device.type == "cpu" and dtype in _C_TYPES:
            return CpuKernels(dtype)
        remedy = _REMEDIES.get(device.type, "use a CPU or an NVIDIA GPU")
    except CompilerMissingError as error:
        remedy = str(error)
    logger.warning(
        *("no fast kernels for %s in %s: using the slow reference ones (%s)", device, dtype, remedy)
    )
    return ReferenceKernels()
