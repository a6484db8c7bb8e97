"""Live adapters as resolution needs them, many at a time."""

from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import and_, func, select, tuple_
from sqlalchemy.orm import Session

from registry_service.models import (
    AdapterRow,
    AliasRow,
    AllowedTenantRow,
    TenantRow,
    VersionRow,
)

Key = tuple[str, str]  # an adapter's tenant and id


@dataclass
class Listed:
    """A live adapter: whom its allow-list names, and the live versions its aliases point at."""

    is_shared: bool
    allowed: list[str] = field(default_factory=list)
    versions: dict[str, VersionRow] = field(default_factory=dict)


def tenants(session: Session) -> frozenset[str]:
    """Those that there are."""
    return frozenset(session.scalars(select(TenantRow.id)))


def keys_after(session: Session, after: Key, limit: int) -> list[Key]:
    """The next live adapters, in order."""
    query = (
        select(AdapterRow.tenant_id, AdapterRow.id)
        .where(AdapterRow.delete_time.is_(None))
        .where(tuple_(AdapterRow.tenant_id, AdapterRow.id) > after)
        .order_by(AdapterRow.tenant_id, AdapterRow.id)
        .limit(limit)
    )
    return [(tenant, adapter) for tenant, adapter in session.execute(query)]


def read(session: Session, keys: Collection[Key], max_allowed: int) -> dict[Key, Listed]:
    """Those of the adapters that are live, without those whose allow-list is longer."""
    query = select(AdapterRow.tenant_id, AdapterRow.id, AdapterRow.is_shared).where(
        AdapterRow.delete_time.is_(None),
        tuple_(AdapterRow.tenant_id, AdapterRow.id).in_(keys),
    )
    found = {
        (tenant, adapter): Listed(shared) for tenant, adapter, shared in session.execute(query)
    }
    for key in _with_longer_lists(session, keys, max_allowed):
        found.pop(key, None)
    if found:
        _add_allowed(session, found)
        _add_versions(session, found)
    return found


def _with_longer_lists(session: Session, keys: Collection[Key], max_allowed: int) -> list[Key]:
    owner = (AllowedTenantRow.tenant_id, AllowedTenantRow.adapter_id)
    query = (
        select(*owner)
        .where(tuple_(*owner).in_(keys))
        .group_by(*owner)
        .having(func.count() > max_allowed)
    )
    return [(tenant, adapter) for tenant, adapter in session.execute(query)]


def _add_allowed(session: Session, found: dict[Key, Listed]) -> None:
    owner = (AllowedTenantRow.tenant_id, AllowedTenantRow.adapter_id)
    query = select(*owner, AllowedTenantRow.allowed_tenant_id).where(tuple_(*owner).in_(found))
    for tenant, adapter, allowed in session.execute(query):
        found[tenant, adapter].allowed.append(allowed)


def _add_versions(session: Session, found: dict[Key, Listed]) -> None:
    meant = and_(
        VersionRow.tenant_id == AliasRow.tenant_id,
        VersionRow.adapter_id == AliasRow.adapter_id,
        VersionRow.number == AliasRow.version,
    )
    query = (
        select(AliasRow.id, VersionRow)
        .join(VersionRow, meant)
        .where(VersionRow.delete_time.is_(None))
        .where(tuple_(AliasRow.tenant_id, AliasRow.adapter_id).in_(found))
    )
    for alias, version in session.execute(query):
        found[version.tenant_id, version.adapter_id].versions[alias] = version
