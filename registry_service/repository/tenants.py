"""Tenants."""

from collections.abc import Sequence

from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session

from registry_service.models import AdapterRow, AllowedTenantRow, GrantRow, TenantRow


def get(session: Session, tenant: str) -> TenantRow | None:
    return session.get(TenantRow, tenant)


def list_after(session: Session, after: str | None, limit: int) -> Sequence[TenantRow]:
    query = select(TenantRow).order_by(TenantRow.id).limit(limit)
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
