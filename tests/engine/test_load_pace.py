"""Loads rest in proportion to their work, and only where steps need the same processors."""

import time
from pathlib import Path

import pytest
import torch

from inference_service.engine import load_pace
from inference_service.engine.adapter_files import declared_files
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.load_pace import LoadPace
from inference_service.engine.page_copier import HostPageCopier
from inference_service.engine.request import Load, Loaded, SamplingOptions, Submit
from tests.engine.driver import run_to_end, wait_for


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each rest, which take no time."""
    seconds: list[float] = []
    monkeypatch.setattr(load_pace, "sleep", seconds.append)
    return seconds


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_rests_are_a_multiple_of_the_work_before_them(slept: list[float]) -> None:
    pace = LoadPace(fills_processors=True)
    rest = pace.begin()
    work(0.002)
    rest()
    assert not slept, "no step runs"
    pace.steps_run = True
    began = time.thread_time()
    for _ in range(3):
        work(0.002)
        rest()
    assert len(slept) == 3
    rests_per_work = 1 / load_pace.SHARE - 1
    assert 0.006 * rests_per_work <= sum(slept) <= (time.thread_time() - began) * rests_per_work


def test_a_short_piece_of_work_is_gone_on_with(slept: list[float]) -> None:
    pace = LoadPace(fills_processors=True)
    pace.steps_run = True
    rest = pace.begin()
    rest()
    assert not slept
    work(0.002)
    pace.begin()()
    assert not slept, "what another load did is not counted"


def test_where_a_processor_is_left_over_loads_never_rest(slept: list[float]) -> None:
    pace = LoadPace(fills_processors=False)
    pace.steps_run = True
    rest = pace.begin()
    work(0.002)
    rest()
    assert not slept


def test_large_copies_rest_too(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference_service.engine.page_copier._INLINE_BYTES", 0)
    monkeypatch.setattr(load_pace, "_SLICE_SECONDS", 0.0)
    pace = LoadPace(fills_processors=True)
    pace.steps_run = True
    arena, pages = torch.zeros(6, 1 << 20), torch.rand(5, 1 << 20)
    wait_for(HostPageCopier(arena, pace).copy(pages, [5, 4, 0, 1, 2]))
    assert torch.equal(arena[[5, 4, 0, 1, 2]], pages)
    assert len(slept) == 5


@pytest.mark.parametrize("num_processors", [1, 2])
def test_an_engine_says_whether_it_takes_all_processors(
    model_path: Path, num_processors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_pace, "_num_processors", lambda: num_processors)
    engine = Engine(EngineConfig(str(model_path), memory_bytes=8 << 20, num_threads=1))
    assert engine.info.fills_processors == (num_processors == 1)
    engine.close()


def test_a_load_rests_while_requests_run(
    model_path: Path,
    adapter_paths: dict[str, Path],
    slept: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load_pace, "_SLICE_SECONDS", 0.0)
    monkeypatch.setattr(load_pace, "_num_processors", lambda: 1)
    engine = Engine(EngineConfig(str(model_path), memory_bytes=8 << 20, num_threads=1))
    load(engine, "alone", adapter_paths["r3"])
    assert not slept
    engine.handle(Submit(1, [3, 4, 5], SamplingOptions(temperature=0.0, max_tokens=200)))
    engine.step()
    load(engine, "beside", adapter_paths["r3"])
    assert slept
    run_to_end(engine, [])
    slept.clear()
    load(engine, "after", adapter_paths["r3"])
    assert not slept
    engine.close()


def load(engine: Engine, digest: str, path: Path) -> None:
    """Steps until the adapter is there."""
    replies = engine.handle(Load(1, digest, str(path), declared_files(path)))
    while not any(isinstance(reply, Loaded) for reply in replies):
        replies = engine.step()
