"""Which tokens are believed, against a running registry; and whom they make the caller."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from grpc import aio

from protos import registry_pb2 as pb
from registry_service.config import Settings, load_settings
from registry_service.key_set import KeySetError
from registry_service.service import RegistryService
from registry_service.tokens import TokenSettingsError, token_verifier
from tests.registry.conftest import World
from tests.registry.issuer import AUDIENCE, ISSUER, Issuer
from tests.registry.support import (
    DENIED,
    USE,
    WHO,
    Client,
    failure,
    grants,
    make_adapter,
    make_registered,
    publish,
    shape,
)


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    issuer = Issuer()
    issuer.add("rsa")
    issuer.add("ec", elliptic=True)
    issuer.write(tmp_path / "keys.json")
    return issuer


@pytest.fixture
def settings(tmp_path: Path, issuer: Issuer) -> Settings:
    return load_settings(
        [
            *("--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")),
            *("--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE),
            *("--jwt-jwks", str(tmp_path / "keys.json"), "--jwt-tenant-claim", "tenant"),
        ]
    )


@pytest.fixture
async def alice(world: World) -> str:
    """The principal that alice's tokens mean."""
    request = pb.CreatePrincipalRequest(
        parent="tenants/acme",
        principal_id="alice",
        principal=pb.Principal(grants=grants((USE, "tenants/acme")), subjects=["jwt:alice"]),
    )
    created: pb.Principal = await world.admin("CreatePrincipal", request)
    return created.name


async def test_a_good_token_is_its_subjects_principal(
    world: World, issuer: Issuer, alice: str
) -> None:
    for key_id in ("rsa", "ec"):
        found = await world.client(issuer.token(key_id))("IdentifyCaller", WHO)
        assert (found.principal, found.tenant) == (alice, "tenants/acme")
    now = int(time.time())
    barely = issuer.token("ec", exp=now - 10, nbf=now + 10)  # within the leeway for clocks
    assert (await world.client(barely)("IdentifyCaller", WHO)).principal == alice
    listed = issuer.token("ec", aud=["other", AUDIENCE])
    assert (await world.client(listed)("IdentifyCaller", WHO)).principal == alice


def tampered(token: str, **claims: Any) -> str:
    header, body, signature = token.split(".")
    content = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    body = base64.urlsafe_b64encode(json.dumps({**content, **claims}).encode()).decode()
    return ".".join((header, body.rstrip("="), signature))


def unsigned(claims: dict[str, Any], **header: Any) -> str:
    parts = ({"typ": "JWT", **header}, claims)
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts)
    return ".".join(part.rstrip("=") for part in encoded) + "."


