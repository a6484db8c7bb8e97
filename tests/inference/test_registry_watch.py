"""The registry's feed as the inference service follows it: nothing missed, nothing told twice."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from inference_service.adapters.registry_client import RegistryClient
from inference_service.adapters.registry_watch import RegistryChange, RegistryWatch
from lorikeet.rpc.errors import PermissionDeniedError, UnavailableError
from tests.inference.relay import Relay, running_relay
from tests.inference.world import eventually, running_registry
from tests.registry.support import ACT_AS, Client, grants, make_key, make_tenant

LEASE_SECONDS = 60.0


@dataclass
class Heard:
    """What a listener was told, in order."""

    changes: list[RegistryChange] = field(default_factory=list)
    num_resets: int = 0

    def changed(self, change: RegistryChange) -> None:
        self.changes.append(change)

    def reset(self) -> None:
        self.num_resets += 1

    @property
    def resources(self) -> list[str]:
        return [change.resource for change in self.changes]

    def has(self, *resources: str) -> bool:
        return self.resources == list(resources)


@dataclass
class Followed:
    """A registry, a watch of it through a relay, and what that told."""

    admin: Client
    relay: Relay
    watch: RegistryWatch
    heard: Heard


@asynccontextmanager
async def followed(root: Path, lease_seconds: float = LEASE_SECONDS) -> AsyncIterator[Followed]:
    async with (
        running_registry(root) as (_, registry_address, admin),
        running_relay(registry_address) as (relay, address),
    ):
        key = json.loads((root / "registry" / "credentials.json").read_text())["inference"]
        client = RegistryClient(address, key, deadline=2.0)
        watch, heard = RegistryWatch(client, lease_seconds), Heard()
        watch.tell(heard.changed, heard.reset)
        await watch.start(10.0)
        try:
            yield Followed(admin, relay, watch, heard)
        finally:
            await watch.stop()
            await client.close()


async def test_it_begins_with_the_present_and_tells_what_comes(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        assert world.watch.is_current
        assert world.heard.num_resets == 1
        assert not world.heard.changes, "the past is nobody's concern"
        before = world.watch.position
        await make_tenant(world.admin, "acme")
        await eventually(lambda: world.heard.has("tenants/acme"))
        assert world.heard.changes[0].kind == "tenants.create"
        assert world.watch.position == world.heard.changes[0].revision == before + 1


async def test_a_break_loses_nothing(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        world.relay.cut()
        await eventually(lambda: not world.watch.is_current)
        assert world.watch.lease_left > LEASE_SECONDS / 2
        for name in ("one", "two"):
            await make_tenant(world.admin, name)
        world.relay.mend()
        await eventually(lambda: world.watch.is_current, seconds=5)
        await eventually(lambda: world.heard.has("tenants/one", "tenants/two"))
        assert world.heard.num_resets == 1


async def test_a_silent_connection_is_left_for_a_new_one(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        world.relay.silence()
        await make_tenant(world.admin, "unheard")
        await eventually(lambda: world.heard.has("tenants/unheard"), seconds=10)
        assert world.relay.num_connections == 2
        assert world.heard.num_resets == 1


async def test_the_lease_ends_without_contact(tmp_path: Path) -> None:
    async with followed(tmp_path, lease_seconds=0.5) as world:
        world.relay.cut()
        await eventually(lambda: world.watch.lease_left == 0)
        world.relay.mend()
        await eventually(lambda: world.watch.lease_left > 0, seconds=5)


async def test_a_registry_that_went_back_in_time_resets_what_was_learnt(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        await make_tenant(world.admin, "forgotten")
        await eventually(lambda: world.heard.has("tenants/forgotten"))
        database = sqlite3.connect(tmp_path / "registry" / "registry.db")
        with closing(database), database:  # as if an older copy of the database were put there
            database.execute("UPDATE counters SET value = value - 1 WHERE name = 'revision'")
            database.execute("DELETE FROM changes WHERE resource = 'tenants/forgotten'")
        await eventually(lambda: world.heard.num_resets == 2, seconds=10)
        await make_tenant(world.admin, "new")
        await eventually(lambda: world.heard.has("tenants/forgotten", "tenants/new"))


async def test_a_listener_that_fails_makes_everyone_begin_anew(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        late = Heard()

        def fail_once(_: RegistryChange) -> None:
            if late.num_resets == 0:
                raise RuntimeError("a bug")

        world.watch.tell(fail_once, late.reset)
        world.watch.tell(late.changed, lambda: None)
        await make_tenant(world.admin, "unlucky")
        await eventually(lambda: late.num_resets == 1, seconds=5)
        assert not late.changes
        await make_tenant(world.admin, "lucky")
        await eventually(lambda: late.has("tenants/lucky"))
        assert world.heard.num_resets == 2


async def test_who_may_not_watch_is_told_at_once(tmp_path: Path) -> None:
    async with running_registry(tmp_path) as (_, address, admin):
        await make_tenant(admin, "acme")
        key = await make_key(admin, "acme", "service", grants((ACT_AS, "tenants/acme")))
        client = RegistryClient(address, key, deadline=2.0)
        watch = RegistryWatch(client, LEASE_SECONDS)
        with pytest.raises(PermissionDeniedError) as refused:
            async with asyncio.timeout(10):
                await watch.start(30.0)
        assert refused.value.metadata["permission"] == "adapters.watch"
        await watch.stop()
        await client.close()


async def test_without_a_registry_it_does_not_start(tmp_path: Path) -> None:
    client = RegistryClient("127.0.0.1:1", "key", deadline=2.0)
    watch = RegistryWatch(client, LEASE_SECONDS)
    with pytest.raises(UnavailableError):
        await watch.start(0.3)
    assert watch.lease_left == 0
    assert not watch.is_current
    await watch.stop()
    await client.close()
