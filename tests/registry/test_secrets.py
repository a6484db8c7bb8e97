"""Secrets come from files or the environment, and are seen nowhere else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from registry_service.config import load_settings
from registry_service.secret_files import SecretFilesError
from tests.registry.process import ROOT, Process

SECRET = "hunter2-must-not-be-seen"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "secrets"
    directory.mkdir()
    monkeypatch.setenv("LORIKEET_REGISTRY_SECRETS_DIR", str(directory))
    return directory


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_a_setting_may_lie_in_a_file_of_its_name(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(directory / "database_url", f"sqlite+pysqlite:////tmp/{SECRET}.db\n")
    settings = load_settings(["--data-dir", "x"])
    assert settings.resolved_database_url == f"sqlite+pysqlite:////tmp/{SECRET}.db"
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings.model_dump())
    monkeypatch.setenv("LORIKEET_REGISTRY_DATABASE_URL", "sqlite+pysqlite:///environment.db")
    settings = load_settings(["--data-dir", "x"])
    assert settings.resolved_database_url == "sqlite+pysqlite:///environment.db"


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666])
def test_a_file_that_others_can_use_is_refused(directory: Path, mode: int) -> None:
    write(directory / "database_url", SECRET, mode)
    with pytest.raises(SecretFilesError, match="chmod 600") as refused:
        load_settings(["--data-dir", "x"])
    assert SECRET not in str(refused.value)


def test_modes_say_nothing_in_a_mount(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes mounts a secret: in a file system of its own, readable by all in the pod."""
    write(directory / "database_url", "sqlite+pysqlite:///mounted.db", 0o644)
    monkeypatch.setattr("os.path.ismount", lambda path: path == directory)
    assert load_settings(["--data-dir", "x"]).resolved_database_url.endswith("mounted.db")


def test_a_directory_that_is_not_there_is_refused(directory: Path) -> None:
    directory.rmdir()
    with pytest.raises(SecretFilesError, match="is not a directory"):
        load_settings(["--data-dir", "x"])


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"DATABASE_URL": f"no url, {SECRET}"}, "the database cannot be used"),
        ({"DATABASE_URL": f"nosuch://user:{SECRET}@localhost/db"}, "the database cannot be used"),
        ({"DATABASE_URL": f"sqlite+pysqlite:////nowhere/{SECRET}?x=y"}, "unable to open"),
        ({"NUM_READ_THREADS": SECRET}, "num_read_threads"),
        ({"LISTEN": "0.0.0.0:0", "DATABASE_URL": SECRET}, "without TLS"),
    ],
)
def test_wrong_values_are_not_shown(
    tmp_path: Path, variables: dict[str, str], complaint: str
) -> None:
    environment = {f"LORIKEET_REGISTRY_{name}": value for name, value in variables.items()}
    finished = subprocess.run(
        [sys.executable, "-m", "registry_service", "--data-dir", str(tmp_path / "data")],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    output = finished.stdout + finished.stderr
    assert (finished.returncode, complaint in output) == (2, True), output
    assert SECRET not in output
    assert "Traceback" not in output


def test_a_secret_is_not_on_the_command_line(tmp_path: Path, directory: Path) -> None:
    write(directory / "database_url", f"sqlite+pysqlite:///{tmp_path}/{SECRET}.db")
    process = Process(tmp_path / "data")
    try:
        process.wait_ready()
        shown = Path(f"/proc/{process.popen.pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{process.popen.pid}/environ").read_bytes()
        assert SECRET.encode() not in shown + environment
    finally:
        process.stop(signal.SIGTERM)
    assert (tmp_path / f"{SECRET}.db").exists()
    assert SECRET not in process.errors
