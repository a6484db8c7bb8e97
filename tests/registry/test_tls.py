"""The registry over real TLS: what it starts with, whom it lets in, and new certificates."""

import asyncio
import json
import ssl
from pathlib import Path

import grpc
import pytest
from grpc import aio

from lorikeet.rpc.server import GrpcServer, InsecureBindError
from lorikeet.rpc.tls import ServerTlsFiles, TlsFilesError, channel_credentials
from registry_service.config import load_settings
from registry_service.service import RegistryService
from tests.certificates import Authority, Pair
from tests.registry.support import WHO, Client


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def arguments(tmp_path: Path, pair: Pair | None = None, *more: str) -> list[str]:
    given = ["--listen", "localhost:0", "--data-dir", str(tmp_path / "data")]
    if pair:
        given += ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
    return [*given, *more]


def make(tmp_path: Path, pair: Pair | None = None, *more: str) -> RegistryService:
    return RegistryService(load_settings(arguments(tmp_path, pair, *more)))


def admin_key(tmp_path: Path) -> str:
    key: str = json.loads((tmp_path / "data" / "credentials.json").read_text())["admin"]
    return key


async def caller_at(address: str, credentials: grpc.ChannelCredentials | None, key: str) -> str:
    """The principal that a new connection is taken for, or the status of the failure."""
    channel = (
        aio.secure_channel(address, credentials) if credentials else aio.insecure_channel(address)
    )
    async with channel:
        try:
            stub = Client(channel, key)
            principal: str = (await stub("IdentifyCaller", WHO)).principal
        except Exception as error:
            return str(getattr(error, "code", error))
        return principal


async def test_only_tls_is_spoken_once_it_is_configured(
    tmp_path: Path, authority: Authority
) -> None:
    other = Authority(tmp_path, "other")
    service = make(tmp_path, authority.server())
    address = await service.start()
    key = admin_key(tmp_path)
    try:
        trusted = channel_credentials(authority.cert)
        assert await caller_at(address, trusted, key) == "tenants/platform/principals/admin"
        for credentials in (None, channel_credentials(other.cert)):
            assert "UNAVAILABLE" in await caller_at(address, credentials, key)
    finally:
        await service.stop()


async def test_clients_without_a_certificate_of_the_authority_stay_out(
    tmp_path: Path, authority: Authority
) -> None:
    other = Authority(tmp_path, "other")
    service = make(tmp_path, authority.server(), "--tls-client-ca", str(authority.cert))
    address = await service.start()
    key = admin_key(tmp_path)
    try:
        good, forged = authority.client("good"), other.client("forged")
        allowed = channel_credentials(authority.cert, good.cert, good.key)
        assert await caller_at(address, allowed, key) == "tenants/platform/principals/admin"
        for credentials in (
            channel_credentials(authority.cert),
            channel_credentials(authority.cert, forged.cert, forged.key),
        ):
            assert "UNAVAILABLE" in await caller_at(address, credentials, key)
    finally:
        await service.stop()


async def test_the_authorities_of_clients_are_read_again_too(
    tmp_path: Path, authority: Authority
) -> None:
    successor = Authority(tmp_path, "successor")
    accepted = tmp_path / "accepted.pem"
    accepted.write_bytes(authority.cert.read_bytes())
    service = make(tmp_path, authority.server(), "--tls-client-ca", str(accepted))
    address = await service.start()
    key = admin_key(tmp_path)
    try:
        old, new = authority.client("old"), successor.client("new")
        for authorities, expected in (
            ([authority], ("admin", "UNAVAILABLE")),
            ([authority, successor], ("admin", "admin")),
            ([successor], ("UNAVAILABLE", "admin")),
        ):
            accepted.write_bytes(b"".join(each.cert.read_bytes() for each in authorities))
            for pair, outcome in zip((old, new), expected, strict=True):
                credentials = channel_credentials(authority.cert, pair.cert, pair.key)
                assert outcome in await caller_at(address, credentials, key)
    finally:
        await service.stop()


async def test_a_new_certificate_is_served_without_a_restart(
    tmp_path: Path, authority: Authority
) -> None:
    pair = authority.server()
    service = make(tmp_path, pair)
    address = await service.start()
    key, port = admin_key(tmp_path), int(address.rpartition(":")[2])
    try:
        first = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
        pair.cert.write_text("half a cert")
        trusted = channel_credentials(authority.cert)
        assert "admin" in await caller_at(address, trusted, key), "an unusable file changes nothing"
        authority.server()
        second = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
        assert first != second == pair.cert.read_text()
        assert "admin" in await caller_at(address, trusted, key)
        successor = Authority(tmp_path, "successor")
        successor.server()
        assert "UNAVAILABLE" in await caller_at(address, trusted, key)
        assert "admin" in await caller_at(address, channel_credentials(successor.cert), key)
    finally:
        await service.stop()


def test_unusable_files_refuse_to_start(tmp_path: Path, authority: Authority) -> None:
    good, other = authority.server("good"), authority.server("other")
    expired = authority.server("expired", days=-0.5)
    empty = tmp_path / "empty.pem"
    empty.touch()
    for cert, key, message in (
        (tmp_path / "absent.pem", good.key, "absent.pem: cannot be read"),
        (good.cert, tmp_path / "absent.key", "absent.key: cannot be read"),
        (good.key, good.key, "no certificate in PEM"),
        (good.cert, good.cert, "not an unencrypted private key"),
        (good.cert, other.key, "is not the key of the certificate"),
        (expired.cert, expired.key, "expired at"),
        (empty, good.key, "no certificate in PEM"),
    ):
        with pytest.raises(TlsFilesError, match=message):
            make(tmp_path, Pair(cert, key))
    for one in (["--tls-cert", str(good.cert)], ["--tls-client-ca", str(authority.cert)]):
        with pytest.raises(TlsFilesError, match="both"):
            make(tmp_path, None, *one)
    with pytest.raises(TlsFilesError, match="empty"):
        make(tmp_path, good, "--tls-client-ca", str(empty))


async def test_plaintext_leaves_the_machine_only_when_told_to(
    tmp_path: Path, authority: Authority
) -> None:
    with pytest.raises(InsecureBindError, match="--tls-cert"):
        make(tmp_path, None, "--listen", "0.0.0.0:0")
    pair = authority.server()
    GrpcServer("0.0.0.0:0", tls=ServerTlsFiles(pair.cert, pair.key))
    GrpcServer("0.0.0.0:0", insecure=True)
