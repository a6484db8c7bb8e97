"""API keys: administrators make and revoke them, auditors see that they exist."""

from datetime import UTC, datetime

from google.protobuf.empty_pb2 import Empty

from lorikeet.rpc.names import ApiKeyName, PrincipalName, TenantName
from protos import registry_pb2 as pb
from registry_service.access import generate_api_key
from registry_service.calls import Call
from registry_service.messages import api_key_message
from registry_service.models import ApiKeyRow
from registry_service.operations.tenants import existing_tenant
from registry_service.repository import principals
from registry_service.requests import invalid


def create_api_key(call: Call, request: pb.CreateApiKeyRequest) -> pb.CreateApiKeyResponse:
    name = PrincipalName.parse(request.principal, "principal")
    call.require_admin(str(name))
    if principals.get(call.session, name) is None:
        raise call.absent("admin", str(name))
    expire_time = _future_time(request) if request.HasField("expire_time") else None
    key = generate_api_key()
    row = principals.add_key(call.session, name, key.key_id, key.secret_hash, expire_time)
    call.record("apiKeys.create", ApiKeyName(name.tenant, row.id), after=_described(row))
    return pb.CreateApiKeyResponse(api_key=api_key_message(row), secret=key.secret)


def list_api_keys(call: Call, request: pb.ListApiKeysRequest) -> pb.ListApiKeysResponse:
    tenant = TenantName.parse(request.parent, "parent")
    call.require_auditor(tenant.tenant, str(tenant))
    existing_tenant(call, tenant)
    page = call.pages.page(
        request,
        ["apiKeys", tenant],
        lambda after, limit: principals.list_keys_after(call.session, tenant.tenant, after, limit),
        lambda row: row.id,
    )
    return pb.ListApiKeysResponse(
        api_keys=[api_key_message(row) for row in page.rows],
        next_page_token=page.next_page_token,
    )


def delete_api_key(call: Call, request: pb.DeleteApiKeyRequest) -> Empty:
    """The key is not valid any more, for calls that run neither: watchers are asked again."""
    name = ApiKeyName.parse(request.name)
    call.require_admin(str(name))
    row = call.session.get(ApiKeyRow, name.api_key)
    if row is None or row.tenant_id != name.tenant:
        raise call.absent("admin", str(name))
    call.session.delete(row)
    call.record("apiKeys.delete", name, before=_described(row))
    return Empty()


def _future_time(request: pb.CreateApiKeyRequest) -> datetime:
    try:
        time = request.expire_time.ToDatetime(tzinfo=UTC)
    except ValueError as error:
        raise invalid("expire_time", "is not a time between the years 1 and 9999") from error
    if time <= datetime.now(UTC):
        raise invalid("expire_time", "has passed: give a time in the future")
    return time


def _described(row: ApiKeyRow) -> dict[str, str]:
    principal = str(PrincipalName(row.tenant_id, row.principal_id))
    expires = {"expire_time": row.expire_time.isoformat()} if row.expire_time else {}
    return {"principal": principal, **expires}
