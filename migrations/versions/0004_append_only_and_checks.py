"""Audit events that nobody can change, indexes to find them by, checks of values, byte order.

SQLite can add a CHECK only by rebuilding a table, which would take with it what refers to the
table: there a trigger does the checking. A later rebuild of a table has to make its triggers anew.

Revision ID: 0004
"""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | Sequence[str] | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# (table, name, condition); "{0}" stands before each column: "NEW." in a trigger.
_CHECKS = (
    ("tenants", "quota", "coalesce({0}max_bytes, 0) >= 0 AND coalesce({0}max_adapters, 0) >= 0"),
    ("tenants", "limits", "coalesce({0}max_versions, 0) >= 0 AND coalesce({0}max_rank, 0) >= 0"),
    ("adapters", "counters", "{0}num_versions >= 0 AND {0}generation >= 1"),
    ("versions", "number", "{0}number >= 1"),
    ("versions", "rank", "{0}rank >= 1"),
    ("versions", "sizes", "{0}size_bytes >= 0 AND {0}num_parameters >= 0"),
    ("versions", "state", "{0}purge_time IS NULL OR {0}delete_time IS NOT NULL"),
    ("aliases", "version", "{0}version >= 1"),
    ("upload_chunks", "sizes", '{0}"offset" >= 0 AND {0}size_bytes >= 1'),
    ("blobs", "size", "{0}size_bytes >= 0"),
    ("blobs", "state", "{0}state IN ('storing', 'stored', 'deleting')"),
    ("changes", "revision", "{0}revision >= 1"),
    ("audit_events", "outcome", "{0}outcome IN ('ok', 'denied')"),
)
_INDEXES = (["resource", "id"], ["principal", "id"], ["action", "id"], ["time"], ["request_id"])
_REFUSAL = "audit events are only ever added"


def upgrade() -> None:
    for columns in _INDEXES:
        op.create_index(op.f(_index_name(columns)), "audit_events", columns)
    if op.get_bind().dialect.name == "postgresql":
        _upgrade_postgresql()
    else:
        _upgrade_sqlite()


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _downgrade_postgresql()
    else:
        _downgrade_sqlite()
    for columns in reversed(_INDEXES):
        op.drop_index(op.f(_index_name(columns)), "audit_events")


def _index_name(columns: Sequence[str]) -> str:
    return f"ix_audit_events_{'_'.join(columns)}"


def _upgrade_postgresql() -> None:
    _set_collations("C")
    for table, name, condition in _CHECKS:
        op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition.format(""))
    op.execute(
        "CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_events_append_only"
        " BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
    )


def _downgrade_postgresql() -> None:
    op.execute("DROP TRIGGER audit_events_append_only ON audit_events")
    op.execute("DROP FUNCTION refuse_audit_change()")
    for table, name, _ in reversed(_CHECKS):
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
    _set_collations("default")


def _set_collations(collation: str) -> None:
    """Bytes decide the order of every text, as in SQLite, and indexes serve ranges of prefixes."""
    for table, column, kind in _text_columns():
        op.execute(f'ALTER TABLE {table} ALTER "{column}" TYPE {kind} COLLATE "{collation}"')


def _text_columns() -> Iterator[tuple[str, str, str]]:
    found = op.get_bind().execute(
        sa.text(
            "SELECT table_name, column_name, character_maximum_length"
            " FROM information_schema.columns JOIN information_schema.tables"
            " USING (table_schema, table_name)"
            " WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'"
            " AND data_type IN ('character varying', 'text') AND table_name <> 'alembic_version'"
        )
    )
    for table, column, length in found.all():
        yield table, column, "text" if length is None else f"varchar({length})"


def _upgrade_sqlite() -> None:
    for table, name, condition in _CHECKS:
        for event in ("INSERT", "UPDATE"):
            op.execute(
                f"CREATE TRIGGER {_trigger_name(table, name, event)} BEFORE {event} ON {table}"
                f" WHEN NOT ({condition.format('NEW.')})"
                f" BEGIN SELECT RAISE(ABORT, 'CHECK failed: {table} {name}'); END"
            )
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_events_no_{event.lower()} BEFORE {event} ON audit_events"
            f" BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        )
    # INSERT OR REPLACE deletes without the DELETE trigger.
    op.execute(
        "CREATE TRIGGER audit_events_no_replace BEFORE INSERT ON audit_events"
        " WHEN EXISTS (SELECT 1 FROM audit_events WHERE id = NEW.id)"
        f" BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    )


def _downgrade_sqlite() -> None:
    for name in ("no_replace", "no_delete", "no_update"):
        op.execute(f"DROP TRIGGER audit_events_{name}")
    for table, name, _ in reversed(_CHECKS):
        for event in ("UPDATE", "INSERT"):
            op.execute(f"DROP TRIGGER {_trigger_name(table, name, event)}")


def _trigger_name(table: str, name: str, event: str) -> str:
    return f"ck_{table}_{name}_{event.lower()}"
