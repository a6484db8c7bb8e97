"""Allow-lists. The owner's people keep them; tenants on a list do not see who else is."""

from lorikeet.rpc.errors import AbortedError
from lorikeet.rpc.names import AdapterName, TenantName
from protos import registry_pb2 as pb
from registry_service.calls import Call
from registry_service.messages import policy_etag, policy_message
from registry_service.operations.adapters import locked
from registry_service.repository import adapters, tenants
from registry_service.requests import allow_only, invalid

_MAX_ALLOWED_TENANTS = 10_000


def get_access_policy(call: Call, request: pb.GetAccessPolicyRequest) -> pb.AccessPolicy:
    name = AdapterName.parse(request.adapter, "adapter")
    row = adapters.get(call.session, name)
    if row is None or not call.caller.sees_all_of(name.tenant):
        raise call.absent("adapters.getAccessPolicy", str(name))
    return policy_message(row)


def set_access_policy(call: Call, request: pb.SetAccessPolicyRequest) -> pb.AccessPolicy:
    policy = request.policy
    name = AdapterName.parse(policy.adapter, "policy.adapter")
    call.require_publish(name.tenant, str(name))
    allow_only(policy, {"adapter", "allowed_tenants", "etag"}, "policy")
    allowed = _checked_tenants(call, policy, name.tenant)
    row = locked(call, name)
    if policy.etag and policy.etag != policy_etag(row):
        raise AbortedError(
            "the allow-list changed since this etag was read: read it again and retry",
            reason="ETAG_MISMATCH",
        )
    before = adapters.allowed_tenants(call.session, row)
    adapters.replace_allowed_tenants(call.session, row, allowed)
    call.record(
        "adapters.setAccessPolicy",
        name,
        added=sorted(allowed - before),
        removed=sorted(before - allowed),
    )
    return policy_message(row)


def _checked_tenants(call: Call, policy: pb.AccessPolicy, owner: str) -> frozenset[str]:
    field = "policy.allowed_tenants"
    if len(policy.allowed_tenants) > _MAX_ALLOWED_TENANTS:
        raise invalid(field, f"at most {_MAX_ALLOWED_TENANTS} tenants are allowed")
    named = {
        TenantName.parse(tenant, f"{field}[{index}]").tenant
        for index, tenant in enumerate(policy.allowed_tenants)
    }
    # A mistyped tenant would wait for whoever is given that name next.
    for tenant in tenants.missing(call.session, sorted(named)):
        raise invalid(field, f"tenants/{tenant} does not exist", "UNKNOWN_TENANT")
    return frozenset(named - {owner})
