"""One change of an upload at a time, finished even when the client that asked for it has gone."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


class UploadGate:
    """Locks by upload id. Locks nobody holds or waits for vanish by themselves."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, upload: str, change: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs `change` under the upload's lock.

        A cancelled caller does not cancel `change`: its thread would go on writing while the next
        holder of the lock begins.
        """
        lock = self._locks.get(upload)
        if lock is None:
            lock = self._locks[upload] = asyncio.Lock()
        task = asyncio.create_task(_locked(lock, change))
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # read, so that a caller who has gone leaves no warning behind


async def _locked(lock: asyncio.Lock, change: Callable[[], Awaitable[T]]) -> T:
    async with lock:
        return await change()
