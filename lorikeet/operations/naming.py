"""Short names for people: `acme`, `acme/math`, `acme/math@3`; full resource names pass through."""

from lorikeet.rpc.errors import InvalidArgumentError
from lorikeet.rpc.names import (
    AdapterName,
    AliasName,
    ApiKeyName,
    BaseModelName,
    PrincipalName,
    TenantName,
    VersionName,
    check_identifier,
)


def tenant_name(value: str) -> str:
    """`acme` or `tenants/acme` → `tenants/acme`."""
    name = value if value.startswith("tenants/") else f"tenants/{value}"
    return str(TenantName.parse(name, "tenant"))


def base_model_name(value: str) -> str:
    """`demo-base` or `baseModels/demo-base` → `baseModels/demo-base`."""
    name = value if value.startswith("baseModels/") else f"baseModels/{value}"
    return str(BaseModelName.parse(name, "base_model"))


def adapter_name(value: str) -> str:
    """`acme/math` or the full name → `tenants/acme/adapters/math`."""
    if value.startswith("tenants/"):
        return str(AdapterName.parse(value, "adapter"))
    return str(AdapterName(*_pair(value, "adapter", "tenant/adapter")))


def principal_name(value: str) -> str:
    """`acme/bot` or the full name → `tenants/acme/principals/bot`."""
    if value.startswith("tenants/"):
        return str(PrincipalName.parse(value, "principal"))
    return str(PrincipalName(*_pair(value, "principal", "tenant/principal")))


def api_key_name(value: str) -> str:
    """`acme/0123abcd` or the full name → `tenants/acme/apiKeys/0123abcd`."""
    if value.startswith("tenants/"):
        return str(ApiKeyName.parse(value, "api_key"))
    return str(ApiKeyName(*_pair(value, "api_key", "tenant/key")))


def version_name(value: str) -> str:
    """`acme/math@3` or the full name → `tenants/acme/adapters/math/versions/3`."""
    if value.startswith("tenants/"):
        return str(VersionName.parse(value, "version"))
    adapter, _, number = value.partition("@")
    return str(VersionName.parse(f"{adapter_name(adapter)}/versions/{number}", "version"))


def alias_name(adapter: str, alias: str) -> str:
    """`acme/math`, `stable` → `tenants/acme/adapters/math/aliases/stable`."""
    return str(AliasName.parse(f"{adapter_name(adapter)}/aliases/{alias}", "alias"))


def _pair(value: str, field: str, pattern: str) -> tuple[str, str]:
    first, slash, second = value.partition("/")
    if not slash:
        raise InvalidArgumentError(f"{field}: {value!r} is not {pattern}", reason="INVALID_NAME")
    return check_identifier(first, field), check_identifier(second, field)
