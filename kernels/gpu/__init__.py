"""Triton kernels. Deterministic: no atomics, fixed grids, nothing to zero first."""
