"""Every LoRA implementation against float64: dtype x instruction set x rank x batch x popularity.

A result may differ by the rounding of y to its dtype, and by that of sums in float32, whose error
grows with the root of their length in eps of what was added up. What rounds x A^T or its product
with B to its dtype on the way may differ by that too: the C kernels do not.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from benchmarks.lora_arena import LoraArena
from kernels.cpu.build import supported_isas
from kernels.cpu.ops import CpuKernels
from kernels.gpu.ops import TritonKernels
from kernels.layouts import LoraPlan
from kernels.reference import ReferenceKernels
from kernels.select import Kernels

RANKS = (1, 3, 8, 16, 17, 64, 128, 512)
NUM_ADAPTERS = 9
# Widths that are no multiple of a vector, and one beyond the columns lora.c works on at a time.
IN_FEATURES, OUT_FEATURES = 100, (530, 32, 40)
Spans = list[tuple[int | None, int]]


@dataclass(frozen=True)
class Implementation:
    """A way to compute lora_apply, and whether it rounds to its dtype on the way."""

    name: str
    dtype: torch.dtype
    make: Callable[[], Kernels]
    rounds_between: bool = False


def _cpu(element_type: str) -> list[Implementation]:
    dtype: torch.dtype = getattr(torch, element_type)

    def implementation(isa: str) -> Implementation:
        return Implementation(f"{isa}-{element_type}", dtype, lambda: CpuKernels(dtype, isa))

    return [implementation(isa.name) for isa in supported_isas(element_type)]


CPU = [*_cpu("float32"), *_cpu("bfloat16")]
REFERENCE = [
    Implementation(f"reference-{name}", getattr(torch, name), ReferenceKernels, name != "float32")
    for name in ("float32", "bfloat16", "float16")
]
# Triton's interpreter multiplies the bit patterns of bfloat16: float16 stands in for it there.
TRITON = [
    Implementation("triton-float32", torch.float32, TritonKernels),
    Implementation("triton-float16", torch.float16, TritonKernels, rounds_between=True),
]


def named(implementations: list[Implementation]) -> pytest.MarkDecorator:
    ids = [implementation.name for implementation in implementations]
    return pytest.mark.parametrize("implementation", implementations, ids=ids)


def make_arena(dtype: torch.dtype, ranks: list[int]) -> LoraArena:
    torch.manual_seed(sum(ranks))
    return LoraArena(IN_FEATURES, OUT_FEATURES, ranks, dtype, torch.device("cpu"))


@pytest.fixture(scope="module")
def arena_of() -> Callable[[torch.dtype, int], LoraArena]:
    """An arena of adapters that all have one rank; made once for each dtype and rank."""
    arenas: dict[tuple[torch.dtype, int], LoraArena] = {}

    def get(dtype: torch.dtype, rank: int) -> LoraArena:
        if (dtype, rank) not in arenas:
            arenas[dtype, rank] = make_arena(dtype, [rank] * NUM_ADAPTERS)
        return arenas[dtype, rank]

    return get


def popular(popularity: str, num_sequences: int) -> list[int | None]:
    """Which adapter each sequence of a batch has; None: the base alone."""
    if popularity == "identical":
        return [2] * num_sequences
    if popularity == "distinct":
        return [index % NUM_ADAPTERS for index in range(num_sequences)]
    if popularity == "uniform":  # the root of the batch's size are in use, as in Punica's
        return [index % math.ceil(num_sequences**0.5) for index in range(num_sequences)]
    if popularity == "skewed":  # one has nearly all, the base a few
        return [
            None if i % 5 == 2 else 0 if i % 7 else i % NUM_ADAPTERS for i in range(num_sequences)
        ]
    assert popularity == "zipf"
    weights = torch.arange(1, NUM_ADAPTERS + 1).float() ** -1.5
    generator = torch.Generator().manual_seed(num_sequences)
    draws = torch.multinomial(weights, num_sequences, replacement=True, generator=generator)
    return draws.tolist()


POPULARITIES = ("distinct", "uniform", "zipf", "identical", "skewed")
# Sequences, and tokens of each: one alone, steps that decode, prefills of more than one tile.
BATCHES = ((1, 1), (13, 1), (3, 35))


def spans_of(popularity: str, num_sequences: int, num_tokens: int) -> Spans:
    return [(adapter, num_tokens) for adapter in popular(popularity, num_sequences)]


def expected(
    lora: LoraArena, spans: Spans, x: torch.Tensor, y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The result in float64, and the sum of the absolute values it is added up from."""
    want, magnitude = y.double(), y.double().abs()
    start = 0
    for adapter, count in spans:
        rows = slice(start, start + count)
        start += count
        if adapter is None:
            continue
        for part, (a, b) in zip(lora.site.slices, lora.matrices(adapter), strict=True):
            columns = slice(part.out_start, part.out_start + part.out_features)
            wide = x[rows].double(), a.double().T, b.double()
            want[rows, columns] += wide[0] @ wide[1] @ wide[2]
            magnitude[rows, columns] += wide[0].abs() @ wide[1].abs() @ wide[2].abs()
    return want, magnitude


