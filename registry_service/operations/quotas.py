"""Quotas of a tenant, checked under the tenant's lock so that no race passes one."""

from dataclasses import dataclass

from lorikeet.rpc.errors import QuotaViolation, ResourceExhaustedError
from lorikeet.rpc.names import AdapterName, TenantName
from registry_service.calls import Call
from registry_service.config import Settings
from registry_service.models import TenantRow
from registry_service.repository import tenants, versions


@dataclass(frozen=True)
class Quota:
    """What a tenant may have: its own limits, or the registry's where it has none."""

    max_bytes: int
    max_adapters: int
    max_versions: int
    max_rank: int

    @classmethod
    def of(cls, row: TenantRow, settings: Settings) -> "Quota":
        return cls(
            max_bytes=_own(row.max_bytes, settings.default_max_bytes),
            max_adapters=_own(row.max_adapters, settings.default_max_adapters),
            max_versions=_own(row.max_versions, settings.default_max_versions),
            max_rank=_own(row.max_rank, settings.max_lora_rank),
        )


def check_quota(
    call: Call,
    tenant: str,
    *,
    more_bytes: int = 0,
    more_adapters: int = 0,
    version_of: AdapterName | None = None,
    rank: int = 0,
) -> None:
    """Refuses what would pass a quota: RESOURCE_EXHAUSTED QUOTA_EXCEEDED with a QuotaFailure.

    Holds the tenant's lock until the transaction ends. Where an adapter, an upload or a blob must
    be locked before this check, `tenants.lock` comes first: all transactions lock in one order.
    `version_of` asks for one more version of an adapter.
    """
    row = tenants.lock(call.session, tenant)
    if row is None:
        raise call.absent("adapters.publish", str(TenantName(tenant)))
    quota, owner = Quota.of(row, call.settings), str(TenantName(tenant))
    if more_adapters:
        used = tenants.count_adapters(call.session, tenant)
        check_limit(owner, "max_adapters", quota.max_adapters, used, more_adapters)
    if version_of is not None:
        used = versions.count_kept(call.session, version_of)
        check_limit(str(version_of), "max_versions", quota.max_versions, used, 1)
    if more_bytes:
        used = tenants.count_bytes(call.session, tenant)
        check_limit(owner, "max_bytes", quota.max_bytes, used, more_bytes)
    check_limit(owner, "max_rank", quota.max_rank, 0, rank)


def _own(limit: int | None, default: int) -> int:
    return default if limit is None else limit


def check_limit(subject: str, quota: str, limit: int, used: int, more: int) -> None:
    """RESOURCE_EXHAUSTED QUOTA_EXCEEDED, which names the quota, unless `more` fit into it."""
    if used + more <= limit:
        return
    description = f"{quota} is {limit}, {used} used, {more} more asked for"
    raise ResourceExhaustedError(
        f"{subject} would pass its quota: {description}; give up what is not needed, or have an "
        "administrator raise it",
        reason="QUOTA_EXCEEDED",
        metadata={"quota": quota, "limit": str(limit), "used": str(used), "requested": str(more)},
        quota_violations=[QuotaViolation(subject, description)],
    )
