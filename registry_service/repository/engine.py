"""Engines: one for SQLite, one for PostgreSQL; what the rest of the code may rely on in each."""

import math
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError

POSTGRESQL, SQLITE = "postgresql", "sqlite"

_BEGIN = "sqlite_begin"
_CUT = "cut"
_SOCKET = "socket"


class DatabaseUrlError(ValueError):
    """What is wrong with a database URL; its password is not in the message."""


@dataclass(frozen=True)
class DatabaseLimits:
    """How many connections there may be, and how many seconds one transaction may take."""

    num_readers: int = 1
    num_writers: int = 1
    seconds: float = 10.0
    connect_seconds: float = 3.0


def parse_url(url: str) -> URL:
    """`postgresql://` and `postgres://` mean psycopg 3; no other database than SQLite beside it."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseUrlError(
            "the database cannot be used: its URL must be like postgresql://USER@HOST/DATABASE"
        ) from error
    if parsed.drivername in ("postgres", POSTGRESQL):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("postgresql+psycopg", SQLITE, "sqlite+pysqlite"):
        raise DatabaseUrlError(
            f"the database cannot be used: its URL begins with {parsed.drivername}://, not with "
            "postgresql:// or sqlite://"
        )
    return parsed


def make_engine(url: str, limits: DatabaseLimits | None = None) -> Engine:
    """An engine for writing transactions; `reading` makes one for the others from it."""
    parsed = parse_url(url)
    limits = limits or DatabaseLimits()
    if parsed.get_backend_name() == SQLITE:
        return _sqlite_engine(parsed, limits)
    return _postgresql_engine(parsed, limits)


def reading(engine: Engine) -> Engine:
    """The same connections for transactions that see one moment and cannot write."""
    if engine.dialect.name == SQLITE:
        return engine.execution_options(**{_BEGIN: ("PRAGMA query_only=ON", "BEGIN")})
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def asking(engine: Engine) -> Engine:
    """The same connections for single queries, which see one moment without a transaction."""
    if engine.dialect.name == SQLITE:
        return reading(engine)
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def cutter(connection: Connection) -> Callable[[], None]:
    """A function by which another thread ends what this connection waits for."""
    cut: Callable[[], None] = connection.connection.info[_CUT]
    return cut


def _sqlite_engine(url: URL, limits: DatabaseLimits) -> Engine:
    engine = create_engine(url, pool_size=limits.num_readers + limits.num_writers + 1)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = connection.cursor()
    # The timeout first: another process may be switching the new file to WAL.
    for pragma in ("busy_timeout=10000", "journal_mode=WAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    record.info[_CUT] = connection.interrupt


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later fails under contention: take the lock first.
    writing = ("PRAGMA query_only=OFF", "BEGIN IMMEDIATE")
    for statement in connection.get_execution_options().get(_BEGIN, writing):
        connection.exec_driver_sql(statement)


def _postgresql_engine(url: URL, limits: DatabaseLimits) -> Engine:
    engine = create_engine(
        url,
        pool_size=limits.num_readers + limits.num_writers + 1,
        max_overflow=0,
        pool_timeout=limits.connect_seconds,
        isolation_level="READ COMMITTED",
        connect_args=_connect_arguments(url, limits),
        use_native_hstore=False,
    )
    event.listen(engine, "connect", _keep_socket)
    for ending in ("close", "close_detached"):
        event.listen(engine, ending, _drop_socket)
    return engine


def _connect_arguments(url: URL, limits: DatabaseLimits) -> dict[str, Any]:
    """The server gives up on its own too, so that no lock outlives a client that has gone."""
    milliseconds = math.ceil(limits.seconds * 1000)
    settings = {
        "statement_timeout": milliseconds,
        "lock_timeout": max(1, milliseconds // 2),
        "idle_in_transaction_session_timeout": 2 * milliseconds,
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return {
        "application_name": "lorikeet-registry",
        "connect_timeout": math.ceil(limits.connect_seconds),
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "options": f"{options} {url.query.get('options', '')}".strip(),
    }


def _keep_socket(connection: Any, record: Any) -> None:
    # A descriptor of our own: libpq may close its own at any moment, and the number would then
    # belong to somebody else.
    duplicate = socket.socket(fileno=os.dup(connection.fileno()))
    record.info[_SOCKET] = duplicate
    record.info[_CUT] = lambda: _shut(duplicate)


def _shut(duplicate: socket.socket) -> None:
    try:
        duplicate.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already


def _drop_socket(_connection: Any, record: Any = None) -> None:
    duplicate = record.info.pop(_SOCKET, None) if record is not None else None
    if duplicate is not None:
        duplicate.close()
