"""What a call shows to say who makes it."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from grpc import aio

from lorikeet.rpc.credentials import bearer_token, invalid_credential, peer_certificate

_MAX_SUBJECTS: Final = 8  # of a certificate: each is a question to the registry


@dataclass(frozen=True)
class Presented:
    """A bearer token, or the names of a verified certificate, sorted, and when that ends."""

    token: str = field(default="", repr=False)
    subjects: tuple[str, ...] = ()
    expire_time: datetime | None = None

    @classmethod
    def of(cls, context: aio.ServicerContext[Any, Any]) -> Self:
        """UNAUTHENTICATED when the call shows nothing that could be valid."""
        token = bearer_token(context)
        if token is not None:
            return cls(token=token)
        certificate = peer_certificate(context)
        if certificate is None or not 0 < len(certificate.subjects) <= _MAX_SUBJECTS:
            raise invalid_credential()
        return cls(subjects=certificate.subjects, expire_time=certificate.expire_time)

    @property
    def has_expired(self) -> bool:
        """As a certificate may while its call goes on; the end of a token is the registry's."""
        return self.expire_time is not None and self.expire_time <= datetime.now(UTC)

    @property
    def digest(self) -> bytes:
        """What it is remembered by: no credential lies in a cache."""
        text = f"token\n{self.token}" if self.token else "\n".join(("subjects", *self.subjects))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
