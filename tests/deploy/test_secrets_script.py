"""deploy/secrets.sh: private files, certificates that verify, and nothing said."""

import shutil
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from lorikeet.rpc.tls import ServerTlsFiles, server_credentials

ROOT = Path(__file__).resolve().parents[2]


def run(directory: Path) -> str:
    script = directory / "deploy" / "secrets.sh"
    finished = subprocess.run([script], capture_output=True, text=True, timeout=60, check=True)
    return finished.stdout + finished.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    directory = tmp_path_factory.mktemp("checkout")
    (directory / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "secrets.sh", directory / "deploy")
    return directory, run(directory)


def test_every_declared_secret_is_made_and_private(made: tuple[Path, str]) -> None:
    directory, output = made
    secrets = directory / "deploy" / "secrets"
    declared = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["secrets"]
    assert {path.name for path in secrets.iterdir()} == {*declared, "ca.key"}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    for path in secrets.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        assert path.read_text() not in output
    for name in ("postgres_password", "s3_secret_access_key", "grafana_password"):
        secret = (secrets / name).read_text()
        assert len(secret) == 48
        assert secret not in output
    assert (secrets / "postgres_password").read_text() in (secrets / "database_url").read_text()
    assert "LORIKEET_UID=0" not in (directory / ".env").read_text()


def test_a_second_run_changes_nothing(made: tuple[Path, str]) -> None:
    directory, _ = made
    files = sorted((directory / "deploy" / "secrets").iterdir())
    before = [path.read_bytes() for path in files]
    assert run(directory) == ""
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize("service", ["postgres", "s3", "registry", "inference"])
def test_certificates_are_for_their_service(made: tuple[Path, str], service: str) -> None:
    secrets = made[0] / "deploy" / "secrets"
    pair = ServerTlsFiles(secrets / f"{service}.pem", secrets / f"{service}.key")
    server_credentials(pair)
    certificate = x509.load_pem_x509_certificate(pair.cert.read_bytes())
    names = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    assert isinstance(names.value, x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == [service, "localhost"]
    client = ssl.create_default_context(cafile=str(secrets / "ca.pem"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.cert, pair.key)
    assert shaken(client, server, service)
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(client, server, "another")


def shaken(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    """A handshake in memory: what the client says of the server's certificate."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname=name)
    theirs = server.wrap_bio(up, down, server_side=True)
    for _ in range(3):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ours.version() is not None
