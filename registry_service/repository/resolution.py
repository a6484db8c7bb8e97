"""What resolution needs to know, in one question: it is asked for whatever memory does not hold."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, String, and_, bindparam, select, tuple_
from sqlalchemy.orm import Session

from lorikeet.rpc.names import AliasName, TenantName, VersionName
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
    names = {"tenant": selector.tenant, "adapter": selector.adapter, "asking": tenant.tenant}
    if isinstance(selector, VersionName):
        query, names["alias"], number = _BY_NUMBER, "", {"number": selector.version}
    else:
        query, names["alias"], number = _BY_ALIAS, selector.alias, {}
    row = session.execute(query, names | number).one()
    revision, is_shared, delete_time, is_named, exists, aliased, version = row
    return Found(
        revision=revision,
        is_live=is_shared is not None and delete_time is None,
        is_shared=bool(is_shared),
        # An agent may name any tenant, but "*" lists only those that there are.
        is_listed=exists if is_shared else is_named,
        aliased=aliased,
        version=version,
    )


def _query(
    is_meant: ColumnElement[bool],
) -> Select[int, bool, datetime | None, bool, bool, int, VersionRow]:
    """Always one row; `is_meant` says which of the adapter's versions is looked for."""
    adapter = tuple_(bindparam("tenant"), bindparam("adapter"))
    asking = bindparam("asking", type_=String)
    listed = select(AllowedTenantRow.allowed_tenant_id).where(
        tuple_(AllowedTenantRow.tenant_id, AllowedTenantRow.adapter_id) == adapter,
        AllowedTenantRow.allowed_tenant_id == asking,
    )
    existing = select(TenantRow.id).where(TenantRow.id == asking)
    of_alias = tuple_(AliasRow.tenant_id, AliasRow.adapter_id) == adapter
    of_version = tuple_(VersionRow.tenant_id, VersionRow.adapter_id) == adapter
    return (
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
        .outerjoin(AdapterRow, tuple_(AdapterRow.tenant_id, AdapterRow.id) == adapter)
        .outerjoin(AliasRow, and_(of_alias, AliasRow.id == bindparam("alias")))
        .outerjoin(VersionRow, and_(of_version, is_meant))
        .where(CounterRow.name == REVISION)
    )


# Put together once: that takes longer than the database needs to answer.
_BY_ALIAS = _query(VersionRow.number == AliasRow.version)
_BY_NUMBER = _query(VersionRow.number == bindparam("number"))
