"""Principals, grants and API keys; administrators only, but anyone may ask who they are."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from google.protobuf.empty_pb2 import Empty

from lorikeet.rpc.credentials import invalid_credential
from lorikeet.rpc.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    LorikeetError,
    permission_denied,
)
from lorikeet.rpc.names import ApiKeyName, PrincipalName, TenantName, check_identifier
from protos import registry_pb2 as pb
from registry_service.access import (
    ACT_AS,
    ADMIN,
    EVERY_TENANT,
    PERMISSIONS,
    Caller,
    Grant,
    generate_api_key,
)
from registry_service.calls import Call
from registry_service.credentials import Credential
from registry_service.messages import api_key_message, grant_messages, principal_message
from registry_service.models import ApiKeyRow, PrincipalRow
from registry_service.operations.tenants import MAX_DISPLAY_NAME, existing_tenant
from registry_service.repository import principals, tenants
from registry_service.requests import allow_only, check_text, invalid

_MAX_GRANTS = 1000


def create_principal(call: Call, request: pb.CreatePrincipalRequest) -> pb.Principal:
    tenant = TenantName.parse(request.parent, "parent")
    call.require_admin(str(tenant))
    identifier = check_identifier(request.principal_id, "principal_id")
    name = PrincipalName(tenant.tenant, identifier)
    allow_only(request.principal, {"display_name", "grants"}, "principal")
    display_name = check_text(
        request.principal.display_name, "principal.display_name", MAX_DISPLAY_NAME
    )
    grants = _checked_grants(call, request.principal.grants, "principal.grants")
    existing_tenant(call, tenant)
    if principals.get(call.session, name) is not None:
        raise AlreadyExistsError(f"{name} exists already", metadata={"resource": str(name)})
    row = principals.add(call.session, name, display_name, grants)
    call.record("principals.create", name, grants=_described(grants))
    return principal_message(row)


def list_principals(call: Call, request: pb.ListPrincipalsRequest) -> pb.ListPrincipalsResponse:
    tenant = TenantName.parse(request.parent, "parent")
    call.require_admin(str(tenant))
    existing_tenant(call, tenant)
    page = call.pages.page(
        request,
        ["principals", tenant],
        lambda after, limit: principals.list_after(call.session, tenant.tenant, after, limit),
        lambda row: row.id,
    )
    return pb.ListPrincipalsResponse(
        principals=[principal_message(row) for row in page.rows],
        next_page_token=page.next_page_token,
    )


def delete_principal(call: Call, request: pb.DeletePrincipalRequest) -> Empty:
    """Deletes the principal; its keys stop working with it."""
    name = PrincipalName.parse(request.name)
    call.require_admin(str(name))
    row = _existing_principal(call, name)
    if name == call.caller.name:
        raise FailedPreconditionError(
            f"{name} is yourself: deleting it would lock you out", reason="OWN_PRINCIPAL"
        )
    call.session.delete(row)
    call.record("principals.delete", name)
    return Empty()


def set_grants(call: Call, request: pb.SetGrantsRequest) -> pb.Principal:
    name = PrincipalName.parse(request.principal, "principal")
    call.require_admin(str(name))
    grants = _checked_grants(call, request.grants, "grants")
    row = _existing_principal(call, name)
    if name == call.caller.name and Grant(ADMIN, EVERY_TENANT) not in grants:
        raise FailedPreconditionError(
            f"{name} is yourself: giving up administration would lock you out",
            reason="OWN_PRINCIPAL",
        )
    principals.replace_grants(call.session, row, grants)
    call.record("principals.setGrants", name, grants=_described(grants))
    return principal_message(row)


def create_api_key(call: Call, request: pb.CreateApiKeyRequest) -> pb.CreateApiKeyResponse:
    name = PrincipalName.parse(request.principal, "principal")
    call.require_admin(str(name))
    _existing_principal(call, name)
    expire_time = None
    if request.HasField("expire_time"):
        expire_time = _future_time(request)
    key = generate_api_key()
    row = principals.add_key(call.session, name, key.key_id, key.secret_hash, expire_time)
    call.record("apiKeys.create", ApiKeyName(name.tenant, row.id), principal=str(name))
    return pb.CreateApiKeyResponse(api_key=api_key_message(row), secret=key.secret)


def list_api_keys(call: Call, request: pb.ListApiKeysRequest) -> pb.ListApiKeysResponse:
    tenant = TenantName.parse(request.parent, "parent")
    call.require_admin(str(tenant))
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
    name = ApiKeyName.parse(request.name)
    call.require_admin(str(name))
    row = call.session.get(ApiKeyRow, name.api_key)
    if row is None or row.tenant_id != name.tenant:
        raise call.absent("admin", str(name))
    call.session.delete(row)
    call.record("apiKeys.delete", name)
    return Empty()


def identify_caller(
    presented: Credential | LorikeetError | None,
) -> Callable[[Call, pb.IdentifyCallerRequest], pb.Identity]:
    """The caller, or whoever presented something to the caller; an error is what is wrong with it.

    A service learns nothing about principals of tenants it may not act for: what they present is
    not valid to it.
    """

    def identify_caller(call: Call, request: pb.IdentifyCallerRequest) -> pb.Identity:
        if presented is None:
            return _identity(call.caller)
        if not call.caller.is_agent:
            raise permission_denied("act_as", str(call.caller.name))
        if isinstance(presented, LorikeetError):
            raise presented
        owner = principals.authenticate(call.session, presented)
        if not call.caller.holds(ACT_AS, owner.tenant):
            raise invalid_credential()
        return _identity(owner)

    return identify_caller


def _identity(caller: Caller) -> pb.Identity:
    return pb.Identity(
        principal=str(caller.name),
        tenant=str(TenantName(caller.tenant)),
        grants=grant_messages(caller.grants),
    )


def _existing_principal(call: Call, name: PrincipalName) -> PrincipalRow:
    row = principals.get(call.session, name)
    if row is None:
        raise call.absent("admin", str(name))
    return row


def _future_time(request: pb.CreateApiKeyRequest) -> datetime:
    try:
        time = request.expire_time.ToDatetime(tzinfo=UTC)
    except ValueError as error:
        raise invalid("expire_time", "is not a time between the years 1 and 9999") from error
    if time <= datetime.now(UTC):
        raise invalid("expire_time", "has passed: give a time in the future")
    return time


def _checked_grants(call: Call, grants: Sequence[pb.Grant], field: str) -> set[Grant]:
    if len(grants) > _MAX_GRANTS:
        raise invalid(field, f"has {len(grants)} grants: at most {_MAX_GRANTS} are allowed")
    checked = {_checked_grant(g, f"{field}[{i}]") for i, g in enumerate(grants)}
    scopes = [g.scope.removeprefix("tenants/") for g in checked if g.scope != EVERY_TENANT]
    for tenant in tenants.missing(call.session, scopes):
        raise invalid(field, f"tenants/{tenant} does not exist: create it first")
    return checked


def _checked_grant(grant: pb.Grant, field: str) -> Grant:
    if grant.permission not in PERMISSIONS:
        raise invalid(f"{field}.permission", "is missing or unknown")
    if grant.scope != EVERY_TENANT:
        TenantName.parse(grant.scope, f"{field}.scope")
        if grant.permission == ADMIN:
            raise invalid(f"{field}.scope", 'must be "*": an administrator has every tenant')
    return Grant(int(grant.permission), grant.scope)


def _described(grants: Iterable[Grant]) -> list[str]:
    return sorted(f"{pb.Permission.Name(g.permission)} {g.scope}" for g in grants)
