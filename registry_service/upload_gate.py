"""One change of an upload at a time, finished even when the client that asked for it has gone."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


class UploadGate:
    """Spares this process from doing work twice. Between processes the database decides."""

    def __init__(self) -> None:
        # Locks that nobody holds or waits for vanish by themselves.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, upload: str, change: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs `change` to its end under the upload's lock."""
        lock = self._locks.get(upload)
        if lock is None:
            lock = self._locks[upload] = asyncio.Lock()
        return await self.finish(_locked(lock, change))

    async def finish(self, change: Coroutine[Any, Any, T]) -> T:
        """Runs `change` to its end, also when the caller is cancelled meanwhile."""
        return await asyncio.shield(self.begin(change))

    def begin(self, change: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs `change` to its end without being waited for."""
        task = asyncio.create_task(change)
        self._running.add(task)
        task.add_done_callback(self._finished)
        return task

    async def settle(self, seconds: float) -> None:
        """Waits for what is running, but not forever."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # read, so that a caller who has gone leaves no warning behind


async def _locked(lock: asyncio.Lock, change: Callable[[], Awaitable[T]]) -> T:
    async with lock:
        return await change()
