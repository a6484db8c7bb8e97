"""The engine, and transactions run in bounded thread pools."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from lorikeet.rpc.errors import AbortedError, LorikeetError, UnavailableError

T = TypeVar("T")

_BEGIN = "sqlite_begin"
_RETRY_SECONDS = 1.0
_NUM_POSTGRES_WRITERS = 8


def make_engine(url: str, num_readers: int = 1) -> Engine:
    """An engine whose SQLite connections use WAL, foreign keys and explicit transactions.

    It keeps a connection for each thread that `Database` may run.
    """
    engine = create_engine(
        url,
        pool_size=num_readers + _NUM_POSTGRES_WRITERS,
        pool_pre_ping=not url.startswith("sqlite"),
    )
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later fails under contention: take the lock first.
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE"))


class Database:
    """Runs functions over a session: many readers; on SQLite one writer, whose queue is fair."""

    def __init__(self, engine: Engine, num_readers: int) -> None:
        self.engine = engine
        self._reader = engine.execution_options(**{_BEGIN: "BEGIN"})
        num_writers = 1 if engine.dialect.name == "sqlite" else _NUM_POSTGRES_WRITERS
        self._read_pool = ThreadPoolExecutor(num_readers, "registry-read")
        self._write_pool = ThreadPoolExecutor(num_writers, "registry-write")

    async def read(self, function: Callable[[Session], T]) -> T:
        """Runs `function` in a transaction that must not write."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._read_pool, _transact, self._reader, function)

    async def write(self, function: Callable[[Session], T]) -> T:
        """Runs `function` in a transaction that is committed unless it raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._write_pool, _transact, self.engine, function)

    def close(self) -> None:
        """Waits for running transactions and closes every connection."""
        self._read_pool.shutdown(cancel_futures=True)
        self._write_pool.shutdown(cancel_futures=True)
        self.engine.dispose()


def _transact(engine: Engine, function: Callable[[Session], T]) -> T:
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            return function(session)
    except LorikeetError:
        raise
    except IntegrityError as error:
        # Operations check first: what is left is a race that another transaction won.
        raise AbortedError(
            "another change came between: read the resource again and retry",
            reason="CONCURRENT_CHANGE",
        ) from error
    except OperationalError as error:
        raise UnavailableError(
            "the registry's database cannot be reached or is busy",
            reason="DATABASE_UNAVAILABLE",
            retry_after=_RETRY_SECONDS,
        ) from error
