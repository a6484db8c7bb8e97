"""What a scrape shows of the event loop and the engine, read at one moment."""

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from inference_service.engine.self_report import EngineInfo, EngineStats
from inference_service.engine.step_stats import Distribution

_WAIT_SECONDS: Final = 2.0


@dataclass(frozen=True)
class RequestSample:
    """A running request: its adapter, empty for the base model, and whether it has a token."""

    adapter_version: str
    is_running: bool


@dataclass(frozen=True)
class Sample:
    """`stats` is None while the engine is down; `num_tasks` are the event loop's.

    `disk_bytes` are by digest, `version_names` of those digests that have one here. `engine_ends`
    are counted by why the engine ended.
    """

    info: EngineInfo
    stats: EngineStats | None
    engine_ends: Mapping[str, int]
    is_serving: bool
    watch_age_seconds: float
    lease_seconds: float
    num_warm: int
    num_warm_ready: int
    num_waiting: int
    requests: Sequence[RequestSample]
    disk_bytes: Mapping[str, int]
    version_names: Mapping[str, str]
    num_tokens: int
    intervals: Distribution
    num_tasks: int


class Sampler:
    """Called from the thread of a scrape: the loop that serves requests is never waited for long.

    When it does not answer in time, the scrape shows the sample before.
    """

    def __init__(self, read: Callable[[], Coroutine[Any, Any, Sample]]) -> None:
        """To be made in the event loop in which `read` shall run."""
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._last: Sample | None = None

    def sample(self) -> Sample | None:
        """None before the first."""
        if self._loop.is_closed():
            return self._last
        reading = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
        try:
            self._last = reading.result(_WAIT_SECONDS)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            reading.cancel()
        return self._last
