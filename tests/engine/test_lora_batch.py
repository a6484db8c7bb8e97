"""Plans name the right chunks, step after step, and tables are written no more than needed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.lora_arena import LoraArena
from inference_service.engine.lora_batch import LoraPlanner
from inference_service.engine.lora_tables import LoraTables
from kernels.layouts import CHUNK_ROWS, TILE_ROWS, LoraPlan

CPU = torch.device("cpu")
RANKS = [1, 16, 17, 40, 5, 30]
NUM_SLOTS = 3
LORA = LoraArena(8, (16, 8), RANKS, torch.float32, CPU)
SPANS = st.lists(
    st.tuples(st.sampled_from([None, *range(NUM_SLOTS)]), st.integers(1, 70)), min_size=1
)


def check_tables(plan: LoraPlan, adapter: int, index: int) -> None:
    """Adapter `index` of the plan is the arena's `adapter`, chunk for chunk."""
    resident = LORA.adapters[adapter]
    for part in LORA.site.slices:
        rank, first = plan.descriptors[index, 0, part.module].tolist()
        own_rank, own_first = resident.descriptors[0, part.module].tolist()
        num_offsets = 2 * -(-rank // CHUNK_ROWS)
        assert rank == own_rank == RANKS[adapter]
        got = plan.chunk_offsets[first : first + num_offsets]
        assert torch.equal(got, resident.chunk_offsets[own_first : own_first + num_offsets])


@settings(max_examples=60)
@given(
    steps=st.lists(
        st.tuples(st.permutations(range(len(RANKS))).map(lambda ids: ids[:NUM_SLOTS]), SPANS),
        min_size=1,
        max_size=8,
    )
)
def test_every_token_meets_its_adapter(
    steps: list[tuple[list[int], list[tuple[int | None, int]]]],
) -> None:
    planner = LoraPlanner(LoraTables(NUM_SLOTS, 1, 2, max(RANKS), CPU))
    for ids, spans in steps:
        chosen = [(None if place is None else ids[place], n) for place, n in spans]
        owners = [adapter for adapter, n in chosen for _ in range(n)]
        single = [n == 1 for _, n in chosen for _ in range(n)]
        plan = planner.plan([(None if a is None else LORA.adapters[a], n) for a, n in chosen])
        if plan is None:
            assert set(owners) == {None}
            continue
        met = {}
        for tile, (index, start, count) in enumerate(plan.tiles.tolist()):
            assert 0 < count <= TILE_ROWS
            for place in range(start, start + count):
                row = int(plan.rows[place])
                adapter = owners[row]
                assert adapter is not None
                assert single[row] == (place < plan.num_single_rows)
                assert plan.tile_ranks[tile] == RANKS[adapter]
                met[row] = adapter
                check_tables(plan, adapter, index)
        assert met == {row: adapter for row, adapter in enumerate(owners) if adapter is not None}


def test_tables_are_not_written_again_when_only_the_batch_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[str] = []
    write = LoraTables._write

    def watched(self: LoraTables, adapter: object, slot: int) -> None:
        written.append(adapter.digest)  # type: ignore[attr-defined]
        write(self, adapter, slot)  # type: ignore[arg-type]

    monkeypatch.setattr(LoraTables, "_write", watched)
    planner = LoraPlanner(LoraTables(NUM_SLOTS, 1, 2, max(RANKS), CPU))
    for ids in ([0, 1], [1, 0, 0], [1], [2, 1], [1, 2, 0], [3, 1], [1, 3, 2], [0]):
        planner.plan([(LORA.adapters[index], 1) for index in ids])
    names = [LORA.adapters[index].digest for index in (0, 1, 2, 3, 2, 0)]
    assert written == names  # 3 took the slot of 2, the longest unused, and 2 that of 0


def test_the_same_spans_are_the_same_plan() -> None:
    planner = LoraPlanner(LoraTables(NUM_SLOTS, 1, 2, max(RANKS), CPU))
    spans = [(LORA.adapters[0], 1), (None, 1)]
    plan = planner.plan(spans)
    assert planner.plan(list(spans)) is plan
    assert planner.plan([(LORA.adapters[0], 1)]) is not plan
    assert planner.plan([(None, 1)]) is None
