"""A real registry on a loopback port, in this process; the database and files are temporary."""

import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from grpc import aio

from registry_service.config import Settings, load_settings
from registry_service.service import RegistryService
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
    data_dir: Path
    service: RegistryService
    channel: aio.Channel
    credentials: dict[str, str]

    def client(self, api_key: str) -> Client:
        return Client(self.channel, api_key)

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


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(["--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")])


@pytest.fixture
async def registry(settings: Settings) -> AsyncIterator[Registry]:
    service = RegistryService(settings)
    address = await service.start()
    credentials = json.loads((settings.data_dir / "credentials.json").read_text())
    async with aio.insecure_channel(address) as channel:
        yield Registry(address, settings.data_dir, service, channel, credentials)
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
