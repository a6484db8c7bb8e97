"""Uploads: which files were declared for which adapter, and what became of them."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry_service.models import UploadRow


def get(session: Session, upload: str) -> UploadRow | None:
    return session.get(UploadRow, upload)


def lock(session: Session, upload: str) -> UploadRow | None:
    """The upload as it is now, held until the transaction ends."""
    return session.scalars(
        select(UploadRow)
        .where(UploadRow.id == upload)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()


def count_open(session: Session, tenant: str, now: datetime) -> int:
    """Uploads of a tenant that are neither committed nor expired."""
    return session.execute(
        select(func.count())
        .select_from(UploadRow)
        .where(
            UploadRow.tenant_id == tenant,
            UploadRow.version.is_(None),
            UploadRow.expire_time > now,
        )
    ).scalar_one()


def expired(session: Session, now: datetime) -> Sequence[UploadRow]:
    """Every upload past its time; committed ones are kept that long to answer retries."""
    return session.scalars(select(UploadRow).where(UploadRow.expire_time <= now)).all()


def delete(session: Session, upload: str) -> None:
    session.execute(sql_delete(UploadRow).where(UploadRow.id == upload))


def all_ids(session: Session) -> Sequence[str]:
    return session.scalars(select(UploadRow.id)).all()
