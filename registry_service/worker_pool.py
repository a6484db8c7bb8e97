"""Threads for blocking work, behind a bounded queue that forgets callers who have left."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

_CLOSE_SECONDS = 1.0


class QueueFullError(Exception):
    """More callers wait than the pool allows."""


class WorkerPool:
    """Runs functions in at most `num_threads` threads; at most `max_waiting` callers wait.

    A cancelled caller leaves the queue at once. What runs already goes on, and keeps its thread:
    `overdue` is called, from another thread, if it does so for longer than `max_seconds`.
    """

    def __init__(self, num_threads: int, max_waiting: int, max_seconds: float, name: str) -> None:
        self._executor = ThreadPoolExecutor(num_threads, name)
        self._free = asyncio.Semaphore(num_threads)
        self._max_waiting = max_waiting
        self._max_seconds = max_seconds
        self._num_waiting = 0
        self._running: dict[Future[Any], Callable[[], None]] = {}

    async def run(self, work: Callable[[], T], overdue: Callable[[], None]) -> T:
        """The result of `work`; raises QueueFullError when too many wait already."""
        await self._acquire()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._max_seconds, overdue)
        try:
            future = self._executor.submit(work)
        except BaseException:
            self._release(timer)
            raise
        self._running[future] = overdue
        future.add_done_callback(partial(self._ended, loop, timer))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Waits for what runs, which is overdue after a second; nothing may be started any more."""
        timer = threading.Timer(_CLOSE_SECONDS, self._hurry)
        timer.start()
        self._executor.shutdown(cancel_futures=True)
        timer.cancel()

    def _hurry(self) -> None:
        for overdue in list(self._running.values()):
            overdue()

    async def _acquire(self) -> None:
        if self._free.locked() and self._num_waiting >= self._max_waiting:
            raise QueueFullError
        self._num_waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._num_waiting -= 1

    def _ended(
        self, loop: asyncio.AbstractEventLoop, timer: asyncio.TimerHandle, future: Future[Any]
    ) -> None:
        self._running.pop(future, None)
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._release, timer)

    def _release(self, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        self._free.release()
