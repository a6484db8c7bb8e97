"""The engine under pressure: preemption, eviction, aborts, refusals; pages always add up."""

from pathlib import Path
from typing import Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.request import (
    Abort,
    Load,
    Loaded,
    Pin,
    Refused,
    Reply,
    SamplingOptions,
    Submit,
    Unload,
    Unloaded,
    Unpin,
)
from tests.checkpoints import scale_adapter, write_adapter
from tests.engine.driver import Result, answer, run_to_end, stats_of

GREEDY = SamplingOptions(temperature=0.0, max_tokens=24)


Overlap = Literal["off", "on"]


def make_engine(
    model_path: Path, num_pages: int, max_lora_rank: int = 256, overlap: Overlap = "off"
) -> Engine:
    config = EngineConfig(
        str(model_path), dtype="float32", max_lora_rank=max_lora_rank, overlap=overlap
    )
    page_bytes = stats_of(Engine(config)).page_bytes
    return Engine(msgspec.structs.replace(config, memory_bytes=num_pages * page_bytes))


def load(engine: Engine, digest: str, path: Path) -> Reply:
    return answer(engine, Load(1, digest, str(path)))


def submits(count: int, digest: str = "", length: int = 20) -> list[Submit]:
    return [
        Submit(i, [2 + (7 * i + j) % 90 for j in range(length)], GREEDY, digest)
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def roomy(model_path: Path) -> dict[int, Result]:
    """What eight requests answer when memory is no concern."""
    return run_to_end(make_engine(model_path, 200), submits(8))


@pytest.mark.parametrize("overlap", ["off", "on"])
def test_preempted_requests_answer_the_same(
    model_path: Path, roomy: dict[int, Result], overlap: Overlap
) -> None:
    engine = make_engine(model_path, 7, overlap=overlap)
    assert run_to_end(engine, submits(8)) == roomy
    stats = stats_of(engine)
    assert stats.num_preemptions > 0
    assert stats.kv_pages == 0


def test_idle_adapters_make_room_and_come_back(
    model_path: Path, adapter_paths: dict[str, Path]
) -> None:
    sizes = {}
    engine = make_engine(model_path, 400)
    for name in ("r12", "r33", "rslora"):
        reply = load(engine, name, adapter_paths[name])
        assert isinstance(reply, Loaded)
        sizes[name] = reply.adapter.pages
    want = {name: run_to_end(engine, submits(2, name)) for name in sizes}

    tight = make_engine(model_path, max(sizes.values()) + 8)
    for name in sizes:
        load(tight, name, adapter_paths[name])
    for name in (*sizes, *sizes):
        assert run_to_end(tight, submits(2, name)) == want[name], name
        stats_of(tight)


def test_statistics_are_of_adapters_that_hold_memory_not_of_all_that_are_known(
    model_path: Path, adapter_paths: dict[str, Path]
) -> None:
    config = EngineConfig(
        str(model_path), dtype="float32", memory_bytes=4 << 20, host_memory_bytes=0, max_loras=1
    )
    engine = Engine(config)
    for name in ("r3", "r12"):
        load(engine, name, adapter_paths[name])
    assert [adapter.digest for adapter in stats_of(engine).adapters] == ["r12"]
    for command in submits(2, "r3"):
        engine.handle(command)
    found = {a.digest: (a.tier, a.running_requests) for a in stats_of(engine).adapters}
    assert found == {"r12": ("device", 0), "r3": ("disk", 2)}
    assert run_to_end(engine, [])[0].token_ids
    assert [adapter.digest for adapter in stats_of(engine).adapters] == ["r3"]


def test_requests_of_more_adapters_than_fit_all_answer(
    model_path: Path, adapter_paths: dict[str, Path]
) -> None:
    names = ["r1", "r3", "r12", "r33", "rslora", "partial"]
    roomy_engine, largest = make_engine(model_path, 600), 0
    for name in names:
        reply = load(roomy_engine, name, adapter_paths[name])
        assert isinstance(reply, Loaded)
        largest = max(largest, reply.adapter.pages)
    tight = make_engine(model_path, largest + 6)
    for name in names:
        load(tight, name, adapter_paths[name])
    commands = [
        Submit(i, [3 + i] * 10, GREEDY, names[i % len(names)]) for i in range(2 * len(names))
    ]
    assert run_to_end(tight, commands) == run_to_end(roomy_engine, commands)


def test_abort_frees_pages_at_once(model_path: Path, adapter_paths: dict[str, Path]) -> None:
    engine = make_engine(model_path, 300)
    load(engine, "r3", adapter_paths["r3"])
    for command in submits(4, "r3"):
        engine.handle(command)
    engine.step()
    assert stats_of(engine).kv_pages == 8
    for request_id in range(4):
        engine.handle(Abort(request_id))
    stats = stats_of(engine)
    assert (stats.kv_pages, stats.num_running, stats.num_waiting) == (0, 0, 0)
    assert engine.is_idle
    assert isinstance(engine.handle(Unload(9, "r3"))[0], Unloaded)
    assert stats_of(engine).adapter_pages == 0


def test_unload_refuses_while_in_use(model_path: Path, adapter_paths: dict[str, Path]) -> None:
    engine = make_engine(model_path, 300)
    load(engine, "r3", adapter_paths["r3"])
    engine.handle(submits(1, "r3")[0])
    refused = engine.handle(Unload(5, "r3"))[0]
    assert isinstance(refused, Refused)
    assert refused.reason == "ADAPTER_IN_USE"
    run_to_end(engine, [])
    assert isinstance(engine.handle(Unload(6, "r3"))[0], Unloaded)


def test_pins_hold_until_they_are_taken_back(
    model_path: Path, adapter_paths: dict[str, Path]
) -> None:
    engine = make_engine(model_path, 60)
    load(engine, "r3", adapter_paths["r3"])
    (pinned,) = engine.handle(Pin(1, "r3"))
    assert isinstance(pinned, Loaded)
    assert pinned.adapter.pinned
    refused = engine.handle(Unload(2, "r3"))[0]
    assert isinstance(refused, Refused)
    assert "unpin" in refused.message
    run_to_end(engine, submits(8, length=100))
    assert stats_of(engine).adapters[0].tier == "device"
    assert isinstance(engine.handle(Unpin(3, "r3"))[0], Loaded)
    assert isinstance(engine.handle(Unload(4, "r3"))[0], Unloaded)


def test_pins_leave_room_for_the_largest_request(
    model_path: Path, adapter_paths: dict[str, Path]
) -> None:
    engine = make_engine(model_path, 17)  # of which the longest request takes 16
    load(engine, "r1", adapter_paths["r1"])
    (refused,) = engine.handle(Pin(1, "r1"))
    assert isinstance(refused, Refused)
    assert refused.reason == "OUT_OF_PAGES"
    assert not stats_of(engine).adapters[0].pinned


def test_an_unknown_adapter_is_refused_not_ignored(model_path: Path) -> None:
    engine = make_engine(model_path, 20)
    results = run_to_end(engine, submits(1, "never-loaded"))
    assert results[0] == Result([], "", "ADAPTER_UNKNOWN")


def test_a_request_that_can_never_fit_is_refused(model_path: Path) -> None:
    engine = make_engine(model_path, 2)
    assert run_to_end(engine, submits(1, length=100))[0].refusal == "OUT_OF_PAGES"


def test_an_adapter_that_can_never_fit_is_refused(
    model_path: Path, adapter_paths: dict[str, Path]
) -> None:
    reply = load(make_engine(model_path, 3), "r64", adapter_paths["r64"])
    assert isinstance(reply, Refused)
    assert reply.reason == "OUT_OF_PAGES"


def test_a_broken_adapter_is_refused_by_name(
    model_path: Path, adapter_paths: dict[str, Path], tmp_path: Path
) -> None:
    engine = make_engine(model_path, 100)
    (tmp_path / "adapter_config.json").write_text(
        (adapter_paths["r3"] / "adapter_config.json").read_text()
    )
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not safetensors")
    reply = load(engine, "broken", tmp_path)
    assert isinstance(reply, Refused)
    assert reply.reason == "ADAPTER_INVALID"
    assert "adapter_model.safetensors" in reply.message
    assert run_to_end(engine, submits(1, "broken"))[0].refusal == "ADAPTER_INVALID"


def test_too_high_a_rank_is_refused(model_path: Path, tmp_path: Path) -> None:
    engine = make_engine(model_path, 300, max_lora_rank=8)
    reply = load(engine, "r9", write_adapter(tmp_path, model_path, 9))
    assert isinstance(reply, Refused)
    assert "rank 9" in reply.message


@pytest.mark.parametrize("overlap", ["off", "on"])
def test_weights_that_overflow_cost_only_their_own_request(
    model_path: Path, tmp_path: Path, roomy: dict[int, Result], overlap: Overlap
) -> None:
    path = scale_adapter(write_adapter(tmp_path, model_path, 4), 1e35)
    engine = make_engine(model_path, 300, overlap=overlap)
    load(engine, "huge", path)
    sampled = SamplingOptions(temperature=1.0, max_tokens=5)
    huge = [Submit(100, [5, 6, 7], GREEDY, "huge"), Submit(101, [5, 6, 7], sampled, "huge")]
    results = run_to_end(engine, [*huge, *submits(8)])
    for submit in huge:
        assert results.pop(submit.request_id) == Result([], "", "OUTPUT_NOT_FINITE")
    assert results == roomy
    assert stats_of(engine).kv_pages == 0


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    operations=st.lists(
        st.tuples(
            st.sampled_from(["submit", "abort", "step", "unload", "load"]), st.integers(0, 9)
        ),
        max_size=40,
    ),
    overlap=st.sampled_from(["off", "on"]),
)
def test_pages_add_up_whatever_happens(
    model_path: Path,
    adapter_paths: dict[str, Path],
    small_engines: dict[str, Engine],
    operations: list[tuple[str, int]],
    overlap: str,
) -> None:
    engine, names = small_engines[overlap], ["", "r1", "r3", "rslora"]
    for operation, number in operations:
        name = names[number % len(names)]
        if operation == "submit":
            engine.handle(Submit(number, [5] * (1 + 9 * number), GREEDY, name))
        elif operation == "abort":
            engine.handle(Abort(number))
        elif operation == "step":
            engine.step()
        elif operation == "unload" and name:
            engine.handle(Unload(99, name))
        elif operation == "load" and name:
            engine.handle(Load(99, name, str(adapter_paths[name])))
        stats_of(engine)
    for number in range(10):
        engine.handle(Abort(number))
    while not engine.is_idle:
        engine.step()
    assert stats_of(engine).kv_pages == 0


@pytest.fixture(scope="module")
def small_engines(model_path: Path) -> dict[str, Engine]:
    overlaps: tuple[Overlap, ...] = ("off", "on")
    return {overlap: make_engine(model_path, 24, overlap=overlap) for overlap in overlaps}
