"""Tenants, their quotas and what inference services grant them."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from lorikeet.operations.call import Operation, pages, unary
from lorikeet.operations.naming import tenant_name
from protos import registry_pb2 as pb

QuotaName = Literal["max_bytes", "max_adapters", "max_versions", "max_rank"]
Quota = Mapping[QuotaName, int | None]
"""Limits of a tenant. None is the registry's default; a limit that is not named stays."""
ServingName = Literal[
    "weight", "max_concurrent_requests", "max_requests_per_minute", "max_tokens_per_minute"
]
Serving = Mapping[ServingName, float | None]
"""What each inference service grants a tenant; None is that service's default."""

_SERVICE = "lorikeet.registry.v1.AccessService"
_Limits = TypeVar("_Limits", pb.TenantQuota, pb.ServingLimits)


def create_tenant(
    tenant_id: str,
    *,
    display_name: str = "",
    quota: Quota | None = None,
    serving: Serving | None = None,
    request_id: str = "",
) -> Operation[pb.Tenant]:
    """AlreadyExistsError when the id is taken. With a `request_id` it may be tried again."""
    request = pb.CreateTenantRequest(
        tenant_id=tenant_id,
        tenant=pb.Tenant(
            display_name=display_name,
            quota=_set_in(pb.TenantQuota(), quota),
            serving=_set_in(pb.ServingLimits(), serving),
        ),
        request_id=request_id,
    )
    return unary(f"{_SERVICE}/CreateTenant", request, pb.Tenant)


def get_tenant(tenant: str) -> Operation[pb.Tenant]:
    """A tenant with its limits; for administrators and auditors with what it uses."""
    request = pb.GetTenantRequest(name=tenant_name(tenant))
    return unary(f"{_SERVICE}/GetTenant", request, pb.Tenant)


def list_tenants() -> Operation[list[pb.Tenant]]:
    """Every tenant, with its limits and without its usage."""
    return pages(
        f"{_SERVICE}/ListTenants", pb.ListTenantsRequest(), pb.ListTenantsResponse, "tenants"
    )


def update_tenant(
    tenant: str,
    *,
    display_name: str | None = None,
    quota: Quota | None = None,
    serving: Serving | None = None,
    etag: str = "",
) -> Operation[pb.Tenant]:
    """Changes what is given; AbortedError ETAG_MISMATCH when `etag` is stale."""
    message = pb.Tenant(
        name=tenant_name(tenant),
        etag=etag,
        quota=_set_in(pb.TenantQuota(), quota),
        serving=_set_in(pb.ServingLimits(), serving),
    )
    paths = [f"quota.{name}" for name in quota or ()]
    paths += [f"serving.{name}" for name in serving or ()]
    if display_name is not None:
        message.display_name = display_name
        paths.append("display_name")
    request = pb.UpdateTenantRequest(tenant=message, update_mask=FieldMask(paths=paths))
    return unary(f"{_SERVICE}/UpdateTenant", request, pb.Tenant)


def delete_tenant(tenant: str) -> Operation[Empty]:
    """Deletes a tenant that owns no adapters, with its principals and keys."""
    return unary(
        f"{_SERVICE}/DeleteTenant", pb.DeleteTenantRequest(name=tenant_name(tenant)), Empty
    )


def _set_in(message: _Limits, limits: Mapping[Any, float | None] | None) -> _Limits | None:
    """The message with every limit that is not None; None without any to write."""
    if limits is None:
        return None
    for name, limit in limits.items():
        if limit is not None:
            setattr(message, name, limit)
    return message
