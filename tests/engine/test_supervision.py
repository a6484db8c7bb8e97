"""Engines that hang, talk nonsense or die again and again: ended, and started again in time."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from inference_service.engine.client import EngineDiedError
from inference_service.engine.config import EngineConfig
from inference_service.engine.process import ChildEngineClient
from inference_service.engine.request import SamplingOptions, TokenOutput
from inference_service.engine.restart_backoff import RestartBackoff
from inference_service.engine.self_report import EngineStats
from inference_service.engine.step_counts import StepCounts
from inference_service.engine.watchdog import Patience, wait_until_stalled
from tests.engine import broken_engine

LONG = SamplingOptions(temperature=0.0, max_tokens=200)


def stats(num_running: int = 0, num_steps: int = 0) -> EngineStats:
    return EngineStats(0, 1, 1, 1, 0, 0, num_running, 0, num_steps, StepCounts().reading(), [])


async def read_to_end(stream: AsyncIterator[TokenOutput]) -> None:
    async for _ in stream:
        pass


class Restarts:
    """Waits for the engine to be up again."""

    def __init__(self) -> None:
        self._up = asyncio.Event()

    def changed(self, is_up: bool) -> None:
        if is_up:
            self._up.set()
        else:
            self._up.clear()

    async def wait(self) -> None:
        await asyncio.wait_for(self._up.wait(), 60)


@asynccontextmanager
async def running(
    model_path: Path, changed: Callable[[bool], None], patience: Patience, module: str = ""
) -> AsyncIterator[ChildEngineClient]:
    config = EngineConfig(str(model_path), memory_bytes=8 << 20, num_threads=1)
    modules = {"module": module} if module else {}
    client = ChildEngineClient(config, changed, patience=patience, **modules)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def test_an_engine_that_is_stopped_is_replaced_and_its_streams_end(model_path: Path) -> None:
    restarts = Restarts()
    async with running(model_path, restarts.changed, Patience(60, 1.0)) as client:
        stream = client.generate([2, 3], LONG, "", "tenant")
        await anext(stream)
        stopped = client.process_id
        assert stopped is not None
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(EngineDiedError) as died:
            await asyncio.wait_for(read_to_end(stream), 10)
        assert died.value.retry_at > time.monotonic()
        await restarts.wait()
        assert client.ends["stalled"] == 1
        assert not psutil.pid_exists(stopped)
        assert (await client.stats()).num_running == 0


async def test_whoever_asks_an_engine_that_was_just_killed_hears_that_it_died(
    model_path: Path,
) -> None:
    restarts = Restarts()
    async with running(model_path, restarts.changed, Patience()) as client:
        assert client.process_id is not None
        os.kill(client.process_id, signal.SIGKILL)
        while client.is_alive:  # it is not known at once that the process has ended
            with contextlib.suppress(EngineDiedError):
                await asyncio.wait_for(client.stats(), 10)
            await asyncio.sleep(0.001)
        await restarts.wait()


async def test_an_engine_that_cannot_be_understood_is_replaced(model_path: Path) -> None:
    restarts = Restarts()
    module = broken_engine.__name__
    async with running(model_path, restarts.changed, Patience(), module) as client:
        stream = client.generate([2, 3], LONG, "", "tenant")
        with pytest.raises(EngineDiedError):
            await asyncio.wait_for(anext(stream), 10)
        await restarts.wait()
        assert client.is_alive
        assert client.ends["unreadable"] == 1


async def test_a_start_that_takes_too_long_is_given_up(model_path: Path) -> None:
    with pytest.raises(EngineDiedError):
        async with running(model_path, lambda _: None, Patience(start_seconds=0.01)):
            pytest.fail("no engine starts so fast")


async def test_engines_that_answer_or_compute_are_left_alone() -> None:
    answers = iter([stats(1, 1), stats(1, 2), stats(1, 3), stats(1, 3), stats(0, 3), stats(0, 3)])
    silent = asyncio.Event()

    async def read() -> EngineStats:
        for answer in answers:
            return answer
        silent.set()
        await asyncio.Event().wait()
        raise AssertionError

    await asyncio.wait_for(wait_until_stalled(read, 0.1), 5)
    assert silent.is_set()


async def test_an_engine_that_answers_but_runs_no_step_is_stalled() -> None:
    async def read() -> EngineStats:
        return stats(num_running=1, num_steps=7)

    await asyncio.wait_for(wait_until_stalled(read, 0.1), 5)


def test_pauses_grow_to_a_limit_and_begin_anew_after_a_life() -> None:
    backoff = RestartBackoff(1.0, 8.0, 60.0, draw=lambda: 0.0)
    assert [backoff.next(1) for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert backoff.next(61) == 0.5
    assert RestartBackoff(1.0, 8.0, 60.0, draw=lambda: 0.999).next(0) == pytest.approx(1, abs=0.01)
