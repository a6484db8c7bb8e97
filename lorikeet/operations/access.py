"""Principals, grants and API keys."""

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from lorikeet.operations.call import Operation, pages, unary
from lorikeet.operations.naming import api_key_name, principal_name, tenant_name
from lorikeet.operations.tenants import create_tenant
from lorikeet.rpc.errors import AlreadyExistsError
from protos import registry_pb2 as pb

PermissionName = Literal["admin", "adapters.publish", "adapters.use", "act_as", "audit"]

_SERVICE = "lorikeet.registry.v1.AccessService"
_PERMISSIONS: dict[PermissionName, pb.Permission] = {
    "admin": pb.PERMISSION_ADMIN,
    "adapters.publish": pb.PERMISSION_ADAPTERS_PUBLISH,
    "adapters.use": pb.PERMISSION_ADAPTERS_USE,
    "act_as": pb.PERMISSION_ACT_AS,
    "audit": pb.PERMISSION_AUDIT,
}
PERMISSION_NAMES: Sequence[PermissionName] = tuple(_PERMISSIONS)


def grant(permission: PermissionName, tenant: str) -> pb.Grant:
    """A permission within a tenant; "*" is every tenant."""
    scope = tenant if tenant == "*" else tenant_name(tenant)
    return pb.Grant(permission=_PERMISSIONS[permission], scope=scope)


def permission_name(permission: int) -> str:
    """The name that `grant` takes; of a permission this version does not know, its number."""
    names = {int(value): name for name, value in _PERMISSIONS.items()}
    return names.get(permission, str(permission))


def create_principal(
    tenant: str,
    principal_id: str,
    *,
    grants: Iterable[pb.Grant] = (),
    display_name: str = "",
    subjects: Iterable[str] = (),
    request_id: str = "",
) -> Operation[pb.Principal]:
    """Someone, or something, that calls on behalf of `tenant`; see `grant`.

    `subjects`: "spiffe://…" or "dns:…" of its client certificate, "jwt:<sub>" of its tokens.
    """
    request = pb.CreatePrincipalRequest(
        parent=tenant_name(tenant),
        principal_id=principal_id,
        principal=pb.Principal(display_name=display_name, grants=grants, subjects=subjects),
        request_id=request_id,
    )
    return unary(f"{_SERVICE}/CreatePrincipal", request, pb.Principal)


def get_principal(principal: str) -> Operation[pb.Principal]:
    """A principal (`tenant/principal`), with its grants, its subjects and its etag."""
    request = pb.GetPrincipalRequest(name=principal_name(principal))
    return unary(f"{_SERVICE}/GetPrincipal", request, pb.Principal)


def update_principal(
    principal: str,
    *,
    display_name: str | None = None,
    subjects: Iterable[str] | None = None,
    etag: str = "",
) -> Operation[pb.Principal]:
    """Replaces what is given; AbortedError when `etag` is given and stale."""
    message = pb.Principal(
        name=principal_name(principal),
        display_name=display_name or "",
        subjects=subjects or (),
        etag=etag,
    )
    given = {"display_name": display_name, "subjects": subjects}
    mask = FieldMask(paths=[field for field, value in given.items() if value is not None])
    request = pb.UpdatePrincipalRequest(principal=message, update_mask=mask)
    return unary(f"{_SERVICE}/UpdatePrincipal", request, pb.Principal)


def delete_principal(principal: str) -> Operation[Empty]:
    """Deletes a principal; its keys and subjects stop working at once."""
    request = pb.DeletePrincipalRequest(name=principal_name(principal))
    return unary(f"{_SERVICE}/DeletePrincipal", request, Empty)


def list_principals(tenant: str) -> Operation[list[pb.Principal]]:
    """The principals of a tenant, with their grants."""
    request = pb.ListPrincipalsRequest(parent=tenant_name(tenant))
    return pages(f"{_SERVICE}/ListPrincipals", request, pb.ListPrincipalsResponse, "principals")


def set_grants(
    principal: str, grants: Iterable[pb.Grant], *, etag: str = ""
) -> Operation[pb.Principal]:
    """Replaces what a principal (`tenant/principal`) may do; see `update_principal` for `etag`."""
    request = pb.SetGrantsRequest(principal=principal_name(principal), grants=grants, etag=etag)
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


def delete_api_key(api_key: str) -> Operation[Empty]:
    """Revokes a key (`tenant/id`, as ListApiKeys names it) at once."""
    request = pb.DeleteApiKeyRequest(name=api_key_name(api_key))
    return unary(f"{_SERVICE}/DeleteApiKey", request, Empty)


def identify_caller() -> Operation[pb.Identity]:
    """Who this client is taken for."""
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
