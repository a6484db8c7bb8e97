"""What a call carries to say who makes it: a bearer token, or the certificate TLS verified."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.x509 import load_pem_x509_certificate

from lorikeet.rpc.errors import UnauthenticatedError

_MAX_SUBJECT = 300
_SUBJECT = re.compile(
    r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)*"
    r"|dns:[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*"
    r"|jwt:[!-~]+"
)


def bearer_token(context: Any) -> str | None:
    """The API key or JWT of the call; None when it brings no `authorization` at all.

    UNAUTHENTICATED for one that is malformed: it must not count as absent.
    """
    values = [v for key, v in context.invocation_metadata() or () if key == "authorization"]
    if not values:
        return None
    if len(values) == 1 and isinstance(values[0], str):
        scheme, _, token = values[0].partition(" ")
        if scheme.lower() == "bearer" and token:
            return token
    raise invalid_credential()


@dataclass(frozen=True)
class PeerCertificate:
    """A client certificate that TLS verified: its SPIFFE ids and DNS names, and when it ends."""

    subjects: tuple[str, ...]
    expire_time: datetime


def peer_certificate(context: Any) -> PeerCertificate | None:
    """None without one that is valid now: TLS looked at it when the connection began."""
    found: dict[str, list[bytes]] = context.auth_context()
    pem = found.get("x509_pem_cert")
    if not pem:
        return None
    expire_time = load_pem_x509_certificate(pem[0]).not_valid_after_utc
    if expire_time <= datetime.now(UTC):
        return None
    uris = [uri.decode("ascii", "replace") for uri in found.get("peer_uri", ())]
    names = [f"dns:{name.decode('ascii', 'replace').lower()}" for name in found.get("peer_dns", ())]
    spiffe = [uri for uri in uris if uri.startswith("spiffe://")]
    subjects = sorted({subject for subject in [*spiffe, *names] if is_subject(subject)})
    return PeerCertificate(tuple(subjects), expire_time)


def peer_subjects(context: Any) -> list[str]:
    """What a valid client certificate calls its owner; empty without one."""
    certificate = peer_certificate(context)
    return list(certificate.subjects) if certificate else []


def is_subject(value: str) -> bool:
    """Whether it has the form of a name that a principal may go by."""
    return len(value) <= _MAX_SUBJECT and _SUBJECT.fullmatch(value) is not None


def invalid_credential() -> UnauthenticatedError:
    """One message for every cause: what was wrong is for the log only."""
    return UnauthenticatedError(
        "the request carries no valid credential: send 'authorization: Bearer <API key or JWT>' "
        "or present a client certificate that the registry knows",
        reason="CREDENTIAL_INVALID",
    )
