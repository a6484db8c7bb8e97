"""How the Triton LoRA kernels share out work: fixed grids, device counts, rows on their own."""

import dataclasses

import pytest
import torch

from benchmarks.lora_arena import LoraArena
from inference_service.engine.lora_batch import make_static_plan
from kernels.gpu.ops import TritonKernels
from kernels.layouts import LoraPlan
from kernels.lora_work import make_work
from kernels.reference import ReferenceKernels

CPU = torch.device("cpu")
KERNELS = TritonKernels()
Spans = list[tuple[int | None, int]]
DECODE: Spans = [(0, 1), (None, 1), (2, 1), (1, 1), (0, 1), (2, 1)]
MIXED: Spans = [(0, 1), (2, 40), (None, 3), (1, 1), (2, 1), (1, 2)]


@pytest.fixture(scope="module")
def lora() -> LoraArena:
    """Three slices, narrow and wide; ranks with and without a last full chunk; one not adapted."""
    torch.manual_seed(0)
    return LoraArena(64, (280, 32, 40), [5, 33, (16, 0, 20)], torch.float32, CPU)


def apply(
    lora: LoraArena, plan: LoraPlan, x: torch.Tensor, y: torch.Tensor, kernels: object = KERNELS
) -> torch.Tensor:
    assert isinstance(kernels, TritonKernels | ReferenceKernels)
    out = y.clone()
    kernels.lora_apply(out, x, lora.arena, plan, lora.site, 0)
    return out


@pytest.mark.parametrize("spans", [DECODE, MIXED], ids=["decode", "mixed"])
def test_single_tokens_and_runs_equal_the_reference(lora: LoraArena, spans: Spans) -> None:
    x, y = lora.random(sum(n for _, n in spans))
    plan = lora.plan(spans)
    got, want = apply(lora, plan, x, y), apply(lora, plan, x, y, ReferenceKernels())
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    rows = set(plan.rows.tolist())
    for row in set(range(x.shape[0])) - rows:  # the base's own
        assert torch.equal(got[row], y[row])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_single_tokens_in_half_precision(dtype: torch.dtype) -> None:
    """An input wide enough for several planes of partial sums; sums are float32 throughout."""
    torch.manual_seed(1)
    lora = LoraArena(1100, (48,), [3, 20], dtype, CPU)
    x, y = lora.random(3)
    plan = lora.plan([(1, 1), (0, 1), (1, 1)])
    got, want = apply(lora, plan, x, y), apply(lora, plan, x, y, ReferenceKernels())
    torch.testing.assert_close(got, want, rtol=2e-2, atol=2e-2)


def test_a_rank_of_512(lora: LoraArena) -> None:
    torch.manual_seed(2)
    wide = LoraArena(32, (48,), [512], torch.float32, CPU)
    x, y = wide.random(3)
    plan = wide.plan([(0, 1), (0, 2)])
    want = apply(wide, plan, x, y, ReferenceKernels())
    torch.testing.assert_close(apply(wide, plan, x, y), want, rtol=1e-4, atol=1e-4)


def test_a_row_is_the_same_to_the_bit_whatever_else_is_in_the_batch(lora: LoraArena) -> None:
    """Alone, between rows of its adapter, and beside runs of tokens."""
    x, y = lora.random(1)
    alone = apply(lora, lora.plan([(2, 1)]), x, y)
    for spans in (DECODE, MIXED):
        num_rows = sum(n for _, n in spans)
        others, added = lora.random(num_rows)
        (place,) = [
            sum(n for _, n in spans[:index]) for index, span in enumerate(spans) if span == (2, 1)
        ][-1:]
        others[place], added[place] = x[0], y[0]
        assert torch.equal(apply(lora, lora.plan(spans), others, added)[place], alone[0])


def test_a_run_is_the_same_to_the_bit_whatever_else_is_in_the_batch(lora: LoraArena) -> None:
    x, y = lora.random(5)
    alone = apply(lora, lora.plan([(1, 5)]), x, y)
    (others, added), (before, under) = lora.random(4), lora.random(1)
    mixed = apply(
        lora,
        lora.plan([(1, 1), (1, 5), (0, 4)]),
        torch.cat((before, x, others)),
        torch.cat((under, y, added)),
    )
    assert torch.equal(mixed[1:6], alone)


def test_work_of_fixed_capacity_is_as_work_made_to_measure(lora: LoraArena) -> None:
    """Filled with one plan after the other, a larger one first: nothing of it is left."""
    static = make_static_plan(lora.tables, 8)
    assert static.work is not None
    addresses = [static.work[0].buffer.data_ptr(), lora.tables.descriptors.data_ptr()]
    for spans in (DECODE, [(None, 1), (1, 1)], [(0, 1)] * 8):
        num_rows = len(spans)
        x, y = lora.random(8)
        plan = lora.plan(spans)
        static.work[0].fill(plan)
        got = apply(lora, static, x, y)
        assert torch.equal(got[:num_rows], apply(lora, plan, x[:num_rows], y[:num_rows]))
        assert torch.equal(got[num_rows:], y[num_rows:])
    assert addresses == [static.work[0].buffer.data_ptr(), lora.tables.descriptors.data_ptr()]


def test_a_plan_without_work_does_nothing(lora: LoraArena) -> None:
    x, y = lora.random(4)
    assert torch.equal(apply(lora, make_static_plan(lora.tables, 4), x, y), y)


def test_planes_are_neither_zeroed_nor_read_before_they_are_written(
    lora: LoraArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory from the allocator is not empty: here it is full of NaN."""

    def poisoned(*size: object, **options: object) -> torch.Tensor:
        return torch.full(*size, float("nan"), **options)  # type: ignore[call-overload,no-any-return]

    x, y = lora.random(sum(n for _, n in MIXED))
    plan = lora.plan(MIXED)
    plan = dataclasses.replace(plan, work=make_work(plan, CPU))
    want = apply(lora, plan, x, y)
    monkeypatch.setattr(torch, "empty", poisoned)
    got = apply(lora, plan, x, y)
    assert torch.equal(got, want)


def test_work_moves_only_the_chunks_an_adapter_has(lora: LoraArena) -> None:
    """Rank 5 is one chunk, 33 are three, whatever the highest rank of the batch is."""
    single, runs = make_work(lora.plan(MIXED), CPU)
    assert single.counts.tolist() == [3, 1 + 3 + 2]
    assert runs.counts.tolist() == [1 + 2, 3 + 2 * 2]
    assert [count for _, _, count in runs.tiles[:3].tolist()] == [2, 32, 8]
