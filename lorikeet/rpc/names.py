"""Resource names: parsing and formatting, in one place for both services and the SDK."""

import re
from dataclasses import dataclass
from typing import Self

from lorikeet.rpc.errors import FieldViolation, InvalidArgumentError

IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_MAX_SHOWN = 100
_HINT = "lower-case letters, digits, '.', '_', '-', at most 63, beginning with a letter or digit"


def check_identifier(value: str, field: str) -> str:
    """Returns `value`, or refuses it naming `field`."""
    if not IDENTIFIER.fullmatch(value):
        raise _invalid(field, f"{_shown(value)} is not an identifier: use {_HINT}")
    return value


@dataclass(frozen=True)
class _Name:
    """A name made of `collection/id` pairs; subclasses list the collections of their fields."""

    def __str__(self) -> str:
        ids = (str(getattr(self, name)) for name in self.__dataclass_fields__)
        return "/".join(f"{c}/{i}" for c, i in zip(self._collections(), ids, strict=True))

    @classmethod
    def _collections(cls) -> tuple[str, ...]:
        raise AssertionError("subclasses define their collections")

    @classmethod
    def parse(cls, value: str, field: str = "name") -> Self:
        """Parses `value`; INVALID_ARGUMENT names `field` and shows the expected pattern."""
        collections = cls._collections()
        parts = value.split("/")
        pattern = "/".join(f"{c}/{{{c}}}" for c in collections)
        if len(parts) != 2 * len(collections) or tuple(parts[::2]) != collections:
            raise _invalid(field, f"{_shown(value)} does not match {pattern}")
        for part in parts[1::2]:
            check_identifier(part, field)
        return cls(*parts[1::2])


@dataclass(frozen=True)
class TenantName(_Name):
    tenant: str

    @classmethod
    def _collections(cls) -> tuple[str, ...]:
        return ("tenants",)


@dataclass(frozen=True)
class PrincipalName(_Name):
    tenant: str
    principal: str

    @classmethod
    def _collections(cls) -> tuple[str, ...]:
        return ("tenants", "principals")


@dataclass(frozen=True)
class ApiKeyName(_Name):
    tenant: str
    api_key: str

    @classmethod
    def _collections(cls) -> tuple[str, ...]:
        return ("tenants", "apiKeys")


@dataclass(frozen=True)
class AdapterName(_Name):
    tenant: str
    adapter: str

    @classmethod
    def _collections(cls) -> tuple[str, ...]:
        return ("tenants", "adapters")


@dataclass(frozen=True)
class AliasName(_Name):
    tenant: str
    adapter: str
    alias: str

    @classmethod
    def _collections(cls) -> tuple[str, ...]:
        return ("tenants", "adapters", "aliases")


@dataclass(frozen=True)
class VersionName(_Name):
    """`number` stays text in the name; `version` is its value."""

    tenant: str
    adapter: str
    number: str

    @classmethod
    def _collections(cls) -> tuple[str, ...]:
        return ("tenants", "adapters", "versions")

    @property
    def version(self) -> int:
        return int(self.number)

    @classmethod
    def parse(cls, value: str, field: str = "name") -> Self:
        parsed = super().parse(value, field)
        if not re.fullmatch(r"[1-9][0-9]{0,17}", parsed.number):
            raise _invalid(field, f"{_shown(parsed.number)} is not a version number")
        return parsed


@dataclass(frozen=True)
class BaseModelName(_Name):
    base_model: str

    @classmethod
    def _collections(cls) -> tuple[str, ...]:
        return ("baseModels",)


@dataclass(frozen=True)
class UploadName(_Name):
    upload: str

    @classmethod
    def _collections(cls) -> tuple[str, ...]:
        return ("uploads",)


def parse_adapter_selector(
    value: str, field: str = "name"
) -> AdapterName | AliasName | VersionName:
    """An adapter, optionally with one of its aliases or versions."""
    collections = value.split("/")[4:5]
    if collections == ["aliases"]:
        return AliasName.parse(value, field)
    if collections == ["versions"]:
        return VersionName.parse(value, field)
    return AdapterName.parse(value, field)


def _shown(value: str) -> str:
    """Statuses travel in trailers of a few kilobytes: a long value would drown the message."""
    return repr(value) if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]!r}…"


def _invalid(field: str, description: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{field}: {description}",
        reason="INVALID_NAME",
        violations=[FieldViolation(field, description)],
    )
