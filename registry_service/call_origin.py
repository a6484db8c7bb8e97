"""What is known of a call, for work that goes on after the call may have ended."""

from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class CallOrigin:
    """Answers like a servicer's context. A context asked after its call has ended crashes grpc."""

    _metadata: tuple[tuple[str, str | bytes], ...]
    _peer: str
    _auth: dict[str, list[bytes]]

    @classmethod
    def of(cls, context: Any) -> Self:
        metadata = tuple((key, value) for key, value in context.invocation_metadata() or ())
        return cls(metadata, context.peer(), dict(context.auth_context()))

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._auth

    def time_remaining(self) -> None:
        """The work has no deadline: it is to be finished even when the caller has gone."""
