"""Clients and the command line over TLS, against a registry that is a process of its own."""

import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lorikeet import AdminClient, AsyncAdminClient, Client, errors, tls_credentials
from lorikeet.cli import app
from lorikeet.connection import Connection, InsecureTargetError
from lorikeet.rpc import probe
from tests.certificates import Authority
from tests.registry.process import Process

SPIFFE = "spiffe://example.org/operator"


@dataclass
class Secure:
    """A registry that lets only certificates of its authority in."""

    address: str
    authority: Authority
    admin_key: str

    def run(self, *arguments: str, name: str = "nobody", key: str = "") -> Result:
        """The command line with the certificate of `name`."""
        pair = self.authority.client(name, [SPIFFE] if name == "operator" else [])
        files = {"CA": self.authority.cert, "CERT": pair.cert, "KEY": pair.key}
        environment = {f"LORIKEET_TLS_{what}": str(path) for what, path in files.items()}
        given = {"LORIKEET_REGISTRY": self.address, "LORIKEET_API_KEY": key, **environment}
        return CliRunner().invoke(app, list(arguments), env=given)


@pytest.fixture(autouse=True)
def _no_running_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    tmp_path = tmp_path_factory.mktemp("secure")
    authority = Authority(tmp_path)
    pair = authority.server()
    arguments = ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
    arguments += ["--tls-client-ca", str(authority.cert), "--listen", "localhost:0"]
    process = Process(tmp_path / "data", *arguments)
    try:
        address = process.wait_ready()
        key = json.loads((tmp_path / "data" / "credentials.json").read_text())["admin"]
        yield Secure(address, authority, key)
    finally:
        process.stop(signal.SIGTERM)


def shown(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_operator_is_given_a_name_and_calls_without_a_key(secure: Secure) -> None:
    def as_admin(*arguments: str) -> str:
        return shown(secure.run(*arguments, key=secure.admin_key))

    as_admin("tenants", "create", "acme")
    created = json.loads(
        as_admin(
            *("principals", "create", "acme/operator", "--grant", "admin", "--json"),
            *("--subject", SPIFFE, "--grant", "audit=*", "--grant", "adapters.use"),
        )
    )
    assert created["subjects"] == [SPIFFE]
    whoami = json.loads(shown(secure.run("whoami", "--json", name="operator")))
    assert whoami["principal"] == "tenants/acme/principals/operator"
    listed = shown(secure.run("principals", "list", "acme", name="operator"))
    assert "admin=*, adapters.use=acme, audit=*" in listed

    refused = secure.run("whoami")
    assert refused.exit_code == 1
    assert "[CREDENTIAL_INVALID]" in refused.stderr

    stale = secure.run(
        *("principals", "update", "acme/operator", "--no-subjects", "--etag", '"stale"'),
        key=secure.admin_key,
    )
    assert "[ETAG_MISMATCH]" in stale.stderr
    as_admin("principals", "update", "acme/operator", "--no-subjects")
    assert secure.run("whoami", name="operator").exit_code == 1


def test_keys_are_listed_and_revoked(secure: Secure) -> None:
    def as_admin(*arguments: str) -> str:
        return shown(secure.run(*arguments, key=secure.admin_key))

    as_admin("tenants", "create", "globex")
    created = json.loads(as_admin("keys", "create", "globex", "--expires-in-days", "1", "--json"))
    assert "globex/service" in shown(secure.run("whoami", key=created["secret"]))
    (listed,) = json.loads(as_admin("keys", "list", "globex", "--json"))
    assert listed["name"] == created["api_key"]["name"]
    assert "secret" not in listed
    as_admin("keys", "delete", listed["name"])
    assert secure.run("whoami", key=created["secret"]).exit_code == 1
    as_admin("principals", "set-grants", "globex/service")
    assert json.loads(as_admin("principals", "show", "globex/service", "--json"))["grants"] == []
    as_admin("principals", "delete", "globex/service")


async def test_the_sdk_speaks_tls_sync_and_async(secure: Secure) -> None:
    pair = secure.authority.client("app")
    trusted = tls_credentials(secure.authority.cert, pair.cert, pair.key)
    async with AsyncAdminClient(secure.address, secure.admin_key, credentials=trusted) as admin:
        assert (await admin.identify_caller()).tenant == "tenants/platform"
    with (
        AdminClient(f"grpcs://{secure.address}", secure.admin_key) as stranger,
        pytest.raises(errors.UnavailableError),
    ):
        stranger.identify_caller()  # the public authorities do not know this one


def test_the_health_probe_shows_a_certificate(
    secure: Secure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = secure.authority.client("probe")
    given = ["probe", secure.address, "--tls-ca", str(secure.authority.cert)]
    for more, status in (([], 1), (["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)], 0)):
        monkeypatch.setattr(sys, "argv", [*given, *more])
        assert probe.main() == status
    assert capsys.readouterr().out.splitlines()[-1] == "SERVING"


def test_no_key_leaves_the_machine_in_plaintext() -> None:
    for target in ("registry.example:50051", "10.0.0.1:1", "[2001:db8::1]:1"):
        with pytest.raises(InsecureTargetError):
            Client(target, "lk_1_secret")
        assert not Connection(target, "lk_1_secret", insecure=True).uses_tls
    assert Connection("grpcs://registry.example:50051", "lk_1_secret").uses_tls


def test_unusable_files_are_one_line(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.pem")
    result = CliRunner().invoke(
        app, ["--registry", "localhost:1", "--api-key", "k", "--tls-ca", absent, "whoami"]
    )
    assert result.exit_code == 1
    assert "absent.pem" in result.output
    assert "Traceback" not in result.output
