"""Adapters: create, read, list, update. How they end: adapter_lifecycle."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from lorikeet.rpc.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    permission_denied,
)
from lorikeet.rpc.names import AdapterName, BaseModelName, TenantName, check_identifier
from protos import registry_pb2 as pb
from registry_service.access import is_listed
from registry_service.adapter_filter import parse_filter
from registry_service.calls import Call
from registry_service.messages import adapter_etag, adapter_message
from registry_service.models import AdapterRow
from registry_service.operations.adapter_fields import (
    PATHS,
    WRITABLE,
    apply_fields,
    checked_warm_aliases,
)
from registry_service.operations.base_models import existing_base_model
from registry_service.operations.changed import check_etag, difference
from registry_service.operations.quotas import check_quota
from registry_service.repository import adapters
from registry_service.repository.idempotency import once
from registry_service.requests import allow_only

_EVERY_PARENT = "tenants/-"


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
        call.record("adapters.create", name, **difference({}, described(row)))
        return str(name), row

    row = once(
        call.session,
        str(call.caller.name),
        request,
        create,
        lambda resource: _publishable(call, AdapterName.parse(resource)),
    )
    return adapter_message(row, call.retention)


def _new_row(call: Call, name: AdapterName, message: pb.Adapter) -> AdapterRow:
    allow_only(message, {*WRITABLE, "base_model"}, "adapter")
    base_model = BaseModelName.parse(message.base_model, "adapter.base_model")
    existing_base_model(call, base_model)
    now = datetime.now(UTC)
    row = AdapterRow(
        tenant_id=name.tenant,
        id=name.adapter,
        base_model_id=base_model.base_model,
        profile={},
        num_versions=0,
        generation=1,
        policy_generation=1,
        create_time=now,
        update_time=now,
        policy_update_time=now,
    )
    apply_fields(row, message, PATHS.all())
    call.session.add(row)
    call.session.flush()
    _write_warm_aliases(call, row, message, PATHS.all())
    return row


def _write_warm_aliases(
    call: Call, row: AdapterRow, message: pb.Adapter, paths: Collection[str]
) -> None:
    if "warm_aliases" in paths:
        aliases = checked_warm_aliases(message.warm_aliases, "adapter.warm_aliases")
        adapters.replace_warm_aliases(call.session, row, aliases)


def get_adapter(call: Call, request: pb.GetAdapterRequest) -> pb.Adapter:
    row = readable(call, AdapterName.parse(request.name))
    return adapter_message(row, call.retention)


def list_adapters(call: Call, request: pb.ListAdaptersRequest) -> pb.ListAdaptersResponse:
    """All of a tenant's adapters to its own people; to others those shared with them, if any.

    `tenants/-` stands for every tenant, to callers who see all adapters of each.
    """
    tenant, shared_with = _listed_by(call, request.parent)
    wanted = parse_filter(request.filter)
    page = call.pages.message_page(
        request,
        ["adapters", tenant or "-", wanted, request.show_deleted, shared_with],
        lambda after, limit: adapters.list_after(
            call.session,
            tenant,
            wanted=wanted,
            shared_with=shared_with,
            show_deleted=request.show_deleted and shared_with is None,
            after=after,
            limit=limit,
        ),
        lambda row: f"{row.tenant_id}/{row.id}",
        lambda row: adapter_message(row, call.retention),
    )
    return pb.ListAdaptersResponse(adapters=page.rows, next_page_token=page.next_page_token)


def _listed_by(call: Call, parent: str) -> tuple[str | None, list[str] | None]:
    """The tenant whose adapters are listed, None for every one; and whose allow-list entries
    decide which of them are, None for all."""
    if parent == _EVERY_PARENT:
        if not call.caller.sees_every_tenant:
            raise permission_denied("adapters.list", parent)
        return None, None
    tenant = TenantName.parse(parent, "parent").tenant
    if call.caller.sees_all_of(tenant):
        return tenant, None
    return tenant, sorted(call.caller.speaks_for())


def update_adapter(call: Call, request: pb.UpdateAdapterRequest) -> pb.Adapter:
    name = AdapterName.parse(request.adapter.name, "adapter.name")
    call.require_publish(name.tenant, str(name))
    paths = PATHS.of(request.adapter, request.update_mask)
    row = locked(call, name)
    check_adapter_etag(row, request.adapter.etag)
    before = described(row)
    apply_fields(row, request.adapter, paths)
    _write_warm_aliases(call, row, request.adapter, paths)
    adapters.touch(call.session, row)
    call.record("adapters.update", name, **difference(before, described(row)))
    return adapter_message(row, call.retention)


def described(row: AdapterRow) -> dict[str, Any]:
    """What the audit trail says about an adapter's fields."""
    return {
        "display_name": row.display_name,
        "description": row.description,
        "labels": dict(row.labels),
        "profile": dict(row.profile),
        "warm_aliases": [warm.alias_id for warm in row.warm_aliases],
        "base_model": str(BaseModelName(row.base_model_id)),
        "delete_time": row.delete_time and row.delete_time.isoformat(),
    }


def locked(call: Call, name: AdapterName) -> AdapterRow:
    """A live adapter under its lock, for a caller who was found to be its publisher."""
    return _alive(call, name, adapters.lock(call.session, name))


def publishable(call: Call, name: AdapterName) -> AdapterRow:
    """As `locked`, for an operation that only reads."""
    return _alive(call, name, adapters.get(call.session, name))


def _alive(call: Call, name: AdapterName, row: AdapterRow | None) -> AdapterRow:
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
    allowed = adapters.allowed_tenants(call.session, row)
    if not is_listed(call.caller.speaks_for(), allowed):
        raise permission_denied("adapters.get", str(name))
    return row


def _publishable(call: Call, name: AdapterName) -> AdapterRow:
    row = adapters.get(call.session, name)
    if row is None:
        raise call.absent("adapters.publish", str(name))
    return row


def check_adapter_etag(row: AdapterRow, etag: str) -> None:
    check_etag(adapter_etag(row), etag, "the adapter")
