"""The database's threads, queues and time limits; URLs; what the service says when it cannot be."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import grpc
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from lorikeet.rpc.errors import LorikeetError, UnavailableError
from registry_service.bootstrap import StartError, open_database
from registry_service.config import load_settings
from registry_service.repository.database import Database
from registry_service.repository.engine import DatabaseLimits, DatabaseUrlError, parse_url
from registry_service.service import RegistryService
from registry_service.worker_pool import QueueFullError, WorkerPool

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    limits = DatabaseLimits(num_readers=1, num_writers=1, seconds=0.3)
    database = Database(f"sqlite:///{tmp_path}/test.db", limits)
    await database.write(lambda session: session.execute(text("CREATE TABLE t (x INTEGER)")))
    yield database
    await asyncio.to_thread(database.close)


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgresql://u@h/d", "postgresql+psycopg"),
        ("postgres://u@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg"),
        ("sqlite:///x.db", "sqlite"),
    ],
)
def test_urls(given: str, driver: str) -> None:
    assert parse_url(given).drivername == driver


@pytest.mark.parametrize("given", ["mysql://u:geheim@h/d", "postgresql+pg8000://h/d", "geheim"])
def test_other_databases_are_refused(given: str) -> None:
    with pytest.raises(DatabaseUrlError, match="cannot be used") as refused:
        parse_url(given)
    assert "geheim" not in str(refused.value)


async def test_a_server_that_is_not_there_is_a_start_error(tmp_path: Path) -> None:
    url = "postgresql://user:geheim@127.0.0.1:1/registry"
    arguments = ["--listen", "127.0.0.1:0", "--data-dir", str(tmp_path), "--database-url", url]
    service = RegistryService(load_settings(arguments))
    with pytest.raises(StartError, match="check --database-url") as failed:
        await service.start()
    assert "geheim" not in str(failed.value)
    await service.stop()


def test_a_wrong_url_is_a_start_error(tmp_path: Path) -> None:
    settings = load_settings(["--data-dir", str(tmp_path), "--database-url", "mysql://h/d"])
    with pytest.raises(StartError, match="mysql"):
        open_database(settings)


async def test_reads_cannot_write_and_writes_can(database: Database) -> None:
    def insert(session: Session) -> None:
        session.execute(text("INSERT INTO t VALUES (1)"))

    with pytest.raises(UnavailableError):
        await database.read(insert)
    await database.write(insert)
    count = text("SELECT count(*) FROM t")
    assert await database.read(lambda session: session.scalar(count)) == 1


async def test_a_query_that_hangs_is_cut(database: Database) -> None:
    began = time.monotonic()
    with pytest.raises(UnavailableError) as failed:
        await database.read(lambda session: session.scalar(text(ENDLESS)))
    assert (failed.value.reason, failed.value.retry_after) == ("DATABASE_UNAVAILABLE", 1.0)
    # Its thread and connection are free again.
    assert await database.read(lambda session: session.scalar(text("SELECT 1"))) == 1
    assert time.monotonic() - began < 5


async def test_a_caller_waits_no_longer_than_it_has(database: Database) -> None:
    release = threading.Event()
    blocking = asyncio.create_task(database.read(lambda _: release.wait(0.2)))
    await asyncio.sleep(0.02)
    began = time.monotonic()
    with pytest.raises(LorikeetError) as failed:
        await database.read(lambda _: None, seconds=0.05)
    assert failed.value.code == grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - began < 0.2
    release.set()
    await blocking


async def test_the_queue_is_bounded_and_forgets_who_leaves() -> None:
    pool = WorkerPool(1, 2, 60.0, "test")
    release = threading.Event()
    ran: list[int] = []

    def ignore() -> None:
        raise AssertionError("nothing is overdue")

    first = asyncio.create_task(pool.run(release.wait, ignore))
    await asyncio.sleep(0.01)
    waiting = [
        asyncio.create_task(pool.run(partial(ran.append, number), ignore)) for number in range(2)
    ]
    await asyncio.sleep(0.01)
    with pytest.raises(QueueFullError):
        await pool.run(lambda: ran.append(9), ignore)
    waiting[0].cancel()
    await asyncio.sleep(0)
    late = asyncio.create_task(pool.run(lambda: ran.append(2), ignore))
    await asyncio.sleep(0.01)
    release.set()
    await asyncio.gather(first, waiting[1], late)
    assert ran == [1, 2]
    pool.close()


async def test_closing_does_not_wait_for_what_hangs(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/test.db", DatabaseLimits(seconds=60.0))
    hanging = asyncio.create_task(database.read(lambda session: session.scalar(text(ENDLESS))))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    database.close()
    assert time.monotonic() - began < 5
    with pytest.raises(UnavailableError):
        await hanging


async def test_what_was_committed_is_told_before_the_write_returns(database: Database) -> None:
    told: list[object] = []
    database.on_commit(told.append)
    await database.write(lambda session: session.execute(text("INSERT INTO t VALUES (1)")))
    assert told == [[]]

    def fail(_: Session) -> None:
        raise StartError("no")

    with pytest.raises(StartError):
        await database.write(fail)
    assert told == [[]]
