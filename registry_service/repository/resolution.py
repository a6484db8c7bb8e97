"""What resolution needs to know, in one question: it is asked for whatever memory does not hold."""

from dataclasses import dataclass

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from lorikeet.rpc.names import AdapterName, AliasName, TenantName, VersionName
from registry_service.models import (
    AdapterRow,
    AliasRow,
    AllowedTenantRow,
    CounterRow,
    TenantRow,
    VersionRow,
)
from registry_service.repository.journal import REVISION


@dataclass(frozen=True)
class Found:
    """An adapter, and the version that an alias or a number of it stands for, as of `revision`.

    `is_listed`: the allow-list has the tenant that asks, or every tenant and this one exists.
    `aliased`: the number the alias points at. `version` is None where there is none.
    """

    revision: int
    is_live: bool
    is_shared: bool
    is_listed: bool
    aliased: int | None
    version: VersionRow | None


def find(session: Session, tenant: TenantName, selector: AliasName | VersionName) -> Found:
    """Nothing of it is an error: absent rows are None or False."""
    adapter = AdapterName(selector.tenant, selector.adapter)
    if isinstance(selector, VersionName):
        alias, is_meant = "", VersionRow.number == selector.version
    else:
        alias, is_meant = selector.alias, VersionRow.number == AliasRow.version
    listed = select(AllowedTenantRow.allowed_tenant_id).where(
        AllowedTenantRow.tenant_id == adapter.tenant,
        AllowedTenantRow.adapter_id == adapter.adapter,
        AllowedTenantRow.allowed_tenant_id == tenant.tenant,
    )
    existing = select(TenantRow.id).where(TenantRow.id == tenant.tenant)
    of_adapter = (AdapterRow.tenant_id == adapter.tenant, AdapterRow.id == adapter.adapter)
    of_alias = (AliasRow.tenant_id == adapter.tenant, AliasRow.adapter_id == adapter.adapter)
    of_version = (VersionRow.tenant_id == adapter.tenant, VersionRow.adapter_id == adapter.adapter)
    query = (
        select(
            CounterRow.value,
            AdapterRow.is_shared,
            AdapterRow.delete_time,
            listed.exists(),
            existing.exists(),
            AliasRow.version,
            VersionRow,
        )
        .select_from(CounterRow)
        .outerjoin(AdapterRow, and_(*of_adapter))
        .outerjoin(AliasRow, and_(*of_alias, AliasRow.id == alias))
        .outerjoin(VersionRow, and_(*of_version, is_meant))
        .where(CounterRow.name == REVISION)
    )
    revision, is_shared, delete_time, is_named, exists, aliased, version = session.execute(
        query
    ).one()
    return Found(
        revision=revision,
        is_live=is_shared is not None and delete_time is None,
        is_shared=bool(is_shared),
        # An agent may name any tenant, but "*" lists only those that there are.
        is_listed=exists if is_shared else is_named,
        aliased=aliased,
        version=version,
    )
