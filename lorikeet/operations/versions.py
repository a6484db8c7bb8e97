"""Versions of an adapter (`tenant/adapter@3`) and the aliases that point at them."""

from google.protobuf.empty_pb2 import Empty

from lorikeet.operations.call import Operation, pages, unary
from lorikeet.operations.naming import adapter_name, alias_name, version_name
from protos import registry_pb2 as pb

_SERVICE = "lorikeet.registry.v1.AdapterRegistry"


def get_version(version: str) -> Operation[pb.AdapterVersion]:
    """One version, also a deleted or a purged one."""
    request = pb.GetAdapterVersionRequest(name=version_name(version))
    return unary(f"{_SERVICE}/GetAdapterVersion", request, pb.AdapterVersion)


def list_versions(
    adapter: str, *, show_deleted: bool = False
) -> Operation[list[pb.AdapterVersion]]:
    """The versions of an adapter, newest first."""
    request = pb.ListAdapterVersionsRequest(parent=adapter_name(adapter), show_deleted=show_deleted)
    return pages(
        f"{_SERVICE}/ListAdapterVersions", request, pb.ListAdapterVersionsResponse, "versions"
    )


def delete_version(version: str) -> Operation[pb.AdapterVersion]:
    """Soft delete; FailedPreconditionError VERSION_IN_USE while an alias points at it."""
    request = pb.DeleteAdapterVersionRequest(name=version_name(version))
    return unary(f"{_SERVICE}/DeleteAdapterVersion", request, pb.AdapterVersion)


def undelete_version(version: str) -> Operation[pb.AdapterVersion]:
    """Undoes `delete_version` as long as the version is not purged."""
    request = pb.UndeleteAdapterVersionRequest(name=version_name(version))
    return unary(f"{_SERVICE}/UndeleteAdapterVersion", request, pb.AdapterVersion)


def purge_version(version: str) -> Operation[pb.AdapterVersion]:
    """Gives up the bytes of a deleted version; it stays listed as PURGED."""
    request = pb.PurgeAdapterVersionRequest(name=version_name(version))
    return unary(f"{_SERVICE}/PurgeAdapterVersion", request, pb.AdapterVersion)


def set_alias(
    adapter: str, alias: str, version: int, *, adapter_etag: str = ""
) -> Operation[pb.Alias]:
    """Points an alias at a version; pointing it at an older one is a rollback."""
    request = pb.SetAliasRequest(
        name=alias_name(adapter, alias), version=version, adapter_etag=adapter_etag
    )
    return unary(f"{_SERVICE}/SetAlias", request, pb.Alias)


def delete_alias(adapter: str, alias: str, *, adapter_etag: str = "") -> Operation[Empty]:
    """Removes an alias."""
    request = pb.DeleteAliasRequest(name=alias_name(adapter, alias), adapter_etag=adapter_etag)
    return unary(f"{_SERVICE}/DeleteAlias", request, Empty)
