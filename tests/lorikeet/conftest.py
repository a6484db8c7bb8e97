"""Fixtures for the SDK and the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lorikeet.state import ServeState
from tests.lorikeet.fakes import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.stop()


@pytest.fixture
def peft_directory(tmp_path: Path) -> Path:
    """The shape of a PEFT directory; its bytes mean nothing to the client."""
    directory = tmp_path / "peft"
    directory.mkdir()
    (directory / "adapter_config.json").write_text('{"r": 8}')
    (directory / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 8192)  # 2 MiB
    (directory / "optimizer.pt").write_bytes(b"not part of an adapter")
    (directory / "tokenizer.json").write_text("{}")
    return directory


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty, with nothing of a running stack in the environment."""
    for name in ("REGISTRY", "INFERENCE", "API_KEY", "TENANT"):
        monkeypatch.delenv(f"LORIKEET_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def serving(server: FakeServer, working_directory: Path) -> FakeServer:
    """A fake stack with the state file that `lorikeet serve` leaves."""
    ServeState(server.address, server.address, "admin-key", "acme", {"acme": "acme-key"}).write()
    return server
