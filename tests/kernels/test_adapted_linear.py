"""A site in one call, base and adapters, against the two calls that it stands for: to the bit."""

import pytest
import torch

from benchmarks.lora_arena import LoraArena
from kernels.cpu.build import supported_isas
from kernels.cpu.linear import OneDnnLinear
from kernels.cpu.ops import CpuKernels
from kernels.linear import PlainLinear
from kernels.reference import ReferenceKernels
from kernels.select import Kernels, Linear

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CASES = [(name, isa.name) for name in DTYPES for isa in supported_isas(name)]
# (in_features, out_features of the slices)
SITES: list[tuple[int, tuple[int, ...]]] = [(100, (530, 32, 40)), (600, (64,)), (32, (32, 32))]
RANKS: list[int | list[int]] = [8, 16, 33, [3, 0, 5], 64, 100]
Spans = list[tuple[int | None, int]]
BATCHES: list[Spans] = [
    [(2, 1)],
    [(index % len(RANKS), 1) for index in range(16)],  # tiles of one token and of more
    [(None, 3), (5, 37), (0, 1), (None, 1), (5, 1), (3, 70)],
]


def check(kernels: Kernels, linear: Linear, lora: LoraArena, spans: Spans) -> None:
    x, _ = lora.random(sum(count for _, count in spans))
    plan = lora.plan(spans)
    want = linear(x)
    kernels.lora_apply(want, x, lora.arena, plan, lora.site, 0)
    got = kernels.adapted_linear(linear, x, lora.arena, plan, lora.site, 0)
    assert torch.equal(got, want)
    strided = torch.cat((x, x), dim=1)[:, : x.shape[1]]
    assert torch.equal(
        kernels.adapted_linear(linear, strided, lora.arena, plan, lora.site, 0), want
    )


def make_arena(in_features: int, out_features: tuple[int, ...], dtype: torch.dtype) -> LoraArena:
    torch.manual_seed(in_features)
    ranks = [rank if isinstance(rank, int) else rank[: len(out_features)] for rank in RANKS]
    return LoraArena(in_features, out_features, ranks, dtype, torch.device("cpu"))


@pytest.mark.parametrize("case", CASES, ids="-".join)
@pytest.mark.parametrize(("in_features", "out_features"), SITES)
@pytest.mark.parametrize("with_bias", [False, True])
def test_one_call_is_two(
    case: tuple[str, str], in_features: int, out_features: tuple[int, ...], with_bias: bool
) -> None:
    kernels = CpuKernels(DTYPES[case[0]], case[1])
    lora = make_arena(in_features, out_features, kernels.dtype)
    weight = torch.randn(sum(out_features), in_features).to(kernels.dtype)
    linear = kernels.make_linear([weight], weight[:, 0].contiguous() if with_bias else None)
    for spans in BATCHES:
        check(kernels, linear, lora, spans)


def test_other_linears_than_ours() -> None:
    """oneDNN's, where a processor has AMX, and torch's."""
    dtype = torch.bfloat16
    lora = make_arena(64, (64,), dtype)
    weight = torch.randn(64, 64).to(dtype)
    check(CpuKernels(dtype), OneDnnLinear(weight, None), lora, BATCHES[1])
    check(ReferenceKernels(), PlainLinear(weight, None), lora, BATCHES[1])
