"""Fixtures for the SDK and the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
