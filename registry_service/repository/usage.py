"""Numbers for operators: bytes by tenant, uploads that are open."""

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry_service.models import BlobRow, UploadRow


def bytes_by_tenant(session: Session) -> dict[str, int]:
    """Stored bytes; a tenant that stores nothing is left out."""
    rows = session.execute(
        select(BlobRow.tenant_id, func.sum(BlobRow.size_bytes)).group_by(BlobRow.tenant_id)
    )
    return {tenant: int(size) for tenant, size in rows}


def num_open_uploads(session: Session) -> int:
    return session.execute(
        select(func.count())
        .select_from(UploadRow)
        .where(UploadRow.version.is_(None), UploadRow.expire_time > datetime.now(UTC))
    ).scalar_one()
