"""Adapters: create, read, list, update, delete."""

from datetime import UTC, datetime

from lorikeet.rpc.errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    permission_denied,
)
from lorikeet.rpc.names import AdapterName, BaseModelName, TenantName, check_identifier
from protos import registry_pb2 as pb
from registry_service.calls import Call
from registry_service.messages import adapter_etag, adapter_message
from registry_service.models import AdapterRow
from registry_service.operations.adapter_fields import WRITABLE, apply_fields, masked_fields
from registry_service.operations.base_models import existing_base_model
from registry_service.operations.quotas import check_quota
from registry_service.repository import adapters
from registry_service.repository.idempotency import once
from registry_service.requests import allow_only, check_text

_MAX_FILTER = 63


def create_adapter(call: Call, request: pb.CreateAdapterRequest) -> pb.Adapter:
    tenant = TenantName.parse(request.parent, "parent")
    call.require_publish(tenant.tenant, str(tenant))
    name = AdapterName(tenant.tenant, check_identifier(request.adapter_id, "adapter_id"))

    def create() -> tuple[str, AdapterRow]:
        check_quota(call, tenant.tenant, more_adapters=1)
        if adapters.get(call.session, name) is not None:
            raise AlreadyExistsError(
                f"{name} exists already (a deleted adapter keeps its name: undelete it)",
                metadata={"resource": str(name)},
            )
        row = _new_row(call, name, request.adapter)
        call.record("adapters.create", name)
        return str(name), row

    row = once(
        call.session,
        str(call.caller.name),
        request,
        create,
        lambda resource: _publishable(call, AdapterName.parse(resource)),
    )
    return adapter_message(row)


def _new_row(call: Call, name: AdapterName, message: pb.Adapter) -> AdapterRow:
    allow_only(message, {*WRITABLE, "base_model"}, "adapter")
    base_model = BaseModelName.parse(message.base_model, "adapter.base_model")
    existing_base_model(call, base_model)
    now = datetime.now(UTC)
    row = AdapterRow(
        tenant_id=name.tenant,
        id=name.adapter,
        base_model_id=base_model.base_model,
        num_versions=0,
        generation=1,
        policy_generation=1,
        create_time=now,
        update_time=now,
        policy_update_time=now,
    )
    apply_fields(row, message, WRITABLE)
    call.session.add(row)
    call.session.flush()
    return row


def get_adapter(call: Call, request: pb.GetAdapterRequest) -> pb.Adapter:
    return adapter_message(readable(call, AdapterName.parse(request.name)))


def list_adapters(call: Call, request: pb.ListAdaptersRequest) -> pb.ListAdaptersResponse:
    """All of a tenant's adapters to its own people; to others those shared with them, if any."""
    tenant = TenantName.parse(request.parent, "parent")
    prefix = check_text(request.filter, "filter", _MAX_FILTER)
    sees_all = call.caller.sees_all_of(tenant.tenant)
    page = call.pages.page(
        request,
        ["adapters", tenant, prefix, request.show_deleted],
        lambda after, limit: adapters.list_after(
            call.session,
            tenant.tenant,
            prefix=prefix,
            shared_with=None if sees_all else call.caller.speaks_for(),
            show_deleted=request.show_deleted and sees_all,
            after=after,
            limit=limit,
        ),
        lambda row: row.id,
    )
    return pb.ListAdaptersResponse(
        adapters=[adapter_message(row) for row in page.rows],
        next_page_token=page.next_page_token,
    )


def update_adapter(call: Call, request: pb.UpdateAdapterRequest) -> pb.Adapter:
    name = AdapterName.parse(request.adapter.name, "adapter.name")
    call.require_publish(name.tenant, str(name))
    fields = masked_fields(request)
    row = locked(call, name)
    _check_etag(row, request.adapter.etag)
    apply_fields(row, request.adapter, fields)
    adapters.touch(call.session, row)
    call.record("adapters.update", name, fields=sorted(fields))
    return adapter_message(row)


def delete_adapter(call: Call, request: pb.DeleteAdapterRequest) -> pb.Adapter:
    name = AdapterName.parse(request.name)
    call.require_publish(name.tenant, str(name))
    row = locked(call, name)
    _check_etag(row, request.etag)
    row.delete_time = datetime.now(UTC)
    adapters.touch(call.session, row)
    call.record("adapters.delete", name)
    return adapter_message(row)


def undelete_adapter(call: Call, request: pb.UndeleteAdapterRequest) -> pb.Adapter:
    name = AdapterName.parse(request.name)
    call.require_publish(name.tenant, str(name))
    row = adapters.lock(call.session, name)
    if row is None:
        raise call.absent("adapters.publish", str(name))
    if row.delete_time is None:
        raise FailedPreconditionError(f"{name} is not deleted", reason="ADAPTER_NOT_DELETED")
    row.delete_time = None
    adapters.touch(call.session, row)
    call.record("adapters.undelete", name)
    return adapter_message(row)


def locked(call: Call, name: AdapterName) -> AdapterRow:
    """A live adapter under its lock, for a caller who was found to be its publisher."""
    row = adapters.lock(call.session, name)
    if row is None:
        raise call.absent("adapters.publish", str(name))
    if row.delete_time is not None:
        raise FailedPreconditionError(
            f"{name} is deleted: undelete it first", reason="ADAPTER_DELETED"
        )
    return row


def readable(call: Call, name: AdapterName) -> AdapterRow:
    """An adapter whose metadata the caller may see; forbidden and absent look alike."""
    row = adapters.get(call.session, name)
    if row is not None and call.caller.sees_all_of(name.tenant):
        return row
    if row is None or row.delete_time is not None:
        raise call.absent("adapters.get", str(name))
    if call.caller.speaks_for().isdisjoint(adapters.allowed_tenants(call.session, row)):
        raise permission_denied("adapters.get", str(name))
    return row


def _publishable(call: Call, name: AdapterName) -> AdapterRow:
    row = adapters.get(call.session, name)
    if row is None:
        raise call.absent("adapters.publish", str(name))
    return row


def _check_etag(row: AdapterRow, etag: str) -> None:
    if etag and etag != adapter_etag(row):
        raise AbortedError(
            "the adapter changed since this etag was read: read it again and retry",
            reason="ETAG_MISMATCH",
        )
