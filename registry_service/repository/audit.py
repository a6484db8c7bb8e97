"""Reading the audit trail. Writing it: journal."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from registry_service.models import AuditRow

_LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True)
class AuditFilter:
    """What an event has to match. An empty text and None match everything.

    `tenants`: those whose events may be seen; None for all.
    """

    resource_prefix: str = ""
    principal: str = ""
    action: str = ""
    action_prefix: str = ""
    outcome: str = ""
    request_id: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    tenants: Collection[str] | None = None


def list_before(
    session: Session, wanted: AuditFilter, before: int | None, limit: int
) -> Sequence[AuditRow]:
    """Events that match, newest first, older than `before`."""
    query = select(AuditRow).where(*_conditions(wanted)).order_by(AuditRow.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditRow.id < before)
    return session.scalars(query).all()


def _conditions(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for column in (AuditRow.principal, AuditRow.action, AuditRow.outcome, AuditRow.request_id):
        value = getattr(wanted, column.key)
        if value:
            conditions.append(column == value)
    if wanted.resource_prefix:
        conditions.append(begins_with(AuditRow.resource, wanted.resource_prefix))
    if wanted.action_prefix:
        conditions.append(begins_with(AuditRow.action, wanted.action_prefix))
    if wanted.start_time is not None:
        conditions.append(AuditRow.time >= wanted.start_time)
    if wanted.end_time is not None:
        conditions.append(AuditRow.time < wanted.end_time)
    if wanted.tenants is not None:
        conditions.append(or_(*(_concerns(tenant) for tenant in sorted(wanted.tenants))))
    return conditions


def _concerns(tenant: str) -> ColumnElement[bool]:
    """What was done to a tenant, and what its people did or were refused outside of tenants."""
    name = f"tenants/{tenant}"
    on_it = or_(AuditRow.resource == name, begins_with(AuditRow.resource, f"{name}/"))
    elsewhere = or_(AuditRow.outcome == "denied", ~begins_with(AuditRow.resource, "tenants/"))
    return or_(on_it, and_(begins_with(AuditRow.principal, f"{name}/"), elsewhere))


def begins_with(column: InstrumentedAttribute[str], prefix: str) -> ColumnElement[bool]:
    """A range, which an index serves. Not LIKE: SQLite's ignores case, PostgreSQL's does not."""
    kept = prefix.rstrip(_LAST_CHARACTER)
    if not kept:
        return column >= prefix
    following = ord(kept[-1]) + 1
    if 0xD800 <= following <= 0xDFFF:  # no characters: halves of pairs in UTF-16
        following = 0xE000
    return and_(column >= prefix, column < kept[:-1] + chr(following))
