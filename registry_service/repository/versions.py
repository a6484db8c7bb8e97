"""Versions and the aliases that point at them; callers hold the adapter's lock to change them."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from lorikeet.rpc.names import AdapterName, VersionName
from registry_service.models import AdapterRow, AliasRow, VersionRow


def get(session: Session, name: VersionName) -> VersionRow | None:
    return session.get(VersionRow, (name.tenant, name.adapter, name.version))


def list_before(
    session: Session, adapter: AdapterName, *, show_deleted: bool, before: int | None, limit: int
) -> Sequence[VersionRow]:
    """Versions in descending order, below `before`."""
    query = select(VersionRow).where(
        VersionRow.tenant_id == adapter.tenant, VersionRow.adapter_id == adapter.adapter
    )
    if not show_deleted:
        query = query.where(VersionRow.delete_time.is_(None))
    if before is not None:
        query = query.where(VersionRow.number < before)
    return session.scalars(query.order_by(VersionRow.number.desc()).limit(limit)).all()


def any_kept(session: Session) -> VersionRow | None:
    """Some version, of whatever adapter, that should have its bytes."""
    return session.scalars(
        select(VersionRow).where(VersionRow.purge_time.is_(None)).limit(1)
    ).first()


def take_number(session: Session, adapter: AdapterName) -> int:
    """The next version number. A counter, not MAX+1: two writers can never get the same one."""
    return session.execute(
        update(AdapterRow)
        .where(AdapterRow.tenant_id == adapter.tenant, AdapterRow.id == adapter.adapter)
        .values(num_versions=AdapterRow.num_versions + 1)
        .returning(AdapterRow.num_versions)
        .execution_options(synchronize_session=False)
    ).scalar_one()


def count_kept(session: Session, adapter: AdapterName) -> int:
    """Versions that are not purged; deleted ones are still kept."""
    return session.scalars(
        select(func.count())
        .select_from(VersionRow)
        .where(
            VersionRow.tenant_id == adapter.tenant,
            VersionRow.adapter_id == adapter.adapter,
            VersionRow.purge_time.is_(None),
        )
    ).one()


def highest_ready(session: Session, adapter: AdapterName) -> int | None:
    """The highest number that is not deleted."""
    return session.scalar(
        select(func.max(VersionRow.number)).where(
            VersionRow.tenant_id == adapter.tenant,
            VersionRow.adapter_id == adapter.adapter,
            VersionRow.delete_time.is_(None),
        )
    )


def get_alias(session: Session, adapter: AdapterName, alias: str) -> AliasRow | None:
    return session.get(AliasRow, (adapter.tenant, adapter.adapter, alias))


def aliases_of_version(session: Session, version: VersionRow) -> list[str]:
    """Ids of the aliases that point at `version`."""
    return list(
        session.scalars(
            select(AliasRow.id)
            .where(
                AliasRow.tenant_id == version.tenant_id,
                AliasRow.adapter_id == version.adapter_id,
                AliasRow.version == version.number,
            )
            .order_by(AliasRow.id)
        )
    )


def point_alias(session: Session, adapter: AdapterName, alias: str, version: int) -> AliasRow:
    """Creates or moves an alias."""
    row = get_alias(session, adapter, alias)
    now = datetime.now(UTC)
    if row is None:
        row = AliasRow(
            tenant_id=adapter.tenant,
            adapter_id=adapter.adapter,
            id=alias,
            version=version,
            update_time=now,
        )
        session.add(row)
    elif row.version != version:
        row.version, row.update_time = version, now
    session.flush()
    return row
