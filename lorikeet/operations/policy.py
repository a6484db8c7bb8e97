"""The allow-list of an adapter: tenants that may use it besides its owner."""

from collections.abc import Callable

from lorikeet.operations.call import Operation, unary
from lorikeet.operations.naming import adapter_name, tenant_name
from lorikeet.rpc.errors import AbortedError, FailedPreconditionError
from protos import registry_pb2 as pb

_SERVICE = "lorikeet.registry.v1.AdapterRegistry"
_MAX_ATTEMPTS = 5
_EVERY_TENANT = "*"


def get_access_policy(adapter: str) -> Operation[pb.AccessPolicy]:
    """Who may use an adapter (`tenant/adapter`), with the etag that a change must present."""
    request = pb.GetAccessPolicyRequest(adapter=adapter_name(adapter))
    return unary(f"{_SERVICE}/GetAccessPolicy", request, pb.AccessPolicy)


def set_access_policy(policy: pb.AccessPolicy) -> Operation[pb.AccessPolicy]:
    """Replaces an allow-list; AbortedError when `policy.etag` is stale."""
    request = pb.SetAccessPolicyRequest(policy=policy)
    return unary(f"{_SERVICE}/SetAccessPolicy", request, pb.AccessPolicy)


def grant_access(adapter: str, *tenants: str) -> Operation[pb.AccessPolicy]:
    """Adds tenants to the allow-list, keeping what others add at the same time; "*" is every one.

    A list that has every tenant stays as it is.
    """
    names = {_listed_name(tenant) for tenant in tenants}

    def add(allowed: set[str]) -> set[str]:
        return {_EVERY_TENANT} if _EVERY_TENANT in allowed | names else allowed | names

    return _change(adapter, add)


def revoke_access(adapter: str, *tenants: str) -> Operation[pb.AccessPolicy]:
    """Takes tenants off the allow-list; streams that run are not cut.

    FailedPreconditionError for one tenant of a list that has every tenant: revoke "*" first.
    """
    names = {_listed_name(tenant) for tenant in tenants}

    def remove(allowed: set[str]) -> set[str]:
        if _EVERY_TENANT in allowed - names:
            raise FailedPreconditionError(
                f"{adapter} is shared with every tenant: revoke '*', then grant it to some",
                reason="SHARED_WITH_EVERY_TENANT",
            )
        return allowed - names

    return _change(adapter, remove)


def _listed_name(tenant: str) -> str:
    return tenant if tenant == _EVERY_TENANT else tenant_name(tenant)


def _change(adapter: str, change: Callable[[set[str]], set[str]]) -> Operation[pb.AccessPolicy]:
    """Read, modify, write; a concurrent change makes the etag stale and the whole is done again."""
    for _ in range(_MAX_ATTEMPTS - 1):
        try:
            return (yield from _change_once(adapter, change))
        except AbortedError:
            continue
    return (yield from _change_once(adapter, change))


def _change_once(
    adapter: str, change: Callable[[set[str]], set[str]]
) -> Operation[pb.AccessPolicy]:
    policy = yield from get_access_policy(adapter)
    allowed = change(set(policy.allowed_tenants))
    if allowed == set(policy.allowed_tenants):
        return policy
    changed = pb.AccessPolicy(
        adapter=policy.adapter, allowed_tenants=sorted(allowed), etag=policy.etag
    )
    return (yield from set_access_policy(changed))
