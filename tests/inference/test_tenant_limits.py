"""What the front end knows of tenants' limits while the registry comes and goes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from inference_service.adapters.registry_client import RegistryClient
from inference_service.adapters.registry_watch import RegistryWatch
from inference_service.serving_limits import ServingLimits
from inference_service.tenant_limits import TenantLimits
from lorikeet.rpc.errors import PermissionDeniedError, UnavailableError
from protos import registry_pb2 as pb
from tests.inference.relay import Relay, running_relay
from tests.inference.world import eventually, running_registry
from tests.registry.support import Client, make_tenant

DEFAULTS = ServingLimits(max_concurrent_requests=8)


@dataclass
class Followed:
    admin: Client
    relay: Relay
    watch: RegistryWatch
    limits: TenantLimits

    async def set_weight(self, weight: float) -> None:
        """The weight of acme; returns once the watch has told of it."""
        tenant = pb.Tenant(name="tenants/acme", serving=pb.ServingLimits(weight=weight))
        position = self.watch.position
        await self.admin("UpdateTenant", pb.UpdateTenantRequest(tenant=tenant))
        if self.watch.is_current:
            await eventually(lambda: self.watch.position > position)


@asynccontextmanager
async def followed(root: Path) -> AsyncIterator[Followed]:
    async with (
        running_registry(root) as (_, registry_address, admin),
        running_relay(registry_address) as (relay, address),
    ):
        for tenant in ("acme", "globex"):
            await make_tenant(admin, tenant)
        key = json.loads((root / "registry" / "credentials.json").read_text())["inference"]
        client = RegistryClient(address, key, deadline=2.0)
        watch = RegistryWatch(client, lease_seconds=60.0)
        limits = TenantLimits(client, watch, DEFAULTS)
        await watch.start(10.0)
        try:
            yield Followed(admin, relay, watch, limits)
        finally:
            await watch.stop()
            await client.close()


async def test_the_registry_is_asked_once_until_the_feed_names_the_tenant(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        assert await world.limits.of("acme") == DEFAULTS
        first = await world.limits.of("globex")
        await world.set_weight(3)
        assert (await world.limits.of("acme")).weight == 3
        assert (await world.limits.of("acme")).max_concurrent_requests == 8
        assert await world.limits.of("globex") is first, "nothing was said of this one"


async def test_a_tenant_that_is_gone_is_granted_nothing(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        assert await world.limits.of("globex") == DEFAULTS
        position = world.watch.position
        await world.admin("DeleteTenant", pb.DeleteTenantRequest(name="tenants/globex"))
        await eventually(lambda: world.watch.position > position)
        with pytest.raises(PermissionDeniedError, match=r"adapters\.use.*tenants/globex"):
            await world.limits.of("globex")


async def test_while_the_registry_is_away_what_was_known_last_holds(tmp_path: Path) -> None:
    async with followed(tmp_path) as world:
        await world.set_weight(2)
        assert (await world.limits.of("acme")).weight == 2
        world.relay.cut()
        await eventually(lambda: not world.watch.is_current)
        await world.set_weight(5)
        assert (await world.limits.of("acme")).weight == 2
        with pytest.raises(UnavailableError):
            await world.limits.of("globex")
        world.relay.mend()
        await eventually(lambda: world.watch.is_current, seconds=5)
        assert (await world.limits.of("acme")).weight == 5
