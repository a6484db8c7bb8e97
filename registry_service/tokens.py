"""JSON Web Tokens of one issuer, verified with its public keys: believed whole or not at all."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt

from lorikeet.rpc.credentials import invalid_credential, is_subject
from lorikeet.rpc.names import IDENTIFIER
from registry_service.config import Settings
from registry_service.credentials import Credential, jwt_credential
from registry_service.key_set import FileKeySet, IssuerKey, KeySet, UrlKeySet
from registry_service.verified_tokens import VerifiedToken, VerifiedTokens

logger = logging.getLogger(__name__)

# gRPC itself begins to refuse calls whose metadata has more than 8 KiB.
MAX_TOKEN_LENGTH = 6 * 1024
# Public-key signatures only: no "none", and no HMAC with a key that everyone can read.
SAFE_ALGORITHMS = frozenset(
    {
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA"),
    }
)
_REFUSALS = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
_LEEWAY_SECONDS = 30.0
_REQUIRED = ["exp", "iss", "aud", "sub"]


@dataclass(frozen=True)
class TokenRules:
    """What a token must say. `tenant_claim`, if any, names the tenant of an unknown subject."""

    issuer: str
    audience: str
    algorithms: Collection[str]
    tenant_claim: str = ""


class TokenVerifier:
    """Tokens of one issuer. `close` it when done."""

    def __init__(self, rules: TokenRules, keys: KeySet) -> None:
        self._rules = rules
        self._keys = keys
        self._verified = VerifiedTokens()

    async def verify(self, token: str) -> Credential:
        """The subject of a valid token; UNAUTHENTICATED otherwise, and the cause in the log."""
        try:
            return await self._verify(token)
        except _REFUSALS as error:
            logger.info("a token is refused: %s: %s", type(error).__name__, error)
            raise invalid_credential() from None

    async def close(self) -> None:
        await self._keys.close()

    async def _verify(self, token: str) -> Credential:
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            raise ValueError(f"it has {len(token)} characters, or not only ASCII ones")
        known = self._verified.get(token)
        if known is not None and await self._keys.find(known.key_id) == known.key:
            return known.credential
        header = jwt.get_unverified_header(token)
        algorithm, key_id = str(header.get("alg")), header.get("kid")
        if algorithm not in self._rules.algorithms or "crit" in header:
            raise ValueError("its algorithm is not allowed, or it has critical headers")
        key = await self._keys.find(key_id)
        if key is None:
            raise ValueError("its key id is not the issuer's")
        claims = self._decoded(token, algorithm, key)
        expire_time = float(claims["exp"]) + _LEEWAY_SECONDS
        credential = self._credential(claims, datetime.fromtimestamp(expire_time, UTC))
        self._verified.add(token, VerifiedToken(credential, key_id, key, expire_time))
        return credential

    def _decoded(self, token: str, algorithm: str, key: IssuerKey) -> dict[str, Any]:
        """The claims, once the signature and every time and name in them was checked."""
        if key.algorithm not in ("", algorithm):
            raise ValueError(f"its key is for {key.algorithm}")
        claims: dict[str, Any] = jwt.decode(
            token,
            key.public_key,  # typed: an algorithm of another kind of key refuses it
            algorithms=[algorithm],
            audience=self._rules.audience,
            issuer=self._rules.issuer,
            leeway=_LEEWAY_SECONDS,
            options={"require": _REQUIRED},
        )
        return claims

    def _credential(self, claims: dict[str, Any], expire_time: datetime) -> Credential:
        subject = f"jwt:{claims['sub']}"
        if not is_subject(subject):
            raise ValueError("its subject is empty, too long or not printable ASCII")
        tenant = claims.get(self._rules.tenant_claim) if self._rules.tenant_claim else None
        if not isinstance(tenant, str) or not IDENTIFIER.fullmatch(tenant):
            tenant = ""
        return jwt_credential(subject, tenant, expire_time)


class TokenSettingsError(ValueError):
    """The settings for tokens contradict each other; the message says which."""


def token_verifier(settings: Settings) -> TokenVerifier | None:
    """What the settings ask for; None when tokens are not accepted.

    TokenSettingsError or KeySetError when that cannot be.
    """
    issuer, audience, source = settings.jwt_issuer, settings.jwt_audience, settings.jwt_jwks
    if not (issuer or audience or source):
        return None
    if not (issuer and audience and source):
        raise TokenSettingsError("tokens need jwt_issuer, jwt_audience and jwt_jwks together")
    algorithms = tuple(part.strip() for part in settings.jwt_algorithms.split(","))
    for algorithm in algorithms:
        if algorithm not in SAFE_ALGORITHMS:
            allowed = ", ".join(sorted(SAFE_ALGORITHMS))
            raise TokenSettingsError(f"jwt_algorithms: {algorithm!r} is not among {allowed}")
    rules = TokenRules(issuer, audience, algorithms, settings.jwt_tenant_claim)
    keys = UrlKeySet(source, settings.jwt_jwks_ca) if "://" in source else FileKeySet(Path(source))
    return TokenVerifier(rules, keys)
