"""Tokens whose signature was found good lately: the same bytes under the same key stay good."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from registry_service.credentials import Credential
from registry_service.key_set import IssuerKey

_MAX_TOKENS = 10_000


@dataclass(frozen=True)
class VerifiedToken:
    """`expire_time` is in seconds since 1970, the leeway for clocks included."""

    credential: Credential
    key_id: str | None
    key: IssuerKey
    expire_time: float


class VerifiedTokens:
    """By digest, so that no token lies in memory; the least recently used is forgotten first.

    Whoever looks one up asks the key set again: a key that was withdrawn verifies nothing more.
    """

    def __init__(
        self, max_tokens: int = _MAX_TOKENS, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_tokens = max_tokens
        self._clock = clock
        self._tokens: OrderedDict[bytes, VerifiedToken] = OrderedDict()

    def get(self, token: str) -> VerifiedToken | None:
        """None for one that is not known, or has expired."""
        digest = _digest(token)
        found = self._tokens.get(digest)
        if found is None:
            return None
        if found.expire_time <= self._clock():
            del self._tokens[digest]
            return None
        self._tokens.move_to_end(digest)
        return found

    def add(self, token: str, verified: VerifiedToken) -> None:
        self._tokens[_digest(token)] = verified
        if len(self._tokens) > self._max_tokens:
            self._tokens.popitem(last=False)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
