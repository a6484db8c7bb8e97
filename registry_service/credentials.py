"""What a call presented, once everything but the database was asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class CredentialKind(Enum):
    API_KEY = "api_key"
    JWT = "jwt"
    CERTIFICATE = "certificate"


@dataclass(frozen=True)
class Credential:
    """`value` is an API key that is still to be checked, or subjects that were verified.

    A token has one subject; a certificate may have several, one a line. `tenant` is what a token's
    tenant claim says, if that claim counts; `expire_time` is when a token ends.
    """

    kind: CredentialKind
    value: str = field(repr=False)
    tenant: str = ""
    expire_time: datetime | None = None

    @property
    def subjects(self) -> list[str]:
        return [] if self.kind is CredentialKind.API_KEY else self.value.split("\n")


def api_key_credential(api_key: str) -> Credential:
    return Credential(CredentialKind.API_KEY, api_key)


def jwt_credential(subject: str, tenant: str, expire_time: datetime) -> Credential:
    return Credential(CredentialKind.JWT, subject, tenant, expire_time)


def certificate_credential(subjects: Sequence[str]) -> Credential:
    return Credential(CredentialKind.CERTIFICATE, "\n".join(sorted(subjects)))
