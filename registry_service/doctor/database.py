"""The database: does it answer, is it new enough, are its tables this version's."""

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from lorikeet.rpc.checklist import CheckFailed, Checklist
from registry_service.bootstrap import migration_config
from registry_service.config import Settings
from registry_service.repository.engine import make_engine

_OLDEST = 15
_ADVICE = (
    ("password authentication failed", "correct the user or password in database_url"),
    ("does not exist", "create the database or role, or correct database_url"),
    ("Connection refused", "start PostgreSQL, or correct host and port in database_url"),
    ("could not translate host name", "correct the host in database_url, or the DNS"),
    ("certificate", "give sslrootcert=FILE in database_url, of the authority that signed it"),
    ("unable to open database file", "correct data_dir, and its owner"),
)


def check_database(checklist: Checklist, settings: Settings) -> None:
    try:
        engine = make_engine(settings.resolved_database_url)
    except (SQLAlchemyError, ValueError) as error:
        failure = CheckFailed(str(error), "correct database_url")
        checklist.run("database.reach", "database", lambda: _raise(failure))
        return
    checklist.run("database.reach", "database", lambda: _version(engine))
    checklist.run(
        "database.migrations", "database", lambda: _migrations(engine), ["database.reach"]
    )
    engine.dispose()


def _raise(failure: CheckFailed) -> str:
    raise failure


def _version(engine: Engine) -> str:
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                return f"SQLite {connection.scalar(text('SELECT sqlite_version()'))}"
            number = int(connection.scalar(text("SHOW server_version_num")))
    except SQLAlchemyError as error:
        raise _unreachable(error) from error
    if number // 10000 < _OLDEST:
        raise CheckFailed(
            f"PostgreSQL {number // 10000} is too old", f"use PostgreSQL {_OLDEST} or newer"
        )
    return f"PostgreSQL {number // 10000}.{number % 10000}"


def _unreachable(error: SQLAlchemyError) -> CheckFailed:
    cause = str(error.orig if isinstance(error, DBAPIError) else error).strip()
    line = cause.splitlines()[-1]
    for sign, advice in _ADVICE:
        if sign in cause:
            return CheckFailed(line, advice)
    return CheckFailed(line, "is the database up, and is database_url right?")


def _migrations(engine: Engine) -> str:
    scripts = ScriptDirectory.from_config(migration_config())
    head = scripts.get_current_head()
    with engine.connect() as connection:
        current = _current(connection)
    if current == head:
        return f"at {head}, as this version needs"
    if current is None:
        raise CheckFailed("there are no tables yet", "start the registry once: it makes them")
    known = {
        script.revision
        for script in ScriptDirectory.from_config(migration_config()).walk_revisions()
    }
    if current not in known:
        raise CheckFailed(
            f"the tables are at {current}, which this version does not know",
            "a newer registry has run here: install that version",
        )
    raise CheckFailed(
        f"the tables are at {current}, this version needs {head}",
        "start this version of the registry: it brings them up to date",
    )


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
