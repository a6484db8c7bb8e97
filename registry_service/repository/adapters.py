"""Adapters and their allow-lists."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session, selectinload

from lorikeet.rpc.names import AdapterName
from registry_service.access import EVERY_TENANT
from registry_service.adapter_filter import AdapterFilter
from registry_service.models import AdapterRow, AllowedTenantRow, WarmAliasRow
from registry_service.repository.audit import begins_with


def get(session: Session, name: AdapterName) -> AdapterRow | None:
    return session.get(AdapterRow, (name.tenant, name.adapter))


def lock(session: Session, name: AdapterName) -> AdapterRow | None:
    """The adapter, held until the transaction ends: every change of it is made under this lock.

    An object that the session read before the lock is refreshed, or it would show the past.
    """
    return session.scalars(
        select(AdapterRow)
        .where(AdapterRow.tenant_id == name.tenant, AdapterRow.id == name.adapter)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()


def list_after(
    session: Session,
    tenant: str | None,
    *,
    wanted: AdapterFilter,
    shared_with: Collection[str] | None,
    show_deleted: bool,
    after: str | None,
    limit: int,
) -> Sequence[AdapterRow]:
    """Adapters of `tenant`, or of all, in name order; `after` is "tenant/id".

    With `shared_with`, only those that these may use.
    """
    query = select(AdapterRow)
    if tenant is not None:
        query = query.where(AdapterRow.tenant_id == tenant)
    if wanted.warm:
        # Few adapters are: their names are collected first, and each is then looked up.
        names = select(WarmAliasRow.tenant_id, WarmAliasRow.adapter_id).distinct()
        query = query.where(tuple_(AdapterRow.tenant_id, AdapterRow.id).in_(names))
    if wanted.prefix:
        query = query.where(begins_with(AdapterRow.id, wanted.prefix))
    if wanted.base_model:
        query = query.where(AdapterRow.base_model_id == wanted.base_model)
    for key, value in wanted.labels:
        query = query.where(AdapterRow.labels[key].as_string() == value)
    if shared_with is not None:
        entry = select(AllowedTenantRow.tenant_id).where(
            AllowedTenantRow.tenant_id == AdapterRow.tenant_id,
            AllowedTenantRow.adapter_id == AdapterRow.id,
            AllowedTenantRow.allowed_tenant_id.in_(shared_with),
        )
        query = query.where(AdapterRow.is_shared | entry.exists())
    if not show_deleted:
        query = query.where(AdapterRow.delete_time.is_(None))
    if after is not None:
        last = after.split("/", 1)
        query = query.where(tuple_(AdapterRow.tenant_id, AdapterRow.id) > tuple_(*last))
    query = query.options(
        selectinload(AdapterRow.aliases), selectinload(AdapterRow.warm_aliases)
    ).order_by(AdapterRow.tenant_id, AdapterRow.id)
    return session.scalars(query.limit(limit)).all()


def is_listed(session: Session, row: AdapterRow, tenant: str) -> bool:
    """Whether the allow-list names this tenant."""
    return session.get(AllowedTenantRow, (row.tenant_id, row.id, tenant)) is not None


def allowed_tenants(session: Session, row: AdapterRow) -> frozenset[str]:
    """The allow-list; "*" alone stands for every tenant there is."""
    if row.is_shared:
        return frozenset({EVERY_TENANT})
    return frozenset(
        session.scalars(
            select(AllowedTenantRow.allowed_tenant_id).where(
                AllowedTenantRow.tenant_id == row.tenant_id,
                AllowedTenantRow.adapter_id == row.id,
            )
        )
    )


def replace_allowed_tenants(session: Session, row: AdapterRow, tenants: Collection[str]) -> None:
    """Replaces the allow-list of a locked adapter; "*" alone is every tenant."""
    row.is_shared = EVERY_TENANT in tenants
    session.execute(
        delete(AllowedTenantRow).where(
            AllowedTenantRow.tenant_id == row.tenant_id, AllowedTenantRow.adapter_id == row.id
        )
    )
    session.add_all(
        AllowedTenantRow(tenant_id=row.tenant_id, adapter_id=row.id, allowed_tenant_id=tenant)
        for tenant in sorted(tenants)
        if tenant != EVERY_TENANT
    )
    row.policy_generation += 1
    row.policy_update_time = datetime.now(UTC)
    session.flush()
    session.expire(row, ["allowed_tenants"])


def replace_warm_aliases(session: Session, row: AdapterRow, aliases: Collection[str]) -> None:
    """Replaces what is kept warm of an adapter that is new, or locked."""
    session.execute(
        delete(WarmAliasRow).where(
            WarmAliasRow.tenant_id == row.tenant_id, WarmAliasRow.adapter_id == row.id
        )
    )
    session.add_all(
        WarmAliasRow(tenant_id=row.tenant_id, adapter_id=row.id, alias_id=alias)
        for alias in sorted(aliases)
    )
    session.flush()
    session.expire(row, ["warm_aliases"])


def touch(session: Session, row: AdapterRow) -> None:
    """A new etag and update time for a locked adapter whose fields or aliases changed."""
    row.generation += 1
    row.update_time = datetime.now(UTC)
    session.flush()
    session.expire(row, ["aliases"])