def signed_with_the_public_key(issuer: Issuer) -> str:
    """What a verifier takes for HMAC if it believes the header and has one kind of key."""
    public = issuer.keys["rsa"].public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "rsa"}).encode())
    body = base64.urlsafe_b64encode(json.dumps(issuer.claims()).encode())
    signed = b".".join(part.rstrip(b"=") for part in (header, body))
    signature = jwt.get_algorithm_by_name("HS256").sign(signed, pem)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def bad_tokens(issuer: Issuer) -> dict[str, str]:
    now = int(time.time())
    good = issuer.token("rsa")
    stranger = rsa.generate_private_key(65537, 2048)
    return {
        "another's key": issuer.token("rsa", key=stranger),
        "an algorithm that is not allowed": issuer.token("rsa", algorithm="RS384"),
        "an algorithm of another kind of key": issuer.token(
            "rsa", key=ec.generate_private_key(ec.SECP256R1())
        ),
        "none": unsigned(issuer.claims(), alg="none", kid="rsa"),
        "None": unsigned(issuer.claims(), alg="None", kid="rsa"),
        "no algorithm": unsigned(issuer.claims(), kid="rsa"),
        "HMAC with the public key": signed_with_the_public_key(issuer),
        "expired": issuer.token("rsa", exp=now - 60),
        "never expires": issuer.token("rsa", exp=None),
        "expires at infinity": issuer.token("rsa", exp=float("inf")),
        "not valid yet": issuer.token("rsa", nbf=now + 60),
        "made in the future": issuer.token("rsa", iat=now + 60),
        "for another": issuer.token("rsa", aud="other"),
        "for nobody": issuer.token("rsa", aud=None),
        "another issuer": issuer.token("rsa", iss=f"{ISSUER}/"),
        "no issuer": issuer.token("rsa", iss=None),
        "no subject": issuer.token("rsa", sub=None),
        "an empty subject": issuer.token("rsa", sub=""),
        "a subject with a space": issuer.token("rsa", sub="alice smith"),
        "a subject of two lines": issuer.token("rsa", sub="alice\njwt:root"),
        "a subject in capitals": issuer.token("rsa", sub="Alice"),
        "a long subject": issuer.token("rsa", sub="a" * 300),
        "an unknown key id": issuer.token("rsa", header={"kid": "absent"}),
        "no key id among several": jwt.encode(issuer.claims(), issuer.keys["rsa"], "RS256"),
        "critical headers": issuer.token("rsa", header={"crit": ["b64"], "b64": True}),
        "other claims": tampered(good, sub="root"),
        "no signature": good.rpartition(".")[0] + ".",
        "two parts": good.rpartition(".")[0],
        "half": good[: len(good) // 2],
        "huge": issuer.token("rsa", padding="x" * 5000),
    }


async def test_an_identity_tells_when_its_token_ends(
    world: World, issuer: Issuer, alice: str
) -> None:
    for seconds in (100, 200):  # two tokens of one subject
        ends = int(time.time()) + seconds
        token = issuer.token("rsa", exp=ends)
        presented = pb.IdentifyCallerRequest(api_key=token)
        for found in (
            await world.inference("IdentifyCaller", presented),
            await world.client(token)("IdentifyCaller", WHO),
        ):
            assert found.expire_time.seconds == ends + 30, "with the leeway for clocks"
            assert not found.api_key


async def test_every_bad_token_gets_the_answer_of_a_bad_key(
    world: World, issuer: Issuer, alice: str
) -> None:
    expected = shape(await failure(world.client("lk_0_0"), "IdentifyCaller", WHO), "X")
    assert expected[0] == grpc.StatusCode.UNAUTHENTICATED
    for what, token in bad_tokens(issuer).items():
        direct = shape(await failure(world.client(token), "IdentifyCaller", WHO), "X")
        presented = pb.IdentifyCallerRequest(api_key=token)
        relayed = await failure(world.inference, "IdentifyCaller", presented)
        assert relayed.metadata.pop("credential") == "presented"
        assert direct == shape(relayed, "X") == expected, what


async def test_keys_rotate_with_the_file(
    world: World, issuer: Issuer, alice: str, tmp_path: Path
) -> None:
    old = issuer.token("rsa")
    issuer.add("new", elliptic=True)
    new = issuer.token("new")
    path = tmp_path / "keys.json"
    assert (await failure(world.client(new), "IdentifyCaller", WHO)).reason == "CREDENTIAL_INVALID"
    issuer.write(path)
    for token in (old, new):
        assert (await world.client(token)("IdentifyCaller", WHO)).principal == alice
    del issuer.keys["rsa"]
    issuer.write(path)
    assert (await failure(world.client(old), "IdentifyCaller", WHO)).reason == "CREDENTIAL_INVALID"
    path.write_text("{")
    assert (await world.client(new)("IdentifyCaller", WHO)).principal == alice


async def test_an_unknown_subject_is_a_plain_user_of_the_tenant_it_claims(
    world: World, issuer: Issuer
) -> None:
    adapter = await make_registered(world.publisher, "acme", "bot")
    await publish(world.publisher, adapter, make_adapter().files())
    bob = world.client(issuer.token("ec", "bob", tenant="acme"))
    identity = await bob("IdentifyCaller", WHO)
    assert identity.tenant == "tenants/acme"
    assert list(identity.grants) == grants((USE, "tenants/acme"))
    resolve = pb.ResolveAdapterRequest(tenant="tenants/acme", name=adapter)
    assert (await bob("ResolveAdapter", resolve)).version.version == 1
    assert (await failure(bob, "DeleteAdapter", pb.DeleteAdapterRequest(name=adapter))).code == (
        DENIED
    )
    asked = pb.ListAuditEventsRequest(resource_prefix=adapter, page_size=1)
    event = (await world.admin("ListAuditEvents", asked)).events[0]
    assert (event.principal, event.detail["subject"]) == (identity.principal, "jwt:bob")
    carol = await world.client(issuer.token("ec", "carol", tenant="acme"))("IdentifyCaller", WHO)
    assert carol.principal != identity.principal
    for tenant in ("nowhere", "", "tenants/acme", 7, ["acme"], None):
        stranger = world.client(issuer.token("ec", "bob", tenant=tenant))
        assert (await failure(stranger, "IdentifyCaller", WHO)).reason == "CREDENTIAL_INVALID"


async def test_a_principals_subject_outweighs_the_claim(
    world: World, issuer: Issuer, alice: str
) -> None:
    claimed = world.client(issuer.token("ec", "alice", tenant="globex"))
    assert (await claimed("IdentifyCaller", WHO)).principal == alice


async def test_a_service_learns_who_presented_a_token(
    world: World, issuer: Issuer, alice: str
) -> None:
    request = pb.IdentifyCallerRequest(api_key=issuer.token("rsa"))
    assert (await world.inference("IdentifyCaller", request)).principal == alice
    assert (await failure(world.globex, "IdentifyCaller", request)).code == DENIED


async def test_api_keys_work_beside_tokens(world: World) -> None:
    assert (await world.acme("IdentifyCaller", WHO)).tenant == "tenants/acme"


def test_settings_that_would_be_unsafe_refuse_to_start(tmp_path: Path, issuer: Issuer) -> None:
    keys = str(tmp_path / "keys.json")
    whole = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": keys}
    weak = Issuer({"weak": rsa.generate_private_key(65537, 1024)})
    for changes, message in (
        ({"audience": ""}, "together"),
        ({"algorithms": "RS256,none"}, "'none' is not among"),
        ({"algorithms": "HS256"}, "'HS256' is not among"),
        ({"algorithms": ""}, "'' is not among"),
        ({"jwks": str(tmp_path / "absent")}, "cannot be read"),
        ({"jwks": "http://issuer.example/keys"}, "not an https address"),
        ({"jwks": written(tmp_path / "a", "[]")}, "no key set"),
        ({"jwks": written(tmp_path / "b", '{"keys": [{"kty": "oct", "k": "AA"}]}')}, "usable"),
        ({"jwks": written(tmp_path / "c", json.dumps(weak.key_set()))}, "usable"),
    ):
        chosen = {**whole, **changes}
        given = [f"--jwt-{name}={value}" for name, value in chosen.items()]
        with pytest.raises((TokenSettingsError, KeySetError), match=message):
            token_verifier(load_settings(["--data-dir", str(tmp_path), *given]))


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


async def test_where_no_issuer_is_configured_no_token_is_valid(
    tmp_path: Path, issuer: Issuer
) -> None:
    settings = load_settings(["--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")])
    assert token_verifier(settings) is None
    service = RegistryService(settings)
    async with aio.insecure_channel(await service.start()) as channel:
        refused = await failure(Client(channel, issuer.token("rsa")), "IdentifyCaller", WHO)
    await service.stop()
    assert refused.reason == "CREDENTIAL_INVALID"
