"""How versions go: READY, DELETED, perhaps READY again, PURGED. Numbers are never given twice.

`latest`, which the registry keeps, is the highest READY version.
"""

from datetime import UTC, datetime
from typing import Any

from lorikeet.rpc.errors import FailedPreconditionError
from lorikeet.rpc.names import AdapterName, VersionName
from protos import registry_pb2 as pb
from registry_service.calls import Call
from registry_service.messages import LATEST, version_message, version_state
from registry_service.models import AdapterRow, VersionRow
from registry_service.operations.adapters import locked
from registry_service.operations.changed import difference
from registry_service.operations.versions import existing_version
from registry_service.repository import adapters, purges, versions


def delete_adapter_version(
    call: Call, request: pb.DeleteAdapterVersionRequest
) -> pb.AdapterVersion:
    """Soft delete. `latest` falls back to the version before."""
    name = VersionName.parse(request.name)
    adapter_row = _locked_adapter(call, name)
    row = existing_version(call, name)
    pointing = [a for a in versions.aliases_of_version(call.session, row) if a != LATEST]
    if pointing:
        raise FailedPreconditionError(
            f"{name} is what {', '.join(pointing)} points at: move or delete the alias first",
            reason="VERSION_IN_USE",
            metadata={"aliases": ",".join(pointing)},
        )
    before = _described(call, row)
    row.delete_time = datetime.now(UTC)
    return _finish(call, adapter_row, row, before, "versions.delete")


def undelete_adapter_version(
    call: Call, request: pb.UndeleteAdapterVersionRequest
) -> pb.AdapterVersion:
    """READY again; it becomes `latest` if no READY version is higher."""
    name = VersionName.parse(request.name)
    adapter_row = _locked_adapter(call, name)
    row = _deleted(call, name)
    before = _described(call, row)
    row.delete_time = None
    return _finish(call, adapter_row, row, before, "versions.undelete")


def purge_adapter_version(call: Call, request: pb.PurgeAdapterVersionRequest) -> pb.AdapterVersion:
    """Gives up the bytes; the row stays, so numbers stay dense."""
    name = VersionName.parse(request.name)
    adapter_row = _locked_adapter(call, name)
    row = _deleted(call, name)
    before = _described(call, row)
    purges.purge_versions(call.session, [row])
    return _finish(call, adapter_row, row, before, "versions.purge")


def _locked_adapter(call: Call, name: VersionName) -> AdapterRow:
    adapter = AdapterName(name.tenant, name.adapter)
    call.require_publish(name.tenant, str(adapter))
    return locked(call, adapter)


def _deleted(call: Call, name: VersionName) -> VersionRow:
    row = existing_version(call, name, or_deleted=True)
    if row.purge_time is not None:
        raise FailedPreconditionError(
            f"{name} is purged: its bytes are given up", reason="VERSION_PURGED"
        )
    if row.delete_time is None:
        raise FailedPreconditionError(f"{name} is not deleted", reason="VERSION_NOT_DELETED")
    return row


def _finish(
    call: Call, adapter_row: AdapterRow, row: VersionRow, before: dict[str, Any], action: str
) -> pb.AdapterVersion:
    adapter = AdapterName(row.tenant_id, row.adapter_id)
    call.session.flush()
    _refresh_latest(call, adapter)
    adapters.touch(call.session, adapter_row)
    name = VersionName(adapter.tenant, adapter.adapter, str(row.number))
    call.record(action, name, **difference(before, _described(call, row)))
    return version_message(row, call.retention)


def _refresh_latest(call: Call, adapter: AdapterName) -> None:
    number = versions.highest_ready(call.session, adapter)
    if number is not None:
        versions.point_alias(call.session, adapter, LATEST, number)
        return
    latest = versions.get_alias(call.session, adapter, LATEST)
    if latest is not None:
        call.session.delete(latest)
        call.session.flush()


def _described(call: Call, row: VersionRow) -> dict[str, Any]:
    latest = versions.get_alias(call.session, AdapterName(row.tenant_id, row.adapter_id), LATEST)
    return {
        "state": pb.VersionState.Name(version_state(row)).removeprefix("VERSION_STATE_"),
        "latest": latest and latest.version,
    }
