"""Both services over mutual TLS: nobody holds an API key, and everyone is known."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc import aio

from inference_service.config import CredentialsError
from inference_service.service import InferenceService
from lorikeet.rpc.errors import LorikeetError, UnauthenticatedError
from lorikeet.rpc.tls import TlsFilesError, channel_credentials
from protos import registry_pb2 as pb
from registry_service.config import load_settings
from registry_service.service import RegistryService
from tests.certificates import Authority, Pair
from tests.inference.scripted_engine import ScriptedEngine
from tests.inference.test_revocations import ENDLESS, end_of, streaming
from tests.inference.world import User, settings_for, write_base_model
from tests.registry.issuer import AUDIENCE, ISSUER, Issuer
from tests.registry.support import USE, Client, grants, make_base_model, make_tenant

INFERENCE = "spiffe://example.org/inference"
ALICE = "spiffe://example.org/alice"


@dataclass
class Secure:
    """Where users call, and who vouches for them."""

    address: str
    authority: Authority
    issuer: Issuer
    exits: AsyncExitStack
    engine: ScriptedEngine

    async def user(self, name: str, *uris: str, token: str = "", days: float = 1.0) -> User:
        credentials = self.shown_by(self.authority.client(name, uris, days=days))
        channel = aio.secure_channel(self.address, credentials)
        return User(await self.exits.enter_async_context(channel), token)

    def shown_by(self, pair: Pair) -> grpc.ChannelCredentials:
        return channel_credentials(self.authority.cert, pair.cert, pair.key)


def arguments(pair: Pair, authority: Authority) -> list[str]:
    files = {"cert": pair.cert, "key": pair.key, "client-ca": authority.cert}
    return [f"--tls-{name}={path}" for name, path in files.items()]


async def prepare(admin: Client, model: Path) -> None:
    """What an operator sets up once: the service's subject, a tenant and a user of it."""
    await make_base_model(admin, config_json=(model / "config.json").read_text())
    await make_tenant(admin, "acme")
    service = pb.Principal(name="tenants/platform/principals/inference", subjects=[INFERENCE])
    await admin("UpdatePrincipal", pb.UpdatePrincipalRequest(principal=service))
    alice = pb.Principal(subjects=[ALICE], grants=grants((USE, "tenants/acme")))
    request = pb.CreatePrincipalRequest(
        parent="tenants/acme", principal_id="alice", principal=alice
    )
    await admin("CreatePrincipal", request)


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[Secure]:
    authority, issuer = Authority(tmp_path), Issuer()
    issuer.add("k", elliptic=True)
    issuer.write(tmp_path / "keys.json")
    pair = authority.server()
    tokens = [f"--jwt-issuer={ISSUER}", f"--jwt-audience={AUDIENCE}", "--jwt-tenant-claim=tenant"]
    tokens += [f"--jwt-jwks={tmp_path / 'keys.json'}"]
    given = ["--listen", "localhost:0", "--data-dir", str(tmp_path / "registry")]
    registry = RegistryService(load_settings([*given, *arguments(pair, authority), *tokens]))
    async with AsyncExitStack() as exits:
        registry_address = await registry.start()
        exits.push_async_callback(registry.stop)
        key = json.loads((tmp_path / "registry" / "credentials.json").read_text())["admin"]
        own = authority.client("inference", [INFERENCE])
        trusted = channel_credentials(authority.cert, own.cert, own.key)
        channel = aio.secure_channel(registry_address, trusted)
        await prepare(
            Client(await exits.enter_async_context(channel), key), write_base_model(tmp_path)
        )
        settings = settings_for(
            tmp_path,
            registry_address,
            credentials=None,
            listen="localhost:0",
            tls_cert=pair.cert,
            tls_key=pair.key,
            tls_client_ca=authority.cert,
            registry_tls_ca=authority.cert,
            registry_tls_cert=own.cert,
            registry_tls_key=own.key,
        )
        engine = ScriptedEngine()
        service = InferenceService(settings, engine.attach)
        exits.push_async_callback(service.stop)
        yield Secure(await service.start(), authority, issuer, exits, engine)


async def test_a_certificate_and_a_token_are_enough(secure: Secure) -> None:
    alice = await secure.user("alice", ALICE)
    assert (await alice.generate(prompt="x")).start.request_id
    bob = await secure.user("app", token=secure.issuer.token("k", "bob", tenant="acme"))
    assert (await bob.generate(prompt="x")).start.request_id


async def test_what_the_registry_refuses_is_refused(secure: Secure) -> None:
    stranger = "spiffe://example.org/stranger"
    for user in (
        await secure.user("stranger", stranger),
        await secure.user("nobody"),
        await secure.user("two", ALICE, INFERENCE),
        await secure.user("app", ALICE, token=secure.issuer.token("k", "bob", tenant="nowhere")),
        await secure.user("app", ALICE, token=secure.issuer.token("k", "bob", exp=1)),
    ):
        with pytest.raises(UnauthenticatedError) as refused:
            await user.generate(prompt="x")
        assert refused.value.reason == "CREDENTIAL_INVALID"


async def test_a_stream_ends_with_the_certificate_it_was_asked_for_with(secure: Secure) -> None:
    alice = await secure.user("alice", ALICE, days=4 / 86_400)
    secure.engine.steps = list(ENDLESS)
    call = await streaming(alice)
    assert (await end_of(call)).reason == "ACCESS_REVOKED"


async def test_a_new_certificate_for_the_registry_is_used_without_a_restart(
    secure: Secure,
) -> None:
    alice = await secure.user("alice", ALICE)
    secure.authority.client("inference", ["spiffe://example.org/stranger"])
    with pytest.raises(LorikeetError):
        await alice.generate(prompt="x")
    secure.authority.client("inference", [INFERENCE]).cert.write_text("half a cert")
    with pytest.raises(LorikeetError):
        await alice.generate(prompt="x")
    secure.authority.client("inference", [INFERENCE])
    for _ in range(3):
        assert (await alice.generate(prompt="x")).start.request_id


async def test_half_of_the_settings_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.server()
    nothing = settings_for(tmp_path, "localhost:1", credentials=None)
    with pytest.raises(CredentialsError, match="--credentials"):
        InferenceService(nothing, ScriptedEngine().attach)
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "credentials.json").write_text('{"inference": "key"}')
    for half in ({"tls_cert": pair.cert}, {"registry_tls_cert": pair.cert}):
        settings = settings_for(tmp_path, "localhost:1", **half)
        with pytest.raises(TlsFilesError, match="both"):
            InferenceService(settings, ScriptedEngine().attach)
