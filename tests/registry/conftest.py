"""A real registry on a loopback port, in this process; the database and files are temporary."""

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from grpc import aio
from sqlalchemy.orm import Session

from registry_service.artifacts.object_store import ObjectStore
from registry_service.config import Settings, load_settings
from registry_service.repository.engine import make_engine
from registry_service.service import RegistryService
from registry_service.stores import open_store
from tests.backends import EMBEDDED, Backend, Backends
from tests.registry.support import (
    PUBLISH,
    USE,
    Client,
    grants,
    make_base_model,
    make_key,
    make_tenant,
)


@dataclass
class Registry:
    """A running registry and clients of it."""

    address: str
    settings: Settings
    service: RegistryService
    channel: aio.Channel
    credentials: dict[str, str]

    @property
    def data_dir(self) -> Path:
        return self.settings.data_dir

    def client(self, api_key: str) -> Client:
        return Client(self.channel, api_key)

    @contextmanager
    def store(self) -> Iterator[ObjectStore]:
        """Where the registry's artifacts are, seen from outside of it."""
        store = open_store(self.settings)
        yield store
        store.close()

    @contextmanager
    def database(self) -> Iterator[Session]:
        """The registry's database, seen from outside of it; committed at the end."""
        engine = make_engine(self.settings.resolved_database_url)
        with Session(engine) as session, session.begin():
            yield session
        engine.dispose()

    @property
    def admin(self) -> Client:
        return self.client(self.credentials["admin"])

    @property
    def inference(self) -> Client:
        return self.client(self.credentials["inference"])


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own registry is not for tests."""
    for name in list(os.environ):
        if name.startswith("LORIKEET_REGISTRY_"):
            monkeypatch.delenv(name)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = metafunc.config.getoption("backend")
    if chosen and "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", chosen, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --backend, the tests of this folder that keep nothing on one are left out."""
    if not config.getoption("backend"):
        return
    here = Path(__file__).parent
    without = [
        item
        for item in items
        if here in item.path.parents
        and (
            "backend" not in getattr(item, "fixturenames", ())
            or item.get_closest_marker("embedded")
        )
    ]
    config.hook.pytest_deselected(items=without)
    items[:] = [item for item in items if item not in without]


def _runs_anywhere(item: pytest.Item) -> bool:
    uses_one = "backend" in getattr(item, "fixturenames", ())
    return uses_one and item.get_closest_marker("embedded") is None


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    name = getattr(request, "param", EMBEDDED)
    if name == EMBEDDED:
        yield Backend(EMBEDDED)
        return
    backends: Backends = request.getfixturevalue("backends")
    with backends.fresh(name) as fresh:
        yield fresh


@pytest.fixture
def settings(tmp_path: Path, backend: Backend) -> Settings:
    place = ["--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")]
    return load_settings([*place, *backend.arguments])


@pytest.fixture
async def registry(settings: Settings) -> AsyncIterator[Registry]:
    service = RegistryService(settings)
    address = await service.start()
    credentials = json.loads((settings.data_dir / "credentials.json").read_text())
    async with aio.insecure_channel(address) as channel:
        yield Registry(address, settings, service, channel, credentials)
    await service.stop()


@dataclass
class World:
    """Two tenants and a stranger around the tiny base model; `acme` publishes."""

    registry: Registry
    admin: Client
    inference: Client
    publisher: Client
    acme: Client
    globex: Client
    stranger: Client
    client: Callable[[str], Client]


@pytest.fixture
async def world(registry: Registry) -> World:
    admin = registry.admin
    for tenant in ("acme", "globex", "initech"):
        await make_tenant(admin, tenant)
    await make_base_model(admin)

    async def user(tenant: str, *extra: tuple[int, str]) -> Client:
        granted = grants((USE, f"tenants/{tenant}"), *extra)
        return registry.client(await make_key(admin, tenant, f"user{len(extra)}", granted))

    return World(
        registry=registry,
        admin=admin,
        inference=registry.inference,
        publisher=await user("acme", (PUBLISH, "tenants/acme")),
        acme=await user("acme"),
        globex=await user("globex"),
        stranger=await user("initech"),
        client=registry.client,
    )
