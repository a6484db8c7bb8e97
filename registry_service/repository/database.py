"""The database as the service sees it: transactions in bounded threads, for a bounded time."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy.orm import Session

from registry_service.repository.engine import (
    SQLITE,
    DatabaseLimits,
    asking,
    make_engine,
    reading,
)
from registry_service.repository.journal import Change
from registry_service.repository.transaction import Transaction, unavailable
from registry_service.worker_pool import QueueFullError, WorkerPool

T = TypeVar("T")

_MAX_WAITING = 1000
_FOLLOW_SECONDS = 2.0


class Database:
    """Runs functions over a session: many readers; on SQLite one writer, whose queue is fair.

    Every error of the database itself is UNAVAILABLE with a time to retry after.
    """

    def __init__(self, url: str, limits: DatabaseLimits) -> None:
        self.engine = make_engine(url, limits)
        self._reader = reading(self.engine)
        self._asker = asking(self.engine)
        self._seconds = limits.seconds
        num_writers = 1 if self.engine.dialect.name == SQLITE else limits.num_writers
        self._reads = self._pool(limits.num_readers, "registry-read")
        self._writes = self._pool(num_writers, "registry-write")
        self._follows = WorkerPool(1, 1, _FOLLOW_SECONDS, "registry-feed")
        self._committed: Callable[[Sequence[Change]], None] = _ignore

    async def read(self, function: Callable[[Session], T], seconds: float | None = None) -> T:
        """Runs `function` in a transaction that sees one moment and cannot write.

        `seconds` is what is left to the caller; it does not wait longer than that.
        """
        limit = self._limit(seconds)
        return await _run(self._reads, Transaction(self._reader, function, limit), limit)

    async def ask(self, function: Callable[[Session], T]) -> T:
        """As `read`, for a function of one query: two round trips to PostgreSQL less."""
        limit = self._seconds
        return await _run(self._reads, Transaction(self._asker, function, limit), limit)

    async def write(self, function: Callable[[Session], T], seconds: float | None = None) -> T:
        """Runs `function` in a transaction that is committed unless it raises.

        It may be run several times, when other transactions get in its way.
        """
        limit = self._limit(seconds)
        loop = asyncio.get_running_loop()

        def committed(changes: Sequence[Change]) -> None:
            # Before the caller is woken, and even if it has left.
            loop.call_soon_threadsafe(self._committed, changes)

        transaction = Transaction(self.engine, function, limit, committed)
        return await _run(self._writes, transaction, limit)

    async def follow(self, function: Callable[[Session], T]) -> T:
        """As `read`, in a thread of its own that no queue of calls keeps waiting."""
        transaction = Transaction(self._reader, function, _FOLLOW_SECONDS)
        return await _run(self._follows, transaction, _FOLLOW_SECONDS)

    def on_commit(self, committed: Callable[[Sequence[Change]], None]) -> None:
        """`committed` is called in the event loop before a write returns, with its changes."""
        self._committed = committed

    def close(self) -> None:
        """Waits for running transactions, cuts those that hang, and closes every connection."""
        self._reads.close()
        self._writes.close()
        self._follows.close()
        self.engine.dispose()

    def _pool(self, num_threads: int, name: str) -> WorkerPool:
        return WorkerPool(num_threads, _MAX_WAITING, self._seconds, name)

    def _limit(self, seconds: float | None) -> float:
        return self._seconds if seconds is None else min(seconds, self._seconds)


async def _run(pool: WorkerPool, transaction: Transaction[T], limit: float) -> T:
    try:
        async with asyncio.timeout(limit):
            return await pool.run(transaction.run, transaction.cut)
    except TimeoutError as error:
        raise unavailable("the registry's database did not answer in time") from error
    except QueueFullError as error:
        raise unavailable("too many calls wait for the registry's database") from error


def _ignore(_: Sequence[Change]) -> None:
    """Until somebody wants to know."""
