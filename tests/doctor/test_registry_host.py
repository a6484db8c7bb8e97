"""Checks that need the registry's settings, in the process that `lorikeet doctor` starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine

from registry_service.bootstrap import migration_config
from registry_service.doctor.__main__ import examine
from tests.certificates import Authority
from tests.doctor.conftest import Served, finding, statuses
from tests.registry.process import ROOT


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("LORIKEET_REGISTRY", "LORIKEET_API_KEY", "LORIKEET_TLS")):
            monkeypatch.delenv(name)


def test_settings_that_are_missing_or_wrong() -> None:
    found = finding(examine([]), "registry.settings")
    assert (found.status, "data_dir" in found.detail) == ("failed", True)
    checklist = examine(["--data-dir", "x", "--num-read-threads", "-1"])
    assert "num_read_threads" in finding(checklist, "registry.settings").detail


def test_tables_of_another_version(tmp_path: Path) -> None:
    arguments = ["--data-dir", str(tmp_path)]
    checklist = examine(arguments)
    assert "no tables yet" in finding(checklist, "database.migrations").detail
    assert statuses(checklist)["s3.bucket"] == "skipped"

    config = migration_config()
    engine = create_engine(f"sqlite+pysqlite:///{tmp_path}/registry.db")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    assert "are at 0002" in finding(examine(arguments), "database.migrations").detail
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert "does not know" in finding(examine(arguments), "database.migrations").detail
    engine.dispose()


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    url = "postgresql+psycopg://user:hunter2@127.0.0.1:1/registry"
    checklist = examine(["--data-dir", str(tmp_path), "--database-url", url])
    found = finding(checklist, "database.reach")
    assert (found.status, found.advice.startswith("start PostgreSQL")) == ("failed", True), found
    assert statuses(checklist)["database.migrations"] == "skipped"
    assert "hunter2" not in str(checklist.findings)


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.server("one"), authority.server("other")
    tls = ["--tls-cert", str(one.cert), "--tls-key", str(other.key)]
    found = finding(examine(["--data-dir", str(tmp_path), *tls]), "registry.certificate")
    assert "is not the key of" in found.detail


def test_the_command_says_what_it_finds_and_exits_accordingly(served: Served) -> None:
    environment = {
        **os.environ,
        "LORIKEET_REGISTRY": served.target.address,
        "LORIKEET_API_KEY": served.target.api_key,
        "LORIKEET_TLS_CA": str(served.authority.cert),
        "LORIKEET_REGISTRY_DATA_DIR": str(served.data_dir),
    }
    finished = subprocess.run(
        [sys.executable, "-m", "lorikeet.cli", "doctor", "--json", "--adapter", "acme/none"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    findings = {item["check"]: item for item in json.loads(finished.stdout)}
    assert finished.returncode == 1
    failed = [name for name, item in findings.items() if item["status"] == "failed"]
    assert failed == ["adapter.use"]
    assert findings["database.migrations"]["status"] == "ok"
    assert findings["inference.reach"]["status"] == "skipped"
    assert served.target.api_key not in finished.stdout + finished.stderr
