"""Questions that are to be asked again, a bounded number at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

logger = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)

_MAX_AT_ONCE: Final = 16
_RETRY_SECONDS: Final = 0.2


class Reviews(Generic[Key]):
    """Each key is looked at after it was last due; many changes of one make one question.

    `look` returns whether it could find out: if not, the key is looked at again a little later.
    """

    def __init__(self, look: Callable[[Key], Awaitable[bool]]) -> None:
        self._look = look
        self._slots = asyncio.Semaphore(_MAX_AT_ONCE)
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._again: set[Key] = set()

    def due(self, key: Key) -> None:
        if key in self._tasks:
            self._again.add(key)  # what is being found out now may be older than the change
        else:
            self._tasks[key] = asyncio.create_task(self._run(key))

    def forget(self, key: Key) -> None:
        """Nobody needs to know any longer."""
        self._again.discard(key)
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for key in list(self._tasks):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: Key) -> None:
        try:
            while True:
                self._again.discard(key)
                async with self._slots:
                    is_answered = await self._answered(key)
                if not is_answered:
                    await asyncio.sleep(_RETRY_SECONDS)
                elif key not in self._again:
                    return
        finally:
            if self._tasks.get(key) is asyncio.current_task():
                del self._tasks[key]

    async def _answered(self, key: Key) -> bool:
        try:
            return await self._look(key)
        except Exception:  # our bug, which must not leave a revocation unseen
            logger.exception("a question could not be asked again")
            return False
