"""Which implementation of the kernels runs on a device."""

import logging

import torch

from kernels.cpu.build import CompilerMissingError
from kernels.cpu.ops import CpuKernels
from kernels.reference import ReferenceKernels

logger = logging.getLogger(__name__)

Kernels = CpuKernels | ReferenceKernels


def select_kernels(device: torch.device, dtype: torch.dtype) -> Kernels:
    """C on a CPU in float32 or bfloat16; else the reference, with a warning: it is slow."""
    if device.type == "cpu" and dtype in (torch.float32, torch.bfloat16):
        try:
            return CpuKernels(dtype)
        except CompilerMissingError as error:
            logger.warning("%s; using the slow reference kernels", error)
            return ReferenceKernels()
    logger.warning("no fast kernels for %s in %s; using the slow reference ones", device, dtype)
    return ReferenceKernels()
