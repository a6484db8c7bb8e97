"""Many adapters at once: copies of one that was published through the registry, made in SQL."""

import psycopg
from psycopg import sql

from registry_service.models import Base

# Tables with a row per adapter, and the column that names it.
_TABLES = {
    "adapters": "id",
    "versions": "adapter_id",
    "aliases": "adapter_id",
    "allowed_tenants": "adapter_id",
}


def multiply(connection: "psycopg.Connection[tuple[object, ...]]", count: int) -> None:
    """Makes `bot-1` to `bot-<count - 1>` out of `bot-0`, and refreshes the planner's statistics."""
    for table, key in _TABLES.items():
        columns = Base.metadata.tables[table].columns.keys()
        values = [
            sql.SQL("'bot-' || serial") if column == key else sql.Identifier(column)
            for column in columns
        ]
        statement = sql.SQL(
            "INSERT INTO {table} ({columns}) SELECT {values} FROM {table}, "
            "generate_series(1, {last}) AS serial WHERE {key} = 'bot-0'"
        ).format(
            table=sql.Identifier(table),
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
            values=sql.SQL(", ").join(values),
            last=sql.Literal(count - 1),
            key=sql.Identifier(key),
        )
        connection.execute(statement)
    connection.execute("VACUUM ANALYZE")
