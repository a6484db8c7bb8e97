"""Migrations of a database that has something in it, and of one that several processes begin."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, func, inspect, select

from registry_service.bootstrap import migration_config
from registry_service.config import Settings
from registry_service.repository.engine import make_engine
from tests.registry.process import ROOT

NOW = datetime(2026, 11, 24, tzinfo=UTC)
PROFILE = {"stop": ["END"]}
ADAPTER = {"tenant_id": "acme", "adapter_id": "bot"}
STORAGE_PATH = "tenants/acme/sha256/00"
# One row of everything that 0002 knew and somebody would miss.
ROWS: list[tuple[str, dict[str, Any]]] = [
    ("tenants", {"id": "acme", "display_name": "Acme", "create_time": NOW}),
    (
        "principals",
        {"tenant_id": "acme", "id": "ann", "display_name": "", "create_time": NOW},
    ),
    (
        "grants",
        {"tenant_id": "acme", "principal_id": "ann", "permission": 1, "scope": "*"},
    ),
    (
        "api_keys",
        {
            "id": "k1",
            "tenant_id": "acme",
            "principal_id": "ann",
            "secret_hash": "00",
            "create_time": NOW,
            "expire_time": None,
        },
    ),
    (
        "base_models",
        {
            "id": "tiny",
            "display_name": "",
            "source": "example/tiny",
            "known_as": [],
            "revision": "r1",
            "config_digest": "sha256:11",
            "config_json": "{}",
            "create_time": NOW,
        },
    ),
    (
        "adapters",
        {
            "tenant_id": "acme",
            "id": "bot",
            "base_model_id": "tiny",
            "display_name": "",
            "description": "",
            "labels": {},
            "profile": PROFILE,
            "num_versions": 1,
            "generation": 2,
            "policy_generation": 1,
            "create_time": NOW,
            "update_time": NOW,
            "policy_update_time": NOW,
            "delete_time": None,
        },
    ),
    (
        "versions",
        {
            **ADAPTER,
            "number": 1,
            "digest": "sha256:00",
            "files": [],
            "rank": 2,
            "target_modules": [],
            "base_model_id": "tiny",
            "base_model_revision": "r1",
            "num_parameters": 8,
            "size_bytes": 99,
            "storage_path": STORAGE_PATH,
            "created_by": "ann",
            "create_time": NOW,
            "delete_time": None,
        },
    ),
    ("aliases", {**ADAPTER, "id": "latest", "version": 1, "update_time": NOW}),
    ("changes", {"revision": 1, "resource": "tenants/acme", "kind": "tenants.create", "time": NOW}),
    (
        "audit_events",
        {
            "time": NOW,
            "principal": "system",
            "action": "tenants.create",
            "resource": "tenants/acme",
            "outcome": "ok",
            "detail": {},
        },
    ),
]


@pytest.fixture
def url(settings: Settings) -> str:
    settings.data_dir.mkdir()
    return settings.resolved_database_url


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """To a database without tables."""
    engine = make_engine(url)
    with engine.begin() as connection:
        if inspect(connection).has_table("alembic_version"):
            command.downgrade(config_of(connection), "base")
        yield connection
    engine.dispose()


def config_of(connection: Connection) -> Config:
    config = migration_config()
    config.attributes["connection"] = connection
    return config


def contents(connection: Connection) -> dict[str, int]:
    """How many rows each table has that ROWS began."""
    tables = MetaData()
    tables.reflect(connection)
    count = func.count()
    return {
        name: connection.execute(select(count).select_from(tables.tables[name])).scalar_one()
        for name, _ in ROWS
    }


def row_of(connection: Connection, name: str) -> dict[str, Any]:
    tables = MetaData()
    tables.reflect(connection, only=[name])
    return dict(connection.execute(select(tables.tables[name])).mappings().one())


def test_rows_survive_every_step_up_and_down(connection: Connection) -> None:
    config = config_of(connection)
    command.upgrade(config, "0002")
    tables = MetaData()
    tables.reflect(connection)
    for name, values in ROWS:
        connection.execute(tables.tables[name].insert().values(values))
    expected = contents(connection)
    assert set(expected.values()) == {1}
    for _ in range(2):
        command.upgrade(config, "0003")
        assert contents(connection) == expected
        # What is new is filled from what was there.
        version = row_of(connection, "versions")
        assert (version["profile"], version["base_model_config_digest"]) == (PROFILE, "sha256:11")
        blob = row_of(connection, "blobs")
        assert (blob["storage_path"], blob["size_bytes"]) == (STORAGE_PATH, 99)
        command.upgrade(config, "head")
        assert contents(connection) == expected
        command.check(config)
        command.downgrade(config, "0003")
        assert contents(connection) == expected
        command.downgrade(config, "0002")
        assert contents(connection) == expected
        assert "blobs" not in inspect(connection).get_table_names()


UPGRADE = """
import sys
from registry_service.bootstrap import upgrade_database
from registry_service.repository.engine import make_engine
engine = make_engine(sys.stdin.readline().strip())
upgrade_database(engine)
engine.dispose()
"""


def test_processes_that_begin_one_database_together_all_succeed(url: str) -> None:
    engine = make_engine(url)
    with engine.begin() as connection:
        if inspect(connection).has_table("alembic_version"):
            command.downgrade(config_of(connection), "base")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(url + "\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
    with engine.begin() as connection:
        command.check(config_of(connection))
    engine.dispose()
