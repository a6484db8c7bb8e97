"""The database as the service sees it: transactions in bounded threads, for a bounded time."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from registry_service.repository.engine import SQLITE, DatabaseLimits, make_engine, reading
from registry_service.repository.transaction import Transaction, unavailable
from registry_service.worker_pool import QueueFullError, WorkerPool

T = TypeVar("T")

_MAX_WAITING = 1000


class Database:
    """Runs functions over a session: many readers; on SQLite one writer, whose queue is fair.

    Every error of the database itself is UNAVAILABLE with a time to retry after.
    """

    def __init__(self, url: str, limits: DatabaseLimits) -> None:
        self.engine = make_engine(url, limits)
        self._reader = reading(self.engine)
        self._seconds = limits.seconds
        num_writers = 1 if self.engine.dialect.name == SQLITE else limits.num_writers
        self._reads = self._pool(limits.num_readers, "registry-read")
        self._writes = self._pool(num_writers, "registry-write")

    async def read(self, function: Callable[[Session], T], seconds: float | None = None) -> T:
        """Runs `function` in a transaction that sees one moment and cannot write.

        `seconds` is what is left to the caller; it does not wait longer than that.
        """
        return await self._run(self._reads, self._reader, function, seconds)

    async def write(self, function: Callable[[Session], T], seconds: float | None = None) -> T:
        """Runs `function` in a transaction that is committed unless it raises.

        It may be run several times, when other transactions get in its way.
        """
        return await self._run(self._writes, self.engine, function, seconds)

    def close(self) -> None:
        """Waits for running transactions, which cannot hang, and closes every connection."""
        self._reads.close()
        self._writes.close()
        self.engine.dispose()

    def _pool(self, num_threads: int, name: str) -> WorkerPool:
        return WorkerPool(num_threads, _MAX_WAITING, self._seconds, name)

    async def _run(
        self,
        pool: WorkerPool,
        engine: Engine,
        function: Callable[[Session], T],
        seconds: float | None,
    ) -> T:
        limit = self._seconds if seconds is None else min(seconds, self._seconds)
        transaction = Transaction(engine, function, limit, writes=pool is self._writes)
        try:
            async with asyncio.timeout(limit):
                return await pool.run(transaction.run, transaction.cut)
        except TimeoutError as error:
            raise unavailable("the registry's database did not answer in time") from error
        except QueueFullError as error:
            raise unavailable("too many calls wait for the registry's database") from error
