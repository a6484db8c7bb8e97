"""Versions and aliases."""

from datetime import UTC, datetime

from google.protobuf.empty_pb2 import Empty

from lorikeet.rpc.errors import FailedPreconditionError, NotFoundError
from lorikeet.rpc.names import AdapterName, AliasName, VersionName
from protos import registry_pb2 as pb
from registry_service.calls import Call
from registry_service.messages import LATEST, alias_message, version_message
from registry_service.models import AliasRow, VersionRow
from registry_service.operations.adapters import locked, readable
from registry_service.repository import adapters, versions
from registry_service.requests import invalid


def get_adapter_version(call: Call, request: pb.GetAdapterVersionRequest) -> pb.AdapterVersion:
    name = VersionName.parse(request.name)
    readable(call, AdapterName(name.tenant, name.adapter))
    return version_message(existing_version(call, name, or_deleted=True))


def list_adapter_versions(
    call: Call, request: pb.ListAdapterVersionsRequest
) -> pb.ListAdapterVersionsResponse:
    adapter = AdapterName.parse(request.parent, "parent")
    readable(call, adapter)
    page = call.pages.page(
        request,
        ["versions", adapter, request.show_deleted],
        lambda before, limit: versions.list_before(
            call.session, adapter, show_deleted=request.show_deleted, before=before, limit=limit
        ),
        lambda row: row.number,
    )
    return pb.ListAdapterVersionsResponse(
        versions=[version_message(row) for row in page.rows],
        next_page_token=page.next_page_token,
    )


def delete_adapter_version(
    call: Call, request: pb.DeleteAdapterVersionRequest
) -> pb.AdapterVersion:
    """Soft delete. `latest`, which the registry keeps, falls back to the version before."""
    name = VersionName.parse(request.name)
    adapter = AdapterName(name.tenant, name.adapter)
    call.require_publish(name.tenant, str(adapter))
    adapter_row = locked(call, adapter)
    row = existing_version(call, name)
    pointing = [a for a in versions.aliases_of_version(call.session, row) if a != LATEST]
    if pointing:
        raise FailedPreconditionError(
            f"{name} is what {', '.join(pointing)} points at: move or delete the alias first",
            reason="VERSION_IN_USE",
            metadata={"aliases": ",".join(pointing)},
        )
    row.delete_time = datetime.now(UTC)
    call.session.flush()
    _refresh_latest(call, adapter)
    adapters.touch(call.session, adapter_row)
    call.record("versions.delete", name)
    return version_message(row)


def _refresh_latest(call: Call, adapter: AdapterName) -> None:
    number = versions.highest_ready(call.session, adapter)
    if number is not None:
        versions.point_alias(call.session, adapter, LATEST, number)
        return
    latest = versions.get_alias(call.session, adapter, LATEST)
    if latest is not None:
        call.session.delete(latest)
        call.session.flush()


def set_alias(call: Call, request: pb.SetAliasRequest) -> pb.Alias:
    name = AliasName.parse(request.name)
    adapter = AdapterName(name.tenant, name.adapter)
    call.require_publish(name.tenant, str(adapter))
    _refuse_latest(name)
    if request.version < 1:
        raise invalid("version", "must be a version number, from 1")
    adapter_row = locked(call, adapter)
    existing_version(call, VersionName(name.tenant, name.adapter, str(request.version)))
    before = versions.get_alias(call.session, adapter, name.alias)
    previous = before.version if before else 0
    row = versions.point_alias(call.session, adapter, name.alias, request.version)
    adapters.touch(call.session, adapter_row)
    call.record("aliases.set", name, version=request.version, previous=previous)
    return alias_message(row)


def delete_alias(call: Call, request: pb.DeleteAliasRequest) -> Empty:
    name = AliasName.parse(request.name)
    adapter = AdapterName(name.tenant, name.adapter)
    call.require_publish(name.tenant, str(adapter))
    _refuse_latest(name)
    adapter_row = locked(call, adapter)
    call.session.delete(existing_alias(call, name))
    call.session.flush()
    adapters.touch(call.session, adapter_row)
    call.record("aliases.delete", name)
    return Empty()


def _refuse_latest(name: AliasName) -> None:
    if name.alias == LATEST:
        raise invalid("name", f"'{LATEST}' is kept by the registry: use another alias")


def existing_version(call: Call, name: VersionName, *, or_deleted: bool = False) -> VersionRow:
    """A version of an adapter that the caller was found to be allowed to see."""
    row = versions.get(call.session, name)
    if row is None or (row.delete_time is not None and not or_deleted):
        gone = "does not exist" if row is None else "is deleted"
        raise NotFoundError(
            f"{name} {gone}: list the adapter's versions to see what there is",
            reason="VERSION_NOT_FOUND",
            metadata={"resource": str(name)},
        )
    return row


def existing_alias(call: Call, name: AliasName) -> AliasRow:
    """An alias of an adapter that the caller was found to be allowed to see."""
    row = versions.get_alias(call.session, AdapterName(name.tenant, name.adapter), name.alias)
    if row is None:
        raise NotFoundError(
            f"{name} does not exist: get the adapter to see its aliases",
            reason="ALIAS_NOT_FOUND",
            metadata={"resource": str(name)},
        )
    return row
