"""Callers known by their client certificates, over real mutual TLS."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from lorikeet.rpc.errors import LorikeetError, from_rpc_error
from lorikeet.rpc.tls import channel_credentials
from protos import registry_pb2 as pb
from protos import registry_pb2_grpc as rpc
from registry_service.config import load_settings
from registry_service.service import RegistryService
from tests.certificates import Authority
from tests.registry.support import USE, WHO, Client, failure, grants, make_tenant, shape

SPIFFE = "spiffe://example.org/ns/a/sa/app"


@dataclass
class Secure:
    """A registry that lets only certificates of its authority in."""

    authority: Authority
    address: str
    admin_key: str
    exits: AsyncExitStack

    async def client(
        self, name: str, uris: tuple[str, ...] = (), dns: tuple[str, ...] = (), key: str = ""
    ) -> Client:
        return Client(await self.channel(name, uris, dns), key)

    async def channel(
        self, name: str, uris: tuple[str, ...] = (), dns: tuple[str, ...] = ()
    ) -> aio.Channel:
        pair = self.authority.client(name, uris, dns)
        credentials = channel_credentials(self.authority.cert, pair.cert, pair.key)
        channel = aio.secure_channel(self.address, credentials)
        return await self.exits.enter_async_context(channel)


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[Secure]:
    authority = Authority(tmp_path)
    pair = authority.server()
    tls = ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
    tls += ["--tls-client-ca", str(authority.cert)]
    data_dir = tmp_path / "data"
    settings = load_settings(["--listen", "localhost:0", "--data-dir", str(data_dir), *tls])
    service = RegistryService(settings)
    address = await service.start()
    key = json.loads((data_dir / "credentials.json").read_text())["admin"]
    async with AsyncExitStack() as exits:
        yield Secure(authority, address, key, exits)
    await service.stop()


async def make_principal(admin: Client, identifier: str, *subjects: str) -> str:
    request = pb.CreatePrincipalRequest(
        parent="tenants/acme",
        principal_id=identifier,
        principal=pb.Principal(grants=grants((USE, "tenants/acme")), subjects=subjects),
    )
    created: pb.Principal = await admin("CreatePrincipal", request)
    return created.name


async def test_a_certificate_is_the_principal_that_one_of_its_names_means(secure: Secure) -> None:
    admin = await secure.client("admin", key=secure.admin_key)
    await make_tenant(admin, "acme")
    app = await make_principal(admin, "app", SPIFFE, "dns:app.example.org")
    await make_principal(admin, "other", "dns:other.example.org")
    for uris, dns in (
        ((SPIFFE,), ()),
        ((), ("App.example.org",)),
        ((SPIFFE, "https://app.example.org"), ("app.example.org", "*.example.org")),
    ):
        client = await secure.client("app", uris, dns)
        assert (await client("IdentifyCaller", WHO)).principal == app
    bad = shape(await failure(await secure.client("x", key="lk_0_0"), "IdentifyCaller", WHO), "X")
    for uris, dns in (
        ((), ()),
        (("spiffe://example.org/ns/a",), ()),
        ((SPIFFE + "/",), ()),
        (("https://app.example.org",), ()),
        (("dns:app.example.org",), ()),  # a URI that looks like a name
        ((), ("*.example.org",)),
        ((SPIFFE,), ("other.example.org",)),  # two principals
    ):
        client = await secure.client("app", uris, dns)
        assert shape(await failure(client, "IdentifyCaller", WHO), "X") == bad, (uris, dns)


async def test_a_token_outweighs_the_certificate_and_a_bad_one_is_not_forgiven(
    secure: Secure,
) -> None:
    admin = await secure.client("admin", key=secure.admin_key)
    await make_tenant(admin, "acme")
    await make_principal(admin, "app", SPIFFE)
    both = await secure.client("app", (SPIFFE,), key=secure.admin_key)
    assert (await both("IdentifyCaller", WHO)).principal.endswith("/admin")
    make: Any = rpc
    stub = make.AccessServiceStub(await secure.channel("app", (SPIFFE,)))
    for metadata in (
        [("authorization", "Bearer lk_0_0")],
        [("authorization", "")],
        [("authorization", "Basic YTpi")],
        [("authorization", f"Bearer {secure.admin_key}")] * 2,
    ):
        with pytest.raises(LorikeetError) as refused:
            await _translated(stub.IdentifyCaller(WHO, metadata=metadata))
        assert refused.value.reason == "CREDENTIAL_INVALID", metadata


async def _translated(call: Any) -> Any:
    try:
        return await call
    except aio.AioRpcError as error:
        raise from_rpc_error(error) from None


async def test_a_service_learns_whose_certificate_it_verified(secure: Secure) -> None:
    admin = await secure.client("admin", key=secure.admin_key)
    await make_tenant(admin, "acme")
    app = await make_principal(admin, "app", SPIFFE, "jwt:app")
    found = await admin("IdentifyCaller", pb.IdentifyCallerRequest(subject=SPIFFE))
    assert found.principal == app
    # A service cannot have verified a token but by asking with it.
    for subject in ("jwt:app", "spiffe://example.org/other", "nonsense", f"{SPIFFE}\n{SPIFFE}"):
        refused = await failure(admin, "IdentifyCaller", pb.IdentifyCallerRequest(subject=subject))
        assert refused.reason == "CREDENTIAL_INVALID", subject
    both = pb.IdentifyCallerRequest(subject=SPIFFE, api_key=secure.admin_key)
    assert (await failure(admin, "IdentifyCaller", both)).reason == "INVALID_FIELD"


async def test_a_certificate_that_expires_on_an_open_connection_stops_working(
    secure: Secure,
) -> None:
    admin = await secure.client("admin", key=secure.admin_key)
    await make_tenant(admin, "acme")
    app = await make_principal(admin, "app", SPIFFE)
    pair = secure.authority.client("brief", [SPIFFE], days=2.5 / 86400)
    credentials = channel_credentials(secure.authority.cert, pair.cert, pair.key)
    async with aio.secure_channel(secure.address, credentials) as channel:
        client = Client(channel, "")
        assert (await client("IdentifyCaller", WHO)).principal == app
        await asyncio.sleep(2.6)
        refused = await failure(client, "IdentifyCaller", WHO)
    assert refused.reason == "CREDENTIAL_INVALID"


async def test_subjects_mean_nothing_in_plaintext(tmp_path: Path) -> None:
    settings = load_settings(["--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")])
    service = RegistryService(settings)
    async with aio.insecure_channel(await service.start()) as channel:
        refused = await failure(Client(channel, ""), "IdentifyCaller", WHO)
    await service.stop()
    assert refused.reason == "CREDENTIAL_INVALID"
