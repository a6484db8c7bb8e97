"""The warm set: what the registry wants loaded is, before anyone asks and whatever changes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from inference_service.engine.client import EngineRefusedError
from inference_service.service import InferenceService
from lorikeet.rpc.errors import FailedPreconditionError
from protos import inference_pb2 as pb
from protos import registry_pb2
from tests.inference.scripted_engine import ScriptedEngine, steps_of, tokens
from tests.inference.test_failures import INVALID
from tests.inference.world import User, World, eventually, running_world, settings_for
from tests.registry.support import ADMIN

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(tmp_path, registry_deadline_seconds=10.0) as world:
        world.engine.steps = steps_of([70])
        yield world


async def set_warm(world: World, adapter: str, *aliases: str) -> None:
    message = registry_pb2.Adapter(name=adapter, warm_aliases=aliases)
    mask = FieldMask(paths=["warm_aliases"])
    request = registry_pb2.UpdateAdapterRequest(adapter=message, update_mask=mask)
    await world.admin("UpdateAdapter", request)


async def set_alias(world: World, adapter: str, alias: str, version: int) -> None:
    request = registry_pb2.SetAliasRequest(name=f"{adapter}/aliases/{alias}", version=version)
    await world.admin("SetAlias", request)


async def health(channel: aio.Channel) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest())
    return int(answer.status)


async def until_health(channel: aio.Channel, wanted: int) -> None:
    async with asyncio.timeout(10):
        while await health(channel) != wanted:  # noqa: ASYNC110  # it is a server's to tell
            await asyncio.sleep(0.01)


async def listed(user: User) -> dict[str, pb.LoadedAdapter]:
    answer = await user("ListLoadedAdapters", pb.ListLoadedAdaptersRequest())
    return {adapter.adapter_version: adapter for adapter in answer.adapters}


@asynccontextmanager
async def another_replica(
    world: World, root: Path, engine: ScriptedEngine, **changes: Any
) -> AsyncIterator[tuple[InferenceService, aio.Channel]]:
    """A service that starts beside the world's; what it is told of adapters is the same."""
    settings = settings_for(
        root, world.registry_address, **{"data_dir": root / "second", **changes}
    )
    service = InferenceService(settings, engine.attach)
    address = await service.start()
    try:
        async with aio.insecure_channel(address) as channel:
            yield service, channel
    finally:
        await service.stop()


async def warm_adapter(
    world: World, tenant: str, seeds: Sequence[int] = (1,), alias: str = "stable"
) -> list[registry_pb2.AdapterVersion]:
    """Versions of tenants/{tenant}/adapters/math; the alias is on the first, and warm."""
    if tenant not in world.tenants:
        await world.user(tenant, name="first")
    versions = [await world.publish(tenant, "math", seed=seed) for seed in seeds]
    adapter = f"tenants/{tenant}/adapters/math"
    await set_alias(world, adapter, alias, 1)
    await set_warm(world, adapter, alias)
    return versions


async def test_an_alias_that_becomes_warm_is_loaded_and_kept(world: World) -> None:
    owner = await world.user("acme")
    (version,) = await warm_adapter(world, "acme")
    await eventually(lambda: version.digest in world.engine.pinned, 5)
    shown = (await listed(owner))[version.name]
    assert (shown.warm, shown.pinned, shown.tier) == (True, False, pb.TIER_DEVICE)
    info = await owner("GetServerInfo", pb.GetServerInfoRequest())
    assert (info.num_warm_adapters, info.num_warm_adapters_ready) == (1, 1)
    for drain in (False, True):
        with pytest.raises(FailedPreconditionError, match="warm_aliases"):
            await owner("UnloadAdapter", pb.UnloadAdapterRequest(adapter="math", drain=drain))
    await set_warm(world, "tenants/acme/adapters/math")
    await eventually(lambda: not world.engine.pinned, 5)
    assert not (await listed(owner))[version.name].warm
    await owner("UnloadAdapter", pb.UnloadAdapterRequest(adapter="math"))


async def test_a_moved_alias_replaces_the_version_and_running_requests_finish(
    world: World,
) -> None:
    owner = await world.user("acme")
    old, new = await warm_adapter(world, "acme", seeds=(1, 2))
    await eventually(lambda: old.digest in world.engine.pinned, 5)
    world.engine.steps = [tokens(70), 0.3, tokens(71, finish="length")]
    running = asyncio.create_task(owner.generate("math@stable"))
    await eventually(lambda: world.engine.calls)
    await set_alias(world, "tenants/acme/adapters/math", "stable", 2)
    await eventually(lambda: world.engine.pinned == {new.digest}, 5)
    answer = await running
    assert (answer.start.digest, answer.token_ids) == (old.digest, [70, 71])
    assert (await owner.generate("math@stable")).start.digest == new.digest


