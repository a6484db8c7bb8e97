"""Tenants, principals, grants and API keys."""

import contextlib
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from google.protobuf.empty_pb2 import Empty

from lorikeet.operations.call import Operation, pages, unary
from lorikeet.operations.naming import principal_name, tenant_name
from lorikeet.rpc.errors import AlreadyExistsError
from protos import registry_pb2 as pb

PermissionName = Literal["admin", "adapters.publish", "adapters.use", "act_as"]

_SERVICE = "lorikeet.registry.v1.AccessService"
_PERMISSIONS: dict[PermissionName, pb.Permission] = {
    "admin": pb.PERMISSION_ADMIN,
    "adapters.publish": pb.PERMISSION_ADAPTERS_PUBLISH,
    "adapters.use": pb.PERMISSION_ADAPTERS_USE,
    "act_as": pb.PERMISSION_ACT_AS,
}


def grant(permission: PermissionName, tenant: str) -> pb.Grant:
    """A permission within a tenant; "*" is every tenant."""
    scope = tenant if tenant == "*" else tenant_name(tenant)
    return pb.Grant(permission=_PERMISSIONS[permission], scope=scope)


def create_tenant(tenant_id: str, *, display_name: str = "") -> Operation[pb.Tenant]:
    """AlreadyExistsError when the id is taken."""
    request = pb.CreateTenantRequest(
        tenant_id=tenant_id, tenant=pb.Tenant(display_name=display_name)
    )
    return unary(f"{_SERVICE}/CreateTenant", request, pb.Tenant)


def list_tenants() -> Operation[list[pb.Tenant]]:
    """Every tenant."""
    return pages(
        f"{_SERVICE}/ListTenants", pb.ListTenantsRequest(), pb.ListTenantsResponse, "tenants"
    )


def delete_tenant(tenant: str) -> Operation[Empty]:
    """Deletes an empty tenant."""
    return unary(
        f"{_SERVICE}/DeleteTenant", pb.DeleteTenantRequest(name=tenant_name(tenant)), Empty
    )


def create_principal(
    tenant: str, principal_id: str, *, grants: Iterable[pb.Grant] = (), display_name: str = ""
) -> Operation[pb.Principal]:
    """Someone, or something, that calls on behalf of `tenant`; see `grant`."""
    request = pb.CreatePrincipalRequest(
        parent=tenant_name(tenant),
        principal_id=principal_id,
        principal=pb.Principal(display_name=display_name, grants=grants),
    )
    return unary(f"{_SERVICE}/CreatePrincipal", request, pb.Principal)


def list_principals(tenant: str) -> Operation[list[pb.Principal]]:
    """The principals of a tenant, with their grants."""
    request = pb.ListPrincipalsRequest(parent=tenant_name(tenant))
    return pages(f"{_SERVICE}/ListPrincipals", request, pb.ListPrincipalsResponse, "principals")


def set_grants(principal: str, grants: Iterable[pb.Grant]) -> Operation[pb.Principal]:
    """Replaces what a principal (`tenant/principal`) may do."""
    request = pb.SetGrantsRequest(principal=principal_name(principal), grants=grants)
    return unary(f"{_SERVICE}/SetGrants", request, pb.Principal)


def create_api_key(
    principal: str, *, expire_time: datetime | None = None
) -> Operation[pb.CreateApiKeyResponse]:
    """A key for a principal (`tenant/principal`); `secret` is in this response and never again."""
    request = pb.CreateApiKeyRequest(principal=principal_name(principal))
    if expire_time is not None:
        request.expire_time.FromDatetime(expire_time)
    return unary(f"{_SERVICE}/CreateApiKey", request, pb.CreateApiKeyResponse)


def list_api_keys(tenant: str) -> Operation[list[pb.ApiKey]]:
    """The keys of a tenant, without their secrets."""
    request = pb.ListApiKeysRequest(parent=tenant_name(tenant))
    return pages(f"{_SERVICE}/ListApiKeys", request, pb.ListApiKeysResponse, "api_keys")


def identify_caller() -> Operation[pb.Identity]:
    """Who this client's key belongs to."""
    return unary(f"{_SERVICE}/IdentifyCaller", pb.IdentifyCallerRequest(), pb.Identity)


def ensure_tenant(
    tenant: str,
    *,
    principal: str = "service",
    permissions: Iterable[PermissionName] = ("adapters.use",),
) -> Operation[str]:
    """Creates what is missing of a tenant and its principal; returns the secret of a new key.

    A principal that is already there keeps its grants.
    """
    with contextlib.suppress(AlreadyExistsError):
        yield from create_tenant(tenant)
    grants = [grant(permission, tenant) for permission in permissions]
    with contextlib.suppress(AlreadyExistsError):
        yield from create_principal(tenant, principal, grants=grants)
    created = yield from create_api_key(f"{tenant}/{principal}")
    return created.secret
