"""The LoRA kernels for real: dtype x rank x batch x popularity, and the same bits every time."""

import dataclasses

import pytest
import torch

from benchmarks.lora_arena import LoraArena
from inference_service.engine.lora_batch import make_static_plan
from kernels.gpu.ops import TritonKernels
from kernels.layouts import LoraPlan
from kernels.reference import ReferenceKernels
from tests.gpu.compare import assert_near, moved

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
RANKS = {"1": [1], "8": [8], "16": [16], "512": [512], "mixed": [8, 16, 33, 64, 1, 128]}
POPULARITY = ["distinct", "identical", "uniform", "zipf", "skewed"]
Spans = list[tuple[int | None, int]]


@pytest.fixture(params=[torch.float32, torch.float16, torch.bfloat16], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    chosen: torch.dtype = request.param
    return chosen


def adapter_of(popularity: str, row: int, num_rows: int, num_adapters: int) -> int:
    if popularity == "identical":
        return 0
    if popularity == "uniform":
        return row * 7919 % num_adapters
    if popularity == "zipf":
        return int(num_adapters ** (row / num_rows)) - 1
    if popularity == "skewed":
        return 0 if row < num_rows - 1 else num_adapters - 1
    return row % num_adapters


def make_arena(ranks: list[int], dtype: torch.dtype, device: torch.device) -> LoraArena:
    """A fused site of uneven slices, one of them narrower than a block of columns."""
    torch.manual_seed(0)
    return LoraArena(2048, (1024, 200, 264), ranks, dtype, device)


def on_the_cpu(plan: LoraPlan) -> LoraPlan:
    tables = (plan.descriptors.cpu(), plan.chunk_offsets.cpu())
    return dataclasses.replace(plan, descriptors=tables[0], chunk_offsets=tables[1], work=None)


def apply(lora: LoraArena, plan: LoraPlan, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    out = y.clone()
    TritonKernels().lora_apply(out, x, lora.arena, plan, lora.site, 0)
    return out


def check(lora: LoraArena, spans: Spans) -> None:
    """What was added, not the sum: large outputs would hide it."""
    x, y = lora.random(sum(n for _, n in spans))
    plan = lora.plan(spans)
    got = apply(lora, plan, x, torch.zeros_like(y))
    want = torch.zeros(y.shape)
    ReferenceKernels().lora_apply(
        want,
        moved(x, CPU, torch.float32),
        moved(lora.arena, CPU, torch.float32),
        on_the_cpu(plan),
        moved(lora.site, CPU),
        0,
    )
    assert_near(got, want)
    base_only = torch.ones(len(y), dtype=torch.bool)
    base_only[plan.rows.long()] = False
    assert not got.cpu()[base_only].any()


@pytest.mark.parametrize("popularity", POPULARITY)
@pytest.mark.parametrize("num_rows", [1, 7, 64])
@pytest.mark.parametrize("ranks", RANKS)
def test_decode(
    ranks: str, num_rows: int, popularity: str, dtype: torch.dtype, device: torch.device
) -> None:
    lora = make_arena(RANKS[ranks], dtype, device)
    num_adapters = len(RANKS[ranks])
    chosen = [adapter_of(popularity, i, num_rows, num_adapters) for i in range(num_rows)]
    spans: Spans = [(adapter, 1) for adapter in chosen]
    check(lora, [*spans, (None, 1), *spans[:3]])


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("lengths", [(2,), (33, 1, 300), (1024, 5)], ids=str)
def test_prefill(
    ranks: str, lengths: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    """With decoding tokens and base-only ones in between."""
    lora = make_arena(RANKS[ranks], dtype, device)
    num_adapters = len(RANKS[ranks])
    spans: Spans = [(i % num_adapters, length) for i, length in enumerate(lengths)]
    check(lora, [(0, 1), *spans, (None, 7), (num_adapters - 1, 1)])


def test_a_row_is_the_same_to_the_bit_whatever_else_is_in_the_batch(
    dtype: torch.dtype, device: torch.device
) -> None:
    lora = make_arena(RANKS["mixed"], dtype, device)
    x, y = lora.random(70)
    for adapter in range(len(RANKS["mixed"])):
        alone = apply(lora, lora.plan([(adapter, 1)]), x[:1], y[:1])
        for others in ([(adapter, 1)] * 63, [(i % 6, 1) for i in range(30)], [(1, 40)]):
            spans: Spans = [(adapter, 1), *others]
            num_rows = sum(n for _, n in spans)
            assert torch.equal(apply(lora, lora.plan(spans), x[:num_rows], y[:num_rows])[:1], alone)
        run = apply(lora, lora.plan([(adapter, 37)]), x[:37], y[:37])
        mixed = apply(lora, lora.plan([(adapter, 37), (0, 1), (2, 32)]), x, y)
        assert torch.equal(mixed[:37], run)


def test_two_runs_are_equal_to_the_bit(dtype: torch.dtype, device: torch.device) -> None:
    lora = make_arena(RANKS["mixed"], dtype, device)
    spans: Spans = [*[(i % 6, 1) for i in range(64)], (3, 700), (4, 33)]
    x, y = lora.random(sum(n for _, n in spans))
    first = apply(lora, lora.plan(spans), x, y)
    for _ in range(20):
        assert torch.equal(apply(lora, lora.plan(spans), x, y), first)


def test_a_graph_replays_any_batch(dtype: torch.dtype, device: torch.device) -> None:
    """Recorded once without work; what is in the lists later is what is done."""
    lora = make_arena(RANKS["mixed"], dtype, device)
    kernels, plan = TritonKernels(), make_static_plan(lora.tables, 16)
    x, y = lora.random(16)
    kernels.lora_apply(y.clone(), x, lora.arena, plan, lora.site, 0)  # compiles
    out = torch.empty_like(y)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out.copy_(y)
        kernels.lora_apply(out, x, lora.arena, plan, lora.site, 0)
    assert plan.work is not None
    for spans in ([(i % 6, 1) for i in range(16)], [(5, 1)], [(None, 1), (2, 1), (2, 1)]):
        x.normal_()
        plan.work[0].fill(lora.plan(spans))
        graph.replay()
        want = apply(lora, lora.plan(spans), x[: len(spans)], y[: len(spans)])
        assert torch.equal(out[: len(spans)], want)
        assert torch.equal(out[len(spans) :], y[len(spans) :])
