"""Blobs: the turns that commits and the collector take on stored bytes.

    (no row) ──want──▶ storing ──keep──▶ stored
                          │                 │      no version needs it, for long enough
                          └────────┬────────┘
                                 claim ──▶ deleting ──forget──▶ (no row)

Commits never touch a blob that is being deleted. A claim holds for a while, so that of two
collectors only one deletes; who comes later must claim anew.
"""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Exists, delete, exists, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from registry_service.models import BlobRow, VersionRow

STORING = "storing"
STORED = "stored"
DELETING = "deleting"


def get(session: Session, storage_path: str) -> BlobRow | None:
    return session.get(BlobRow, storage_path)


def want(session: Session, storage_path: str, tenant: str, size: int, now: datetime) -> bool:
    """Announces a commit of these bytes; False while the collector removes them."""
    row = _lock(session, storage_path)
    if row is None:
        _insert(session, storage_path, tenant, size, now)
        row = _lock(session, storage_path)
    if row is None or row.state == DELETING:
        return False
    row.touch_time = now
    return True


def keep(session: Session, storage_path: str, now: datetime) -> bool:
    """Marks bytes that a version of this transaction refers to; False when they were collected."""
    row = _lock(session, storage_path)
    if row is None or row.state == DELETING:
        return False
    row.state, row.touch_time = STORED, now
    return True


def begin_grace(session: Session, storage_paths: Collection[str], now: datetime) -> None:
    """The collector's grace begins anew for bytes that a version has just given up."""
    session.execute(
        update(BlobRow)
        .where(BlobRow.storage_path.in_(storage_paths), BlobRow.state != DELETING)
        .values(touch_time=now)
        .execution_options(synchronize_session=False)
    )


def garbage(session: Session, before: datetime, claimed_before: datetime, limit: int) -> list[str]:
    """Candidates for `claim`: not wanted since `before`, or claimed by a collector that stopped."""
    idle = (BlobRow.state != DELETING) & (BlobRow.touch_time < before) & ~_needed()
    stopped = (BlobRow.state == DELETING) & (BlobRow.touch_time < claimed_before)
    query = select(BlobRow.storage_path).where(or_(idle, stopped)).limit(limit)
    return list(session.scalars(query))


def claim(
    session: Session, storage_path: str, before: datetime, claimed_before: datetime, now: datetime
) -> bool:
    """Takes a blob for deletion, if it is garbage still."""
    row = _lock(session, storage_path)
    if row is None or row.touch_time >= (claimed_before if row.state == DELETING else before):
        return False
    # Asked after the lock: a version that was made meanwhile is seen now.
    if row.state != DELETING and session.scalar(
        select(exists().where(BlobRow.storage_path == storage_path, _needed()))
    ):
        return False
    row.state, row.touch_time = DELETING, now
    return True


def forget(session: Session, storage_path: str, claimed: datetime) -> None:
    """Ends a claim whose objects are gone."""
    session.execute(
        delete(BlobRow).where(
            BlobRow.storage_path == storage_path,
            BlobRow.state == DELETING,
            BlobRow.touch_time == claimed,
        )
    )


def _needed() -> Exists:
    return exists().where(
        VersionRow.storage_path == BlobRow.storage_path, VersionRow.purge_time.is_(None)
    )


def _lock(session: Session, storage_path: str) -> BlobRow | None:
    return session.scalars(
        select(BlobRow)
        .where(BlobRow.storage_path == storage_path)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()


def _insert(session: Session, storage_path: str, tenant: str, size: int, now: datetime) -> None:
    """Inserts a new row unless another commit of the same bytes just did."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    values = {
        "storage_path": storage_path,
        "tenant_id": tenant,
        "size_bytes": size,
        "state": STORING,
        "touch_time": now,
    }
    session.execute(dialect.insert(BlobRow).values(values).on_conflict_do_nothing())
