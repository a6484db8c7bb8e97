"""The change feed and the audit trail; every write appends to both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from registry_service.models import AuditRow, ChangeRow, CounterRow
from registry_service.repository.engine import POSTGRESQL

CHANNEL = "lorikeet_changes"
REVISION = "revision"


@dataclass(frozen=True)
class Origin:
    """Who did something, in which call."""

    principal: str
    request_id: str = ""
    peer: str = ""


SYSTEM = Origin("system")


@dataclass(frozen=True)
class Change:
    """One entry of the feed."""

    revision: int
    resource: str
    kind: str
    time: datetime


def recorded(session: Session) -> list[Change]:
    """The changes that this session has recorded; they happen when it commits."""
    changes: list[Change] = session.info.setdefault("changes", [])
    return changes


NOBODY = "unauthenticated"


def record_change(
    session: Session,
    origin: Origin,
    action: str,
    resource: str,
    /,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    **detail: Any,
) -> None:
    """Appends one write to the feed and to the audit trail, in the write's own transaction."""
    now = datetime.now(UTC)
    # The counter's row lock is held until commit, so revisions appear in order and without gaps.
    taken = session.execute(
        update(CounterRow)
        .where(CounterRow.name == REVISION)
        .values(value=CounterRow.value + 1)
        .returning(CounterRow.value)
    ).scalar_one()
    session.add(ChangeRow(revision=taken, resource=resource, kind=action, time=now))
    recorded(session).append(Change(taken, resource, action, now))
    if session.get_bind().dialect.name == POSTGRESQL:
        # Delivered at commit, to the processes that listen; only a hint: they read the table.
        session.execute(select(func.pg_notify(CHANNEL, str(taken))))
    row = _audit_row(origin, action, resource, "ok", detail)
    row.before, row.after = dict(before or {}), dict(after or {})
    session.add(row)


def record_access(
    session: Session, origin: Origin, action: str, resource: str, /, **detail: Any
) -> None:
    """Appends an act that changed nothing to the audit trail."""
    session.add(_audit_row(origin, action, resource, "ok", detail))


def record_denial(
    session: Session, origin: Origin, action: str, resource: str, /, **detail: Any
) -> None:
    """Appends a refusal to the audit trail."""
    session.add(_audit_row(origin, action, resource, "denied", detail))


def _audit_row(
    origin: Origin, action: str, resource: str, outcome: str, detail: dict[str, Any]
) -> AuditRow:
    return AuditRow(
        time=datetime.now(UTC),
        principal=origin.principal,
        request_id=origin.request_id,
        peer=origin.peer,
        action=action,
        resource=resource,
        outcome=outcome,
        detail=detail,
    )


def current_revision(session: Session) -> int:
    """The revision of the last committed write this transaction sees."""
    return session.execute(select(CounterRow.value).where(CounterRow.name == REVISION)).scalar_one()


def changes_after(session: Session, revision: int, limit: int) -> Sequence[ChangeRow]:
    return session.scalars(
        select(ChangeRow)
        .where(ChangeRow.revision > revision)
        .order_by(ChangeRow.revision)
        .limit(limit)
    ).all()
