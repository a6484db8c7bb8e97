"""The migrations and the rows agree, in both directions."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect

from registry_service.bootstrap import migration_config
from registry_service.config import Settings
from registry_service.models import Base
from registry_service.repository.engine import make_engine


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    settings.data_dir.mkdir()
    engine = make_engine(settings.resolved_database_url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def config(connection: Connection) -> Config:
    config = migration_config()
    config.attributes["connection"] = connection
    return config


def test_migrations_make_what_the_rows_describe(connection: Connection, config: Config) -> None:
    command.upgrade(config, "head")
    command.check(config)
    made = set(inspect(connection).get_table_names()) - {"alembic_version"}
    assert made == set(Base.metadata.tables)


def test_every_migration_can_be_undone_and_done_again(
    connection: Connection, config: Config
) -> None:
    command.upgrade(config, "head")
    command.downgrade(config, "base")
    assert inspect(connection).get_table_names() == ["alembic_version"]
    command.upgrade(config, "+1")
    command.upgrade(config, "head")
    command.check(config)


def test_sqlite_is_set_up_for_servers(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/registry.db")
    with engine.connect() as connection:
        names = ("journal_mode", "foreign_keys")
        set_up = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]
    engine.dispose()
    assert set_up == ["wal", 1]
