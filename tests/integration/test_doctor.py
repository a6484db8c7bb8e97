"""The registry's checklist against a real PostgreSQL and a real S3 server, broken in turn."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from registry_service.doctor.__main__ import examine
from tests.certificates import Authority
from tests.doctor.conftest import finding, statuses
from tests.servers.buckets import create_bucket, s3_client
from tests.servers.everything import Servers, running_servers

BUCKET = "doctor"
# The servers are ended by their guard, not by who started them.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SECRET = "wrong-secret-that-must-not-be-seen"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with running_servers() as running:
        create_bucket(running.s3, BUCKET)
        yield running


@pytest.fixture
def base(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Settings of a registry whose bucket is reached over TLS."""
    for name in list(os.environ):
        if name.startswith("LORIKEET_REGISTRY"):
            monkeypatch.delenv(name)
    s3 = servers.s3
    return {
        "data-dir": str(tmp_path),
        "database-url": servers.postgres_18.url(),
        "s3-bucket": BUCKET,
        "s3-endpoint": s3.tls_endpoint,
        "s3-ca-bundle": str(s3.authority),
        "s3-region": s3.region,
        "s3-access-key-id": s3.access_key_id,
        "s3-secret-access-key": s3.secret_access_key,
    }


def failures(settings: dict[str, str], **changes: str) -> dict[str, str]:
    """Failed checks and what they say."""
    changed = settings | {name.replace("_", "-"): value for name, value in changes.items()}
    checklist = examine([f"--{name}={value}" for name, value in changed.items()])
    assert SECRET not in str(checklist.findings)
    return {f.check: f.detail for f in checklist.findings if f.status == "failed"}


def test_what_is_well(base: dict[str, str]) -> None:
    checklist = examine([f"--{name}={value}" for name, value in base.items()])
    assert {check for check, status in statuses(checklist).items() if status == "ok"} >= {
        *("s3.reach", "s3.tls", "s3.credentials", "s3.bucket", "s3.read_write", "s3.layout"),
        *("s3.clock", "database.reach"),
    }
    assert "PostgreSQL 18" in finding(checklist, "database.reach").detail
    assert list(failures(base)) == ["database.migrations"]  # nothing has run here yet


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        ({"s3_secret_access_key": SECRET}, "s3.credentials", "SignatureDoesNotMatch"),
        ({"s3_access_key_id": "nobody"}, "s3.credentials", "InvalidAccessKeyId"),
        ({"s3_bucket": "no-such-bucket"}, "s3.bucket", "NoSuchBucket"),
        ({"s3_endpoint": "https://127.0.0.1:1"}, "s3.reach", "refuses"),
        ({"s3_endpoint": "https://no-such-host.invalid"}, "s3.reach", "no address"),
    ],
)
def test_one_thing_wrong_with_s3(
    base: dict[str, str], change: dict[str, str], check: str, words: str
) -> None:
    found = failures(base, **change)
    assert words in found[check]
    assert [name for name in found if name.startswith("s3.")] == [check]


def test_another_authority(base: dict[str, str], tmp_path: Path) -> None:
    found = failures(base, s3_ca_bundle=str(Authority(tmp_path, "stranger").cert))
    assert "unknown issuer" in found["s3.tls"]


def test_plain_http_on_the_tls_port(base: dict[str, str], servers: Servers) -> None:
    wrong = servers.s3.endpoint.replace("http:", "https:")
    assert "does not speak TLS" in failures(base, s3_endpoint=wrong)["s3.tls"]


def test_adapters_that_were_synced_by_hand(base: dict[str, str], servers: Servers) -> None:
    key = "math/adapter_config.json"
    s3_client(servers.s3).put_object(Bucket=BUCKET, Key=key, Body=b"{}")
    assert "math/" in failures(base)["s3.layout"]
    assert "s3.layout" not in failures(base, s3_prefix="registry")
    s3_client(servers.s3).delete_object(Bucket=BUCKET, Key=key)


def test_a_wrong_database(base: dict[str, str], servers: Servers) -> None:
    missing = servers.postgres_15.url("missing")
    assert (
        'database "missing" does not exist'
        in failures(base, database_url=missing)["database.reach"]
    )


def test_a_stopped_database(base: dict[str, str], servers: Servers) -> None:
    servers.postgres_15.process.stop()
    try:
        assert "database.reach" in failures(base, database_url=servers.postgres_15.url())
    finally:
        servers.postgres_15.start()
    with psycopg.connect(servers.postgres_15.url().replace("+psycopg", "")):
        pass
