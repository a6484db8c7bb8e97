"""Registries as processes of their own, on real servers. `make test-integration` runs these."""

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.backends import EMBEDDED, Backend, Backends
from tests.registry.process import Process


@dataclass
class Registry:
    """A registry that may be killed and started again on the same data directory."""

    data_dir: Path
    backend: Backend
    arguments: tuple[str, ...]
    process: Process | None = None

    def start(self) -> str:
        """Its address, once it answers."""
        environment = self.backend.environment
        self.process = Process(self.data_dir, *self.arguments, environment=environment)
        return self.process.wait_ready()

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.stop(signal.SIGKILL) == -signal.SIGKILL

    @property
    def admin_key(self) -> str:
        """Only the first registry of a database has it."""
        key: str = json.loads((self.data_dir / "credentials.json").read_text())["admin"]
        return key


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """What a test is parametrized with: a name of tests.backends."""
    if request.param == EMBEDDED:
        yield Backend(EMBEDDED)
        return
    backends: Backends = request.getfixturevalue("backends")
    with backends.fresh(request.param) as fresh:
        yield fresh


MakeRegistry = Callable[..., Registry]


@pytest.fixture
def make_registry(tmp_path: Path, backend: Backend) -> Iterator[MakeRegistry]:
    """Registries on one backend, not started; ended whatever happens."""
    made: list[Registry] = []

    def make(*arguments: str) -> Registry:
        directory = tmp_path / f"registry-{len(made)}"
        directory.mkdir()
        made.append(Registry(directory / "data", backend, arguments))
        return made[-1]

    yield make
    for registry in made:
        if registry.process is not None:
            registry.process.popen.kill()
            registry.process.popen.wait()