async def test_what_is_warm_or_pinned_is_so_again_after_the_engine_restarted(world: World) -> None:
    owner = await world.user("acme")
    (warm,) = await warm_adapter(world, "acme")
    pinned, used = [await world.publish("acme", name, seed=n) for n, name in ((5, "p"), (6, "u"))]
    admin = await world.user("operators", (ADMIN, "*"))
    await admin("PinAdapter", pb.PinAdapterRequest(adapter="p", tenant="tenants/acme"))
    await owner.generate("u")
    await eventually(lambda: world.engine.pinned == {warm.digest, pinned.digest}, 5)
    world.engine.die()
    await until_health(world.channel, NOT_SERVING)
    world.engine.load_errors = {warm.digest: EngineRefusedError("ADAPTER_UNKNOWN", "not yet")}
    world.engine.restart()
    await eventually(lambda: pinned.digest in world.engine.pinned, 5)
    assert await health(world.channel) == NOT_SERVING
    world.engine.load_errors = {}
    await until_health(world.channel, SERVING)
    assert world.engine.pinned == {warm.digest, pinned.digest}
    await eventually(lambda: used.digest in world.engine.paths, 5)
    shown = await listed(owner)
    assert (shown[pinned.name].pinned, shown[pinned.name].warm) == (True, False)
    unpin = pb.UnpinAdapterRequest(adapter="p", tenant="tenants/acme")
    assert not (await admin("UnpinAdapter", unpin)).pinned
    assert world.engine.pinned == {warm.digest}


async def test_a_replica_is_ready_when_what_is_warm_is_loaded(world: World, tmp_path: Path) -> None:
    (version,) = await warm_adapter(world, "acme")
    engine = ScriptedEngine()
    engine.load_errors = {version.digest: EngineRefusedError("ADAPTER_UNKNOWN", "not yet")}
    async with another_replica(world, tmp_path, engine) as (_, channel):
        assert await health(channel) == NOT_SERVING
        engine.load_errors = {}
        await until_health(channel, SERVING)
        assert engine.pinned == {version.digest}
    reads_before = (tmp_path / "second" / "adapters").stat().st_mtime_ns
    again = ScriptedEngine()
    async with another_replica(world, tmp_path, again) as (_, channel):
        await until_health(channel, SERVING)
        assert again.pinned == {version.digest}
        directories = [path.name for path in (tmp_path / "second" / "adapters").iterdir()]
        assert sorted(directories) == [".lock", version.digest.replace(":", "-")]
    assert (tmp_path / "second" / "adapters").stat().st_mtime_ns == reads_before, "no download"


async def test_a_broken_adapter_does_not_keep_a_replica_down(world: World, tmp_path: Path) -> None:
    owner = await world.user("acme")
    (broken,) = await warm_adapter(world, "acme")
    (sound,) = await warm_adapter(world, "globex", seeds=(2,))
    engine = ScriptedEngine()
    engine.load_errors = {broken.digest: INVALID}
    async with another_replica(world, tmp_path, engine) as (_, channel):
        await until_health(channel, SERVING)
        assert engine.pinned == {sound.digest}
        user = User(channel, await world.key("acme", name="second"))
        failed = (await listed(user))[broken.name]
        assert (failed.failure.reason, failed.warm) == ("ADAPTER_INVALID", False)
        info = await user("GetServerInfo", pb.GetServerInfoRequest())
        assert (info.num_warm_adapters, info.num_warm_adapters_ready) == (2, 1)
        mended = await world.publish("acme", "math", seed=9)
        await set_alias(world, "tenants/acme/adapters/math", "stable", 2)
        await eventually(lambda: mended.digest in engine.pinned, 5)
    assert owner


async def test_a_replica_waits_no_longer_than_it_is_told_to(world: World, tmp_path: Path) -> None:
    (version,) = await warm_adapter(world, "acme")
    engine = ScriptedEngine()
    engine.load_seconds = 60.0
    slow = {"warm_up_timeout_seconds": 0.3, "shutdown_grace_seconds": 0.0}
    async with another_replica(world, tmp_path, engine, **slow) as (_, channel):
        assert await health(channel) == NOT_SERVING
        await until_health(channel, SERVING)
        assert version.digest not in engine.paths


async def test_the_disk_budget_spares_what_is_warm(tmp_path: Path) -> None:
    async with running_world(
        tmp_path, adapter_disk_budget=10_000, registry_deadline_seconds=10.0
    ) as world:
        owner = await world.user("acme")
        (warm,) = await warm_adapter(world, "acme")
        await eventually(lambda: warm.digest in world.engine.pinned, 5)
        for seed in range(10, 18):
            await world.publish("acme", f"a{seed}", seed=seed)
            await owner.generate(f"a{seed}")
        here = {shown.digest for shown in (await listed(owner)).values() if shown.disk_bytes}
        assert warm.digest in here
        assert len(here) < 9


async def test_adapters_used_before_a_restart_are_loaded_after_it(
    world: World, tmp_path: Path
) -> None:
    owner = await world.user("acme")
    versions = [await world.publish("acme", f"a{n}", seed=n) for n in range(3)]
    first = ScriptedEngine()
    first.steps = steps_of([70])
    async with another_replica(world, tmp_path, first) as (_, channel):
        user = User(channel, await world.key("acme", name="second"))
        for n in range(3):
            await user.generate(f"a{n}")
    delete = registry_pb2.DeleteAdapterRequest(name="tenants/acme/adapters/a1")
    await world.admin("DeleteAdapter", delete)
    second = ScriptedEngine()
    async with another_replica(world, tmp_path, second, max_restored_adapters=3) as (_, channel):
        await eventually(lambda: len(second.paths) == 2, 5)
        assert second.paths.keys() == {versions[0].digest, versions[2].digest}
    third = ScriptedEngine()
    async with another_replica(world, tmp_path, third, max_restored_adapters=1):
        await eventually(lambda: versions[2].digest in third.paths, 5)
        assert len(third.paths) == 1
    assert owner
