"""What a call shows to say who makes it."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final, Self

from grpc import aio

from lorikeet.rpc.credentials import bearer_token, invalid_credential, peer_subjects

_MAX_SUBJECTS: Final = 8  # of a certificate: each is a question to the registry


@dataclass(frozen=True)
class Presented:
    """A bearer token, or the names of a verified certificate, sorted."""

    token: str = field(default="", repr=False)
    subjects: tuple[str, ...] = ()

    @classmethod
    def of(cls, context: aio.ServicerContext[Any, Any]) -> Self:
        """UNAUTHENTICATED when the call shows nothing that could be valid."""
        token = bearer_token(context)
        if token is not None:
            return cls(token=token)
        subjects = tuple(peer_subjects(context))
        if not 0 < len(subjects) <= _MAX_SUBJECTS:
            raise invalid_credential()
        return cls(subjects=subjects)

    @property
    def digest(self) -> bytes:
        """What it is remembered by: no credential lies in a cache."""
        text = f"token\n{self.token}" if self.token else "\n".join(("subjects", *self.subjects))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
