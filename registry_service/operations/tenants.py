"""Tenants; administrators only."""

from datetime import UTC, datetime

from google.protobuf.empty_pb2 import Empty

from lorikeet.rpc.errors import AlreadyExistsError, FailedPreconditionError
from lorikeet.rpc.names import TenantName, check_identifier
from protos import registry_pb2 as pb
from registry_service.calls import Call
from registry_service.messages import tenant_message
from registry_service.models import TenantRow
from registry_service.repository import tenants
from registry_service.requests import allow_only, check_text

MAX_DISPLAY_NAME = 256


def create_tenant(call: Call, request: pb.CreateTenantRequest) -> pb.Tenant:
    call.require_admin("tenants")
    name = TenantName(check_identifier(request.tenant_id, "tenant_id"))
    allow_only(request.tenant, {"display_name"}, "tenant")
    display_name = check_text(request.tenant.display_name, "tenant.display_name", MAX_DISPLAY_NAME)
    if tenants.get(call.session, name.tenant) is not None:
        raise AlreadyExistsError(f"{name} exists already", metadata={"resource": str(name)})
    row = TenantRow(id=name.tenant, display_name=display_name, create_time=datetime.now(UTC))
    call.session.add(row)
    call.record("tenants.create", name)
    return tenant_message(row)


def get_tenant(call: Call, request: pb.GetTenantRequest) -> pb.Tenant:
    name = TenantName.parse(request.name)
    call.require_admin(str(name))
    return tenant_message(existing_tenant(call, name))


def list_tenants(call: Call, request: pb.ListTenantsRequest) -> pb.ListTenantsResponse:
    call.require_admin("tenants")
    page = call.pages.page(
        request,
        ["tenants"],
        lambda after, limit: tenants.list_after(call.session, after, limit),
        lambda row: row.id,
    )
    return pb.ListTenantsResponse(
        tenants=[tenant_message(row) for row in page.rows], next_page_token=page.next_page_token
    )


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
    tenants.remove(call.session, row)
    call.record("tenants.delete", name)
    return Empty()


def existing_tenant(call: Call, name: TenantName) -> TenantRow:
    row = tenants.get(call.session, name.tenant)
    if row is None:
        raise call.absent("admin", str(name))
    return row
