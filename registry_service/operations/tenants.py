"""Tenants, their limits and what they use; administrators write, auditors read."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.empty_pb2 import Empty

from lorikeet.rpc.errors import AlreadyExistsError, FailedPreconditionError, permission_denied
from lorikeet.rpc.names import TenantName, check_identifier
from protos import registry_pb2 as pb
from registry_service.access import ACT_AS
from registry_service.calls import Call
from registry_service.messages import tenant_etag, tenant_message, usage_message
from registry_service.models import TenantRow
from registry_service.operations.changed import check_etag, difference
from registry_service.operations.serving_limits import (
    SERVING_FIELDS,
    apply_serving,
    described_serving,
)
from registry_service.repository import tenants
from registry_service.repository.idempotency import once
from registry_service.requests import FieldPaths, allow_only, check_text, invalid

MAX_DISPLAY_NAME = 256

_LIMITS = tuple(pb.TenantQuota.DESCRIPTOR.fields_by_name)
_PATHS = FieldPaths("tenant", {"display_name": (), "quota": _LIMITS, "serving": SERVING_FIELDS})


def create_tenant(call: Call, request: pb.CreateTenantRequest) -> pb.Tenant:
    call.require_admin("tenants")
    name = TenantName(check_identifier(request.tenant_id, "tenant_id"))
    allow_only(request.tenant, {"display_name", "quota", "serving"}, "tenant")

    def create() -> tuple[str, TenantRow]:
        if tenants.get(call.session, name.tenant) is not None:
            raise AlreadyExistsError(f"{name} exists already", metadata={"resource": str(name)})
        row = TenantRow(id=name.tenant, display_name="", create_time=datetime.now(UTC))
        _apply(row, request.tenant, _PATHS.all())
        call.session.add(row)
        call.session.flush()
        call.record("tenants.create", name, after=_described(row))
        return str(name), row

    row = once(
        call.session,
        str(call.caller.name),
        request,
        create,
        lambda resource: existing_tenant(call, TenantName.parse(resource)),
    )
    return tenant_message(row)


def get_tenant(call: Call, request: pb.GetTenantRequest) -> pb.Tenant:
    """To auditors with its usage; to services that act for the tenant without."""
    name = TenantName.parse(request.name)
    if call.caller.holds(ACT_AS, name.tenant) and not call.caller.audits(name.tenant):
        return tenant_message(existing_tenant(call, name))
    call.require_auditor(name.tenant, str(name))
    message = tenant_message(existing_tenant(call, name))
    message.usage.CopyFrom(usage_message(tenants.usage(call.session, name.tenant)))
    return message


def list_tenants(call: Call, request: pb.ListTenantsRequest) -> pb.ListTenantsResponse:
    """Every tenant to administrators; to auditors those that they audit."""
    audited = call.caller.audited_tenants()
    if audited is not None and not audited:
        raise permission_denied("admin", "tenants")
    page = call.pages.page(
        request,
        ["tenants", sorted(audited or [])],
        lambda after, limit: tenants.list_after(call.session, after, limit, among=audited),
        lambda row: row.id,
    )
    return pb.ListTenantsResponse(
        tenants=[tenant_message(row) for row in page.rows], next_page_token=page.next_page_token
    )


def update_tenant(call: Call, request: pb.UpdateTenantRequest) -> pb.Tenant:
    name = TenantName.parse(request.tenant.name, "tenant.name")
    call.require_admin(str(name))
    paths = _PATHS.of(request.tenant, request.update_mask)
    row = tenants.lock(call.session, name.tenant)
    if row is None:
        raise call.absent("admin", str(name))
    check_etag(tenant_etag(row), request.tenant.etag, "the tenant")
    before = _described(row)
    _apply(row, request.tenant, paths)
    row.generation += 1
    call.session.flush()
    call.record("tenants.update", name, **difference(before, _described(row)))
    return tenant_message(row)


def delete_tenant(call: Call, request: pb.DeleteTenantRequest) -> Empty:
    """Deletes the tenant with its principals, keys and grants; never with adapters."""
    name = TenantName.parse(request.name)
    call.require_admin(str(name))
    row = existing_tenant(call, name)
    if name.tenant == call.caller.tenant:
        raise FailedPreconditionError(
            f"{name} is your own tenant: deleting it would lock you out", reason="OWN_TENANT"
        )
    if tenants.owns_adapters(call.session, name.tenant):
        raise FailedPreconditionError(
            f"{name} owns adapters (deleted ones count until they are purged): it cannot go "
            "before they do",
            reason="TENANT_NOT_EMPTY",
        )
    before = _described(row)
    tenants.remove(call.session, row)
    call.record("tenants.delete", name, before=before)
    return Empty()


def existing_tenant(call: Call, name: TenantName) -> TenantRow:
    row = tenants.get(call.session, name.tenant)
    if row is None:
        raise call.absent("admin", str(name))
    return row


def _apply(row: TenantRow, message: pb.Tenant, paths: frozenset[str]) -> None:
    if "display_name" in paths:
        row.display_name = check_text(message.display_name, "tenant.display_name", MAX_DISPLAY_NAME)
    for limit in _LIMITS:
        if f"quota.{limit}" in paths:
            setattr(row, limit, _checked_limit(message.quota, limit))
    apply_serving(row, message.serving, paths)


def _checked_limit(quota: pb.TenantQuota, limit: str) -> int | None:
    if not quota.HasField(limit):
        return None
    value: int = getattr(quota, limit)
    if value < 0:
        raise invalid(f"tenant.quota.{limit}", "must not be negative; unset is the default")
    return value


def _described(row: TenantRow) -> Mapping[str, Any]:
    quota = {limit: getattr(row, limit) for limit in _LIMITS}
    serving = {f"serving.{field}": value for field, value in described_serving(row).items()}
    return {"display_name": row.display_name, **quota, **serving}