def check(implementation: Implementation, lora: LoraArena, spans: Spans) -> None:
    x, y = lora.random(sum(count for _, count in spans))
    plan = lora.plan(spans) if any(adapter is not None for adapter, _ in spans) else None
    want, magnitude = expected(lora, spans, x, y)
    got = y.clone()
    if plan is not None:
        implementation.make().lora_apply(got, x, lora.arena, plan, lora.site, 0)
    eps, single = torch.finfo(got.dtype).eps, torch.finfo(torch.float32).eps
    bound = eps * want.abs() + 4 * single * IN_FEATURES**0.5 * magnitude
    if implementation.rounds_between:
        bound += eps * magnitude
    error = (got.double() - want).abs()
    assert (error <= bound).all(), (spans, float((error / bound).max()))
    for row, adapter in enumerate(a for a, count in spans for _ in range(count)):
        if adapter is None:  # the base's own rows are not touched
            assert torch.equal(got[row], y[row])


@named([*REFERENCE, *CPU])
@pytest.mark.parametrize("rank", RANKS)
def test_every_batch_and_popularity(
    implementation: Implementation, rank: int, arena_of: Callable[[torch.dtype, int], LoraArena]
) -> None:
    lora = arena_of(implementation.dtype, rank)
    batches = BATCHES if rank < 512 else BATCHES[:2]
    for popularity in POPULARITIES:
        for num_sequences, num_tokens in batches:
            check(implementation, lora, spans_of(popularity, num_sequences, num_tokens))


@named([*REFERENCE, *CPU])
def test_all_ranks_in_one_batch(implementation: Implementation) -> None:
    lora = make_arena(implementation.dtype, [*RANKS, 12])
    spans = [(index, 1) for index in range(NUM_ADAPTERS)]
    check(implementation, lora, [*spans, (None, 2), (4, 34), (0, 3), (6, 2)])


@named(TRITON)
@pytest.mark.parametrize("rank", [3, 17])
def test_triton_in_its_interpreter(implementation: Implementation, rank: int) -> None:
    """Few cases, as it is slow; test_lora_programs.py has what is special about these kernels."""
    lora = make_arena(implementation.dtype, [rank, rank])
    check(implementation, lora, [(1, 1), (0, 1), (None, 1), (1, 3)])


@named(CPU)
def test_a_row_does_not_depend_on_the_rows_beside_it(implementation: Implementation) -> None:
    """To the bit, in every dtype and with every instruction set."""
    lora = make_arena(implementation.dtype, [17, 64, 8, 33, 1, 3, 12, 128, 100])
    spans: Spans = [(0, 1), (1, 37), (2, 1), (None, 1), (3, 2), (0, 5), (1, 1), (8, 3)]
    x, y = lora.random(sum(count for _, count in spans))
    kernels = implementation.make()
    whole = apply(kernels, lora, lora.plan(spans), x, y)
    for row, adapter in enumerate(a for a, count in spans for _ in range(count)):
        if adapter is not None:
            one = slice(row, row + 1)
            alone = apply(kernels, lora, lora.plan([(adapter, 1)]), x[one], y[one])
            assert torch.equal(alone[0], whole[row]), row


@named(CPU)
def test_threads_change_nothing(implementation: Implementation) -> None:
    lora = make_arena(implementation.dtype, [64] * NUM_ADAPTERS)
    x, y = lora.random(45)
    plan = lora.plan([(index, 5) for index in range(NUM_ADAPTERS)])
    kernels, before = implementation.make(), torch.get_num_threads()
    one = apply(kernels, lora, plan, x, y)
    torch.set_num_threads(3)
    try:
        assert torch.equal(apply(kernels, lora, plan, x, y), one)
    finally:
        torch.set_num_threads(before)


def apply(
    kernels: Kernels, lora: LoraArena, plan: LoraPlan, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    out = y.clone()
    kernels.lora_apply(out, x, lora.arena, plan, lora.site, 0)
    return out
