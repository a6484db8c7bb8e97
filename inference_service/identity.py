"""Who calls, and for which tenant the call counts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from lorikeet.rpc.errors import PermissionDeniedError
from lorikeet.rpc.names import TenantName
from protos import registry_pb2

EVERY_TENANT = "*"
_SPEAKS_FOR = frozenset({registry_pb2.PERMISSION_ACT_AS, registry_pb2.PERMISSION_ADMIN})
_USES = _SPEAKS_FOR | {registry_pb2.PERMISSION_ADAPTERS_USE}


@dataclass(frozen=True)
class Grant:
    """A permission in a scope: tenants/{tenant}, or "*"."""

    permission: int
    scope: str


@dataclass(frozen=True)
class Caller:
    """The principal behind a credential. `tenant` is the bare id.

    `api_key` is the name of the key that was shown, if one was; `expire_time` is when the
    credential ends by itself.
    """

    principal: str
    tenant: str
    grants: tuple[Grant, ...]
    api_key: str = ""
    expire_time: datetime | None = None

    @classmethod
    def from_identity(cls, identity: registry_pb2.Identity) -> Self:
        return cls(
            principal=identity.principal,
            tenant=TenantName.parse(identity.tenant, "tenant").tenant,
            grants=tuple(Grant(grant.permission, grant.scope) for grant in identity.grants),
            api_key=identity.api_key,
            expire_time=(
                identity.expire_time.ToDatetime(UTC) if identity.HasField("expire_time") else None
            ),
        )

    @property
    def is_administrator(self) -> bool:
        """May see and change what belongs to any tenant."""
        return any(
            (grant.scope == EVERY_TENANT and grant.permission in _SPEAKS_FOR)
            or grant.permission == registry_pb2.PERMISSION_ADMIN
            for grant in self.grants
        )

    def may_use_adapters(self, tenant: str) -> bool:
        """Whether it may generate at all as `tenant`; each adapter's allow-list comes on top."""
        return self._holds(_USES, tenant)

    def may_speak_for(self, tenant: str) -> bool:
        return tenant == self.tenant or self._holds(_SPEAKS_FOR, tenant)

    def _holds(self, permissions: frozenset[int], tenant: str) -> bool:
        scopes = (EVERY_TENANT, str(TenantName(tenant)))
        return any(
            grant.permission == registry_pb2.PERMISSION_ADMIN
            or (grant.permission in permissions and grant.scope in scopes)
            for grant in self.grants
        )


def effective_tenant(caller: Caller, requested: str) -> str:
    """The tenant a request counts for; PERMISSION_DENIED TENANT_MISMATCH if the caller may not."""
    if not requested:
        return caller.tenant
    tenant = TenantName.parse(requested, "tenant").tenant
    if not caller.may_speak_for(tenant):
        raise PermissionDeniedError(
            f"the caller may not speak for '{requested}'",
            reason="TENANT_MISMATCH",
            metadata={"tenant": requested},
        )
    return tenant
