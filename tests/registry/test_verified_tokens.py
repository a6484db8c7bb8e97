"""A token is verified once, and believed no longer than its key and itself are valid."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import jwt
import pytest

from lorikeet.rpc.errors import UnauthenticatedError
from registry_service.credentials import jwt_credential
from registry_service.key_set import FileKeySet, IssuerKey
from registry_service.tokens import TokenRules, TokenVerifier
from registry_service.verified_tokens import VerifiedToken, VerifiedTokens
from tests.registry.issuer import AUDIENCE, ISSUER, Issuer

KEY = IssuerKey("k", "", None)


def verified(subject: str, expire_time: float) -> VerifiedToken:
    ends = datetime.fromtimestamp(expire_time, UTC)
    return VerifiedToken(jwt_credential(f"jwt:{subject}", "", ends), "k", KEY, expire_time)


def test_they_are_bounded_and_end_with_their_tokens() -> None:
    now = [100.0]
    tokens = VerifiedTokens(max_tokens=2, clock=lambda: now[0])
    for name in ("a", "b"):
        tokens.add(name, verified(name, 110.0))
    assert tokens.get("a")
    tokens.add("c", verified("c", 105.0))
    assert [bool(tokens.get(name)) for name in ("a", "b", "c")] == [True, False, True]
    now[0] = 105.0
    assert [bool(tokens.get(name)) for name in ("a", "c")] == [True, False]


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    issuer = Issuer()
    issuer.add("k", elliptic=True)
    issuer.write(tmp_path / "keys.json")
    return issuer


async def test_a_signature_is_checked_once_until_its_key_is_withdrawn(
    tmp_path: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    decode = jwt.decode

    def counting(token: str, *arguments: object, **options: object) -> object:
        decoded.append(token)
        return decode(token, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(jwt, "decode", counting)
    keys = FileKeySet(tmp_path / "keys.json")
    verifier = TokenVerifier(TokenRules(ISSUER, AUDIENCE, ("ES256",)), keys)
    token = issuer.token("k")
    for _ in range(3):
        assert (await verifier.verify(token)).value == "jwt:alice"
    assert len(decoded) == 1
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(token[:-4] + "AAAA")
    issuer.add("k", elliptic=True)  # another key under the same id
    issuer.write(tmp_path / "keys.json")
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(token)


async def test_a_token_that_expires_is_refused_though_it_was_verified(
    tmp_path: Path, issuer: Issuer
) -> None:
    keys = FileKeySet(tmp_path / "keys.json")
    verifier = TokenVerifier(TokenRules(ISSUER, AUDIENCE, ("ES256",)), keys)
    token = issuer.token("k", exp=int(time.time()) - 28)  # the leeway is 30 seconds
    assert await verifier.verify(token)
    await asyncio.sleep(2.1)
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(token)
