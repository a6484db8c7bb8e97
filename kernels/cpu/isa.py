"""The instruction sets the C kernels are compiled for, and which of them this processor has."""

import platform
from dataclasses import dataclass

_AVX2 = ("-mavx2", "-mfma")
_AVX512 = (
    *(*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
    "-mprefer-vector-width=512",
)


@dataclass(frozen=True)
class Isa:
    """`bit` is that of isa.c; 0: every processor has it. `element_types` are those it is for."""

    name: str
    bit: int
    flags: tuple[str, ...] = ()
    element_types: tuple[str, ...] = ("float32", "bfloat16")


AMX_BIT = 8  # of isa.c; the C kernels have no code for it, oneDNN does
PORTABLE = Isa("portable", 0)
# Each includes those before it. They differ in flags and in the explicit code of the sources.
_X86 = (
    PORTABLE,
    Isa("avx2", 1, _AVX2),
    Isa("avx512", 2, _AVX512),
    Isa("avx512_bf16", 4, (*_AVX512, "-mavx512bf16"), ("bfloat16",)),
)
_OTHER = (PORTABLE,)


def known_isas(element_type: str) -> tuple[Isa, ...]:
    """What the kernels for "float32" or "bfloat16" can be compiled for here, slowest first."""
    isas = _X86 if platform.machine() in ("x86_64", "AMD64") else _OTHER
    return tuple(isa for isa in isas if element_type in isa.element_types)
