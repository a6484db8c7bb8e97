"""Notices an engine that is alive and makes no progress."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from inference_service.engine.self_report import EngineStats

# Several short waits instead of a long one: when this process was stopped itself, as with the
# whole machine, one of them is over at once, and the engine still has the others.
_NUM_LOOKS = 4


@dataclass(frozen=True)
class Patience:
    """With an engine that starts, and with one that has started, in seconds."""

    start_seconds: float = 1800.0
    stall_seconds: float = 60.0


async def wait_until_stalled(
    read_stats: Callable[[], Awaitable[EngineStats]], seconds: float
) -> None:
    """Returns once the engine has answered nothing for `seconds`, or run no step for its batch.

    A step may take as long as that, and no longer.
    """
    pause = seconds / _NUM_LOOKS
    num_misses, num_steps = 0, -1
    while num_misses < _NUM_LOOKS:
        stats = await _answer(read_stats, pause)
        if stats is None:
            num_misses += 1
            continue
        is_stuck = stats.num_running > 0 and stats.num_steps == num_steps
        num_misses, num_steps = num_misses + 1 if is_stuck else 0, stats.num_steps
        await asyncio.sleep(pause)


async def _answer(
    read_stats: Callable[[], Awaitable[EngineStats]], seconds: float
) -> EngineStats | None:
    """None when there is none in time."""
    try:
        async with asyncio.timeout(seconds):
            return await read_stats()
    except TimeoutError:
        return None
