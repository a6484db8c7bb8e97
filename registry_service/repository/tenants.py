"""Tenants."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.orm import Session

from registry_service.models import (
    AdapterRow,
    AllowedTenantRow,
    Base,
    BlobRow,
    GrantRow,
    TenantRow,
    UploadRow,
    VersionRow,
)


@dataclass(frozen=True)
class Usage:
    """What a tenant has: `bytes` stored, equal contents once, and declared by open uploads."""

    bytes: int
    adapters: int
    versions: int
    open_uploads: int


def get(session: Session, tenant: str) -> TenantRow | None:
    return session.get(TenantRow, tenant)


def lock(session: Session, tenant: str) -> TenantRow | None:
    """The tenant, held until the transaction ends; rows that refer to it may still be added."""
    return session.scalars(
        select(TenantRow)
        .where(TenantRow.id == tenant)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()


def list_after(
    session: Session, after: str | None, limit: int, *, among: Collection[str] | None = None
) -> Sequence[TenantRow]:
    """Tenants in id order; with `among`, only those."""
    query = select(TenantRow).order_by(TenantRow.id).limit(limit)
    if among is not None:
        query = query.where(TenantRow.id.in_(among))
    if after is not None:
        query = query.where(TenantRow.id > after)
    return session.scalars(query).all()


def missing(session: Session, tenants: Sequence[str]) -> list[str]:
    """Those of `tenants` that do not exist, sorted."""
    found = set(session.scalars(select(TenantRow.id).where(TenantRow.id.in_(tenants))))
    return sorted(set(tenants) - found)


def owns_adapters(session: Session, tenant: str) -> bool:
    """Whether it has any adapter, soft-deleted ones included."""
    found = session.scalar(select(exists().where(AdapterRow.tenant_id == tenant)))
    return bool(found)


def usage(session: Session, tenant: str) -> Usage:
    kept = (VersionRow.tenant_id == tenant, VersionRow.purge_time.is_(None))
    return Usage(
        bytes=count_bytes(session, tenant),
        adapters=count_adapters(session, tenant),
        versions=_count(session, VersionRow, *kept),
        open_uploads=_count(session, UploadRow, *_open_uploads(tenant)),
    )


def count_adapters(session: Session, tenant: str) -> int:
    """Adapters, deleted ones included until they are purged."""
    return _count(session, AdapterRow, AdapterRow.tenant_id == tenant)


def count_bytes(session: Session, tenant: str) -> int:
    """Bytes of distinct blobs, and those that open uploads have declared."""
    query = select(func.coalesce(func.sum(BlobRow.size_bytes), 0))
    stored = int(session.scalars(query.where(BlobRow.tenant_id == tenant)).one())
    declared = session.scalars(select(UploadRow.files).where(*_open_uploads(tenant)))
    return stored + sum(int(file["size_bytes"]) for files in declared for file in files)


def _open_uploads(tenant: str) -> tuple[ColumnElement[bool], ...]:
    return (
        UploadRow.tenant_id == tenant,
        UploadRow.version.is_(None),
        UploadRow.expire_time > datetime.now(UTC),
    )


def _count(session: Session, table: type[Base], *where: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(table).where(*where)
    return int(session.scalars(query).one())


def remove(session: Session, row: TenantRow) -> None:
    """Deletes a tenant and every trace that would give its rights to a later namesake."""
    listed = select(AllowedTenantRow.tenant_id).where(
        AllowedTenantRow.tenant_id == AdapterRow.tenant_id,
        AllowedTenantRow.adapter_id == AdapterRow.id,
        AllowedTenantRow.allowed_tenant_id == row.id,
    )
    session.execute(
        update(AdapterRow)
        .where(listed.exists())
        .values(policy_generation=AdapterRow.policy_generation + 1)
    )
    session.execute(delete(AllowedTenantRow).where(AllowedTenantRow.allowed_tenant_id == row.id))
    session.execute(delete(GrantRow).where(GrantRow.scope == f"tenants/{row.id}"))
    session.delete(row)
    session.flush()
