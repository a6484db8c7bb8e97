"""Uploads: which files were declared for which adapter, what has arrived, what became of them."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry_service.models import UploadChunkRow, UploadRow


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


def committed_bytes(session: Session, upload: str) -> dict[str, int]:
    """How many bytes of each file are stored; files without any are left out."""
    total = func.sum(UploadChunkRow.size_bytes)
    query = select(UploadChunkRow.file_name, total).group_by(UploadChunkRow.file_name)
    rows = session.execute(query.where(UploadChunkRow.upload_id == upload))
    return {name: int(size) for name, size in rows}


def count_chunks(session: Session, upload: str) -> int:
    query = select(func.count()).select_from(UploadChunkRow)
    return session.scalars(query.where(UploadChunkRow.upload_id == upload)).one()


def chunks(session: Session, upload: str) -> Sequence[UploadChunkRow]:
    """The pieces of every file, each file's in order."""
    return session.scalars(
        select(UploadChunkRow)
        .where(UploadChunkRow.upload_id == upload)
        .order_by(UploadChunkRow.file_name, UploadChunkRow.offset)
    ).all()


def forget_chunks(session: Session, upload: str) -> list[str]:
    """Deletes the rows of an upload's pieces; returns the keys, whose objects nobody needs now."""
    return list(
        session.scalars(
            sql_delete(UploadChunkRow)
            .where(UploadChunkRow.upload_id == upload)
            .returning(UploadChunkRow.object_key)
        )
    )


def expired(session: Session, now: datetime, limit: int) -> list[str]:
    """Uploads past their time; committed ones are kept that long to answer retries."""
    query = select(UploadRow.id).where(UploadRow.expire_time <= now)
    return list(session.scalars(query.order_by(UploadRow.expire_time).limit(limit)))


def delete(session: Session, upload: str) -> None:
    session.execute(sql_delete(UploadRow).where(UploadRow.id == upload))


def known_keys(session: Session, keys: Sequence[str]) -> set[str]:
    """Those of `keys` that are pieces of some upload."""
    query = select(UploadChunkRow.object_key).where(UploadChunkRow.object_key.in_(keys))
    return set(session.scalars(query))
