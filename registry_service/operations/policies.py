"""Allow-lists. The owner's people keep them; tenants on a list do not see who else is.

"*" alone lists every tenant, those of the future included.
"""

from lorikeet.rpc.names import AdapterName, TenantName
from protos import registry_pb2 as pb
from registry_service.access import EVERY_TENANT
from registry_service.calls import Call
from registry_service.messages import policy_etag, policy_message
from registry_service.operations.adapters import locked
from registry_service.operations.changed import check_etag
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
    check_etag(policy_etag(row), policy.etag, "the allow-list")
    before = adapters.allowed_tenants(call.session, row)
    adapters.replace_allowed_tenants(call.session, row, allowed)
    # Only what differs: a list may have thousands of tenants.
    call.record(
        "adapters.setAccessPolicy",
        name,
        before={"allowed_tenants": sorted(before - allowed)},
        after={"allowed_tenants": sorted(allowed - before)},
    )
    return policy_message(row)


def _checked_tenants(call: Call, policy: pb.AccessPolicy, owner: str) -> frozenset[str]:
    field = "policy.allowed_tenants"
    if len(policy.allowed_tenants) > _MAX_ALLOWED_TENANTS:
        raise invalid(field, f"at most {_MAX_ALLOWED_TENANTS} tenants are allowed")
    if list(policy.allowed_tenants) == [EVERY_TENANT]:
        return frozenset({EVERY_TENANT})
    if EVERY_TENANT in policy.allowed_tenants:
        raise invalid(field, "'*' stands for every tenant: give it alone")
    named = {
        TenantName.parse(tenant, f"{field}[{index}]").tenant
        for index, tenant in enumerate(policy.allowed_tenants)
    }
    # A mistyped tenant would wait for whoever is given that name next.
    for tenant in tenants.missing(call.session, sorted(named)):
        raise invalid(field, f"tenants/{tenant} does not exist", "UNKNOWN_TENANT")
    return frozenset(named - {owner})
