"""The first start: tables, the data directory's lock, and the first two principals."""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from lorikeet.rpc.names import PrincipalName
from registry_service.access import ACT_AS, ADMIN, EVERY_TENANT, USE, Grant, generate_api_key
from registry_service.config import Settings
from registry_service.models import TenantRow
from registry_service.repository import journal, principals, tenants
from registry_service.repository.database import Database
from registry_service.repository.engine import POSTGRESQL, DatabaseLimits, DatabaseUrlError

logger = logging.getLogger(__name__)

_TENANT = "platform"
_START_LOCK = 0x4C6F72696B656574  # "Lorikeet": other users of the database will not take this one
_START_LOCK_SECONDS = 120
_GRANTS = {
    "admin": [Grant(ADMIN, EVERY_TENANT)],
    "inference": [Grant(ACT_AS, EVERY_TENANT), Grant(USE, EVERY_TENANT)],
}


class StartError(RuntimeError):
    """Why the service cannot start; the message tells the operator what to do."""


def migration_config() -> Config:
    """Alembic's settings for the migrations that were installed with this service."""
    config = Config()
    config.set_main_option("script_location", str(resources.files("migrations")))
    return config


def open_database(settings: Settings) -> Database:
    """The database of the settings, not yet connected to; StartError for a URL that cannot be."""
    limits = DatabaseLimits(
        num_readers=settings.num_read_threads,
        num_writers=settings.num_write_threads,
        seconds=settings.database_seconds,
        connect_seconds=settings.database_connect_seconds,
    )
    try:
        return Database(settings.resolved_database_url, limits)
    except DatabaseUrlError as error:
        raise StartError(str(error)) from error


@contextmanager
def starting() -> Iterator[None]:
    """Turns a database that cannot be used into a StartError that says what to check."""
    try:
        yield
    except OperationalError as error:
        # Not the URL: parts of it that are no password may still be secret.
        raise StartError(
            f"the database cannot be used: {str(error.orig).strip()}\n"
            "check --database-url (LORIKEET_REGISTRY_DATABASE_URL), that the server runs and can "
            "be reached from here, and that its user may create tables in the database"
        ) from error


def serialise_starts(connection: Connection) -> None:
    """Makes processes that start together take turns until the transaction ends.

    On SQLite every writing transaction has the database to itself anyway.
    """
    if connection.dialect.name == POSTGRESQL:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_START_LOCK_SECONDS}s'")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_START_LOCK})")


def upgrade_database(engine: Engine) -> None:
    """Brings the tables to this version's state; nothing else ever creates one."""
    config = migration_config()
    with engine.begin() as connection:
        serialise_starts(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def lock_data_directory(data_dir: Path) -> int:
    """Refuses a second service on one directory; the lock ends when the process does."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StartError(f"another registry is running on {data_dir}") from error
    return descriptor


def create_first_principals(session: Session, credentials: Path, *, allowed: bool) -> None:
    """Creates `platform` with its admin and inference principals, once in a database's life."""
    if tenants.get(session, _TENANT) is not None:
        return
    if not allowed:
        raise StartError(
            "there are no credentials yet and others can reach this address: start once with "
            "--bootstrap-credentials, or on a loopback address"
        )
    now = datetime.now(UTC)
    session.add(TenantRow(id=_TENANT, display_name="Platform", create_time=now))
    session.flush()
    keys = {name: _create_principal(session, name) for name in _GRANTS}
    journal.record_change(session, journal.SYSTEM, "tenants.create", f"tenants/{_TENANT}")
    # Before the commit: credentials that no database knows are harmless, and the next start
    # replaces them; a database whose first keys were never written is lost.
    _write_private(credentials, json.dumps(keys, indent=2) + "\n")
    logger.info("the first API keys are in %s", credentials)


def _create_principal(session: Session, identifier: str) -> str:
    name = PrincipalName(_TENANT, identifier)
    principals.add(session, name, identifier.capitalize(), _GRANTS[identifier])
    key = generate_api_key()
    principals.add_key(session, name, key.key_id, key.secret_hash, None)
    journal.record_change(session, journal.SYSTEM, "principals.create", str(name))
    return key.secret


def _write_private(path: Path, text: str) -> None:
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
