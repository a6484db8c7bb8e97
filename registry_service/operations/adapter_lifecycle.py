"""How adapters go: deleted, perhaps brought back, purged for good.

    live ── DeleteAdapter ──▶ deleted ── PurgeAdapter, or by itself at purge_time ──▶ gone
      ◀── UndeleteAdapter ──

A purged adapter's name is free again; its bytes are collected later.
"""

from datetime import UTC, datetime

from google.protobuf.empty_pb2 import Empty

from lorikeet.rpc.errors import FailedPreconditionError
from lorikeet.rpc.names import AdapterName
from protos import registry_pb2 as pb
from registry_service.calls import Call
from registry_service.messages import adapter_message
from registry_service.models import AdapterRow
from registry_service.operations.adapters import check_adapter_etag, described, locked
from registry_service.operations.changed import difference
from registry_service.repository import adapters, purges


def delete_adapter(call: Call, request: pb.DeleteAdapterRequest) -> pb.Adapter:
    name = AdapterName.parse(request.name)
    call.require_publish(name.tenant, str(name))
    row = locked(call, name)
    check_adapter_etag(row, request.etag)
    return _set_delete_time(call, row, datetime.now(UTC), "adapters.delete")


def undelete_adapter(call: Call, request: pb.UndeleteAdapterRequest) -> pb.Adapter:
    row = _locked_deleted(call, AdapterName.parse(request.name), request.etag)
    return _set_delete_time(call, row, None, "adapters.undelete")


def purge_adapter(call: Call, request: pb.PurgeAdapterRequest) -> Empty:
    name = AdapterName.parse(request.name)
    row = _locked_deleted(call, name, request.etag)
    if purges.has_open_uploads(call.session, name):
        raise FailedPreconditionError(
            f"{name} has unfinished uploads: abort them, or wait until they expire",
            reason="ADAPTER_HAS_UPLOADS",
        )
    before = described(row)
    purges.purge_adapter(call.session, name)
    call.record("adapters.purge", name, **difference(before, {}))
    return Empty()


def _locked_deleted(call: Call, name: AdapterName, etag: str) -> AdapterRow:
    call.require_publish(name.tenant, str(name))
    row = adapters.lock(call.session, name)
    if row is None:
        raise call.absent("adapters.publish", str(name))
    check_adapter_etag(row, etag)
    if row.delete_time is None:
        raise FailedPreconditionError(f"{name} is not deleted", reason="ADAPTER_NOT_DELETED")
    return row


def _set_delete_time(call: Call, row: AdapterRow, time: datetime | None, action: str) -> pb.Adapter:
    before = described(row)
    row.delete_time = time
    adapters.touch(call.session, row)
    name = AdapterName(row.tenant_id, row.id)
    call.record(action, name, **difference(before, described(row)))
    return adapter_message(row, call.retention)
