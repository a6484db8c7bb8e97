"""Aliases, which a publisher points at versions; `latest` is the registry's own."""

from google.protobuf.empty_pb2 import Empty

from lorikeet.rpc.names import AdapterName, AliasName, VersionName
from protos import registry_pb2 as pb
from registry_service.calls import Call
from registry_service.messages import LATEST, alias_message
from registry_service.models import AdapterRow
from registry_service.operations.adapters import check_adapter_etag, locked
from registry_service.operations.changed import difference
from registry_service.operations.versions import existing_alias, existing_version
from registry_service.repository import adapters, versions
from registry_service.requests import invalid


def set_alias(call: Call, request: pb.SetAliasRequest) -> pb.Alias:
    name = AliasName.parse(request.name)
    adapter_row = _locked_for(call, name, request.adapter_etag)
    if request.version < 1:
        raise invalid("version", "must be a version number, from 1")
    existing_version(call, VersionName(name.tenant, name.adapter, str(request.version)))
    adapter = AdapterName(name.tenant, name.adapter)
    earlier = versions.get_alias(call.session, adapter, name.alias)
    before = {"version": earlier.version} if earlier else {}
    row = versions.point_alias(call.session, adapter, name.alias, request.version)
    adapters.touch(call.session, adapter_row)
    call.record("aliases.set", name, **difference(before, {"version": request.version}))
    return alias_message(row)


def delete_alias(call: Call, request: pb.DeleteAliasRequest) -> Empty:
    name = AliasName.parse(request.name)
    adapter_row = _locked_for(call, name, request.adapter_etag)
    row = existing_alias(call, name)
    before = {"version": row.version}
    call.session.delete(row)
    call.session.flush()
    adapters.touch(call.session, adapter_row)
    call.record("aliases.delete", name, **difference(before, {}))
    return Empty()


def _locked_for(call: Call, name: AliasName, adapter_etag: str) -> AdapterRow:
    adapter = AdapterName(name.tenant, name.adapter)
    call.require_publish(name.tenant, str(adapter))
    if name.alias == LATEST:
        raise invalid("name", f"'{LATEST}' is kept by the registry: use another alias")
    row = locked(call, adapter)
    check_adapter_etag(row, adapter_etag)
    return row
