"""Versions and aliases, read. How versions go: version_lifecycle; aliases are set in aliases."""

from lorikeet.rpc.errors import NotFoundError
from lorikeet.rpc.names import AdapterName, AliasName, VersionName
from protos import registry_pb2 as pb
from registry_service.calls import Call
from registry_service.messages import version_message
from registry_service.models import AliasRow, VersionRow
from registry_service.operations.adapters import readable
from registry_service.repository import versions


def get_adapter_version(call: Call, request: pb.GetAdapterVersionRequest) -> pb.AdapterVersion:
    name = VersionName.parse(request.name)
    readable(call, AdapterName(name.tenant, name.adapter))
    return version_message(existing_version(call, name, or_deleted=True), call.retention)


def list_adapter_versions(
    call: Call, request: pb.ListAdapterVersionsRequest
) -> pb.ListAdapterVersionsResponse:
    adapter = AdapterName.parse(request.parent, "parent")
    readable(call, adapter)
    page = call.pages.message_page(
        request,
        ["versions", adapter, request.show_deleted],
        lambda before, limit: versions.list_before(
            call.session, adapter, show_deleted=request.show_deleted, before=before, limit=limit
        ),
        lambda row: row.number,
        lambda row: version_message(row, call.retention),
    )
    return pb.ListAdapterVersionsResponse(versions=page.rows, next_page_token=page.next_page_token)


def existing_version(call: Call, name: VersionName, *, or_deleted: bool = False) -> VersionRow:
    """A version of an adapter that the caller was found to be allowed to see."""
    row = versions.get(call.session, name)
    if row is None or (row.delete_time is not None and not or_deleted):
        raise version_absent(name, row)
    return row


def version_absent(name: VersionName, row: VersionRow | None) -> NotFoundError:
    gone = "does not exist" if row is None else "is deleted"
    return NotFoundError(
        f"{name} {gone}: list the adapter's versions to see what there is",
        reason="VERSION_NOT_FOUND",
        metadata={"resource": str(name)},
    )


def existing_alias(call: Call, name: AliasName) -> AliasRow:
    """An alias of an adapter that the caller was found to be allowed to see."""
    row = versions.get_alias(call.session, AdapterName(name.tenant, name.adapter), name.alias)
    if row is None:
        raise alias_absent(name)
    return row


def alias_absent(name: AliasName) -> NotFoundError:
    return NotFoundError(
        f"{name} does not exist: get the adapter to see its aliases",
        reason="ALIAS_NOT_FOUND",
        metadata={"resource": str(name)},
    )
