"""How Alembic reaches the database: the service hands its connection, the command line a URL."""

import os

from alembic import context
from sqlalchemy import Connection

from registry_service.models import Base
from registry_service.repository.engine import make_engine


def _migrate(connection: Connection) -> None:
    # SQLite cannot alter a table in place: batch mode copies it.
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _main() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        _migrate(given)
        return
    engine = make_engine(os.environ["LORIKEET_REGISTRY_DATABASE_URL"])
    with engine.begin() as connection:
        _migrate(connection)
    engine.dispose()


if context.is_offline_mode():
    raise SystemExit("offline SQL scripts are not supported: give the database's URL")
_main()
