"""Forgetting what was deleted. Bytes stay for a grace, then the collector takes them.

`*_expired` are for the sweeper: whatever was deleted before a time, at most `limit` adapters at
once. They take every adapter's lock before they append to the feed, and pass by adapters that are
locked: the next sweep comes.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, delete, exists, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from lorikeet.rpc.names import AdapterName, VersionName
from registry_service.models import (
    AdapterRow,
    AliasRow,
    AllowedTenantRow,
    UploadChunkRow,
    UploadRow,
    VersionRow,
)
from registry_service.repository import blobs, journal

_PARTS = (AliasRow, AllowedTenantRow, UploadRow, VersionRow)


def has_open_uploads(session: Session, name: AdapterName) -> bool:
    """Whether uploads have bytes that still need their rows to be found."""
    return bool(session.scalar(select(_open_uploads(name.tenant, name.adapter))))


def purge_adapter(session: Session, name: AdapterName) -> None:
    """Removes a locked, deleted adapter without open uploads, and everything that is part of it."""
    of_adapter = (VersionRow.tenant_id == name.tenant, VersionRow.adapter_id == name.adapter)
    kept = select(VersionRow.storage_path).where(*of_adapter, VersionRow.purge_time.is_(None))
    blobs.begin_grace(session, session.scalars(kept).all(), datetime.now(UTC))
    for part in _PARTS:
        session.execute(
            delete(part).where(part.tenant_id == name.tenant, part.adapter_id == name.adapter)
        )
    session.execute(
        delete(AdapterRow).where(AdapterRow.tenant_id == name.tenant, AdapterRow.id == name.adapter)
    )


def purge_expired_adapters(session: Session, before: datetime, limit: int) -> list[AdapterName]:
    """Purges adapters that were deleted before a time, and records it; returns their names."""
    rows = session.scalars(
        select(AdapterRow)
        .where(
            AdapterRow.delete_time < before,
            ~_open_uploads(AdapterRow.tenant_id, AdapterRow.id),
        )
        .order_by(AdapterRow.tenant_id, AdapterRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    names = [AdapterName(row.tenant_id, row.id) for row in rows]
    for name in names:
        purge_adapter(session, name)
    for name in names:
        journal.record_change(session, journal.SYSTEM, "adapters.purge", str(name))
    return names


def purge_expired_versions(session: Session, before: datetime, limit: int) -> list[VersionName]:
    """Purges versions of at most `limit` adapters that were deleted before a time."""
    expired = (VersionRow.delete_time < before, VersionRow.purge_time.is_(None))
    owner = (VersionRow.tenant_id == AdapterRow.tenant_id, VersionRow.adapter_id == AdapterRow.id)
    locked = session.execute(
        select(AdapterRow.tenant_id, AdapterRow.id)
        .where(exists().where(*owner, *expired))
        .order_by(AdapterRow.tenant_id, AdapterRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    rows = _versions_of([(tenant, adapter) for tenant, adapter in locked], session, *expired)
    purge_versions(session, rows)
    names = [VersionName(row.tenant_id, row.adapter_id, str(row.number)) for row in rows]
    for name in names:
        journal.record_change(session, journal.SYSTEM, "versions.purge", str(name))
    return names


def purge_versions(session: Session, rows: Sequence[VersionRow]) -> None:
    """Gives up the bytes of deleted versions whose adapters are locked."""
    now = datetime.now(UTC)
    for row in rows:
        row.purge_time = now
    session.flush()
    blobs.begin_grace(session, [row.storage_path for row in rows], now)


def _versions_of(
    owners: Sequence[tuple[str, str]], session: Session, *where: ColumnElement[bool]
) -> Sequence[VersionRow]:
    of_owners = tuple_(VersionRow.tenant_id, VersionRow.adapter_id).in_(owners)
    return session.scalars(select(VersionRow).where(of_owners, *where)).all()


def _open_uploads(
    tenant: str | InstrumentedAttribute[str], adapter: str | InstrumentedAttribute[str]
) -> ColumnElement[bool]:
    has_chunks = exists().where(UploadChunkRow.upload_id == UploadRow.id)
    return exists().where(
        UploadRow.tenant_id == tenant,
        UploadRow.adapter_id == adapter,
        or_(UploadRow.version.is_(None), has_chunks),
    )
