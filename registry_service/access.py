"""Who a caller is and what it may do: pure decisions over rows that were already read."""

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from lorikeet.rpc.errors import PermissionDeniedError
from lorikeet.rpc.names import ApiKeyName, PrincipalName
from protos import registry_pb2

ADMIN = int(registry_pb2.PERMISSION_ADMIN)
PUBLISH = int(registry_pb2.PERMISSION_ADAPTERS_PUBLISH)
USE = int(registry_pb2.PERMISSION_ADAPTERS_USE)
ACT_AS = int(registry_pb2.PERMISSION_ACT_AS)
AUDIT = int(registry_pb2.PERMISSION_AUDIT)
PERMISSIONS = frozenset({ADMIN, PUBLISH, USE, ACT_AS, AUDIT})
EVERY_TENANT = "*"
_SEEING = (PUBLISH, USE, ACT_AS, AUDIT)

API_KEY_PREFIX = "lk_"
_NO_HASH = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Grant:
    """`scope` is "tenants/{tenant}" or "*"."""

    permission: int
    scope: str


@dataclass(frozen=True)
class Caller:
    """A principal whose credential was checked, and its grants at that moment.

    `subject` is what a token or certificate called it, `api_key` the name of the key it showed;
    `expire_time` is when the credential ends by itself.
    """

    name: PrincipalName
    grants: frozenset[Grant]
    subject: str = ""
    api_key: ApiKeyName | None = None
    expire_time: datetime | None = None

    @property
    def tenant(self) -> str:
        return self.name.tenant

    @property
    def is_admin(self) -> bool:
        return Grant(ADMIN, EVERY_TENANT) in self.grants

    @property
    def is_agent(self) -> bool:
        """Whether it speaks for any tenant, as the inference service does."""
        return self.is_admin or any(grant.permission == ACT_AS for grant in self.grants)

    def holds(self, permission: int, tenant: str) -> bool:
        """Whether `permission` was granted in `tenant`, in every tenant, or by being admin."""
        scopes = (EVERY_TENANT, f"tenants/{tenant}")
        return self.is_admin or any(Grant(permission, scope) in self.grants for scope in scopes)

    def speaks_for(self) -> frozenset[str]:
        """Tenants named in its grants whose allow-list entries it may rely on, and its own."""
        named = {
            grant.scope.removeprefix("tenants/")
            for grant in self.grants
            if grant.permission == ACT_AS and grant.scope != EVERY_TENANT
        }
        return frozenset({self.tenant, *named})

    def sees_all_of(self, owner: str) -> bool:
        """Whether every adapter of `owner`, deleted ones too, may be read by this caller."""
        if self.tenant == owner:
            return True
        return any(self.holds(permission, owner) for permission in _SEEING)

    @property
    def sees_every_tenant(self) -> bool:
        """Whether `sees_all_of` holds for every owner, those of the future included."""
        return self.is_admin or any(
            Grant(permission, EVERY_TENANT) in self.grants for permission in _SEEING
        )

    def audits(self, tenant: str) -> bool:
        """Whether it may read the audit trail and everyone's metadata of a tenant; never bytes."""
        return self.holds(AUDIT, tenant)

    def audited_tenants(self) -> frozenset[str] | None:
        """The tenants it audits; None for every tenant, those that are gone included."""
        scopes = {grant.scope for grant in self.grants if grant.permission == AUDIT}
        if self.is_admin or EVERY_TENANT in scopes:
            return None
        return frozenset(scope.removeprefix("tenants/") for scope in scopes)


def check_may_speak_for(caller: Caller, tenant: str, resource: str) -> None:
    """Refuses a request made in another tenant's name unless the caller acts for that tenant."""
    if caller.tenant != tenant and not caller.holds(ACT_AS, tenant):
        raise PermissionDeniedError(
            f"the caller belongs to tenants/{caller.tenant} and may not act for tenants/{tenant}",
            reason="TENANT_MISMATCH",
            metadata={"permission": "act_as", "resource": resource},
        )


def may_use(caller: Caller, tenant: str, owner: str, allowed: Collection[str]) -> bool:
    """Whether `tenant`, for which the caller was found to speak, may use an adapter of `owner`."""
    if caller.is_admin and tenant == caller.tenant:
        return True
    granted = caller.holds(ACT_AS, tenant) or (
        caller.tenant == tenant and caller.holds(USE, tenant)
    )
    return granted and (tenant == owner or is_listed([tenant], allowed))


def is_listed(tenants: Iterable[str], allowed: Collection[str]) -> bool:
    """Whether an allow-list has any of these tenants, which exist; "*" has every one."""
    return EVERY_TENANT in allowed or any(tenant in allowed for tenant in tenants)


@dataclass(frozen=True)
class NewApiKey:
    """`secret` is shown once; only `secret_hash` is stored."""

    key_id: str
    secret: str
    secret_hash: str


def generate_api_key() -> NewApiKey:
    """A key of 256 random bits; so much entropy needs no slow hash."""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    return NewApiKey(key_id, f"{API_KEY_PREFIX}{key_id}_{secret}", _hash(secret))


def split_api_key(api_key: str) -> tuple[str, str] | None:
    """The id and the secret of a presented key; None when it has not the form of one."""
    key_id, _, secret = api_key.removeprefix(API_KEY_PREFIX).partition("_")
    return (key_id, secret) if api_key.startswith(API_KEY_PREFIX) and key_id and secret else None


def secret_matches(secret: str, secret_hash: str | None) -> bool:
    """Constant-time comparison; an absent key costs as much as a wrong one."""
    return hmac.compare_digest(_hash(secret), secret_hash or _NO_HASH) and secret_hash is not None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
