"""What callers write in `adapter` fields, parsed into registry resource names.

    [base ':'] [tenant '/'] adapter ['@' (alias | version)]

Every part is a registry identifier, so no reference can ever be read as a path.
"""

import re
from dataclasses import dataclass

from lorikeet.rpc.errors import FailedPreconditionError, FieldViolation, InvalidArgumentError
from lorikeet.rpc.names import IDENTIFIER, AdapterName, AliasName, VersionName

_ID = IDENTIFIER.pattern
_REFERENCE = re.compile(
    rf"(?:(?P<base>{_ID}):)?(?:(?P<tenant>{_ID})/)?(?P<adapter>{_ID})(?:@(?P<selector>{_ID}))?"
)
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class AdapterReference:
    """One adapter as a caller named it; without alias and version it means "latest"."""

    tenant: str
    adapter: str
    alias: str = ""
    version: str = ""

    @property
    def adapter_name(self) -> str:
        """tenants/{t}/adapters/{a}, whatever version or alias was asked for."""
        return str(AdapterName(self.tenant, self.adapter))

    @property
    def resource_name(self) -> str:
        """The name that ResolveAdapter takes."""
        if self.version:
            return str(VersionName(self.tenant, self.adapter, self.version))
        if self.alias:
            return str(AliasName(self.tenant, self.adapter, self.alias))
        return self.adapter_name


def parse_adapter_reference(value: str, *, own_tenant: str, base_model: str) -> AdapterReference:
    """Parses a non-empty `adapter` field.

    INVALID_ARGUMENT for bad syntax; FAILED_PRECONDITION BASE_MODEL_MISMATCH when the reference
    asserts a base model other than the one served.
    """
    match = _REFERENCE.fullmatch(value)
    if match is None:
        raise _bad_reference(f"{value[:200]!r} is not [base:][tenant/]adapter[@alias-or-version]")
    if match["base"] and match["base"] != base_model:
        raise FailedPreconditionError(
            f"the adapter was asked for on base model '{match['base']}'; "
            f"this server runs '{base_model}'",
            reason="BASE_MODEL_MISMATCH",
            metadata={"served": base_model, "requested": match["base"]},
        )
    selector = match["selector"] or ""
    if _DIGITS.fullmatch(selector) and not _VERSION.fullmatch(selector):
        raise _bad_reference(f"{selector!r} is not a version number")
    version = selector if _DIGITS.fullmatch(selector) else ""
    return AdapterReference(
        tenant=match["tenant"] or own_tenant,
        adapter=match["adapter"],
        alias="" if version or selector == "latest" else selector,
        version=version,
    )


def _bad_reference(description: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"adapter: {description}",
        reason="INVALID_NAME",
        violations=[FieldViolation("adapter", description)],
    )
