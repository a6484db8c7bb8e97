"""Triton kernels. Deterministic: no atomics, fixed grids, nothing to zero first."""

import os

# Multiply-adds are fused, said outright: Triton 3.9 warns where it is not, 3.10 would change it.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
