"""AdapterRuntime, and the small RPCs: what is loaded, and having it loaded or unloaded."""

import asyncio
from typing import Any

import pytest

from inference_service.engine.client import EngineRefusedError
from lorikeet.rpc.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    ResourceExhaustedError,
)
from protos import inference_pb2 as pb
from tests.inference.scripted_engine import INFO, steps_of, tokens
from tests.inference.world import User, World, eventually, until
from tests.registry.support import ADMIN

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def prefetch(user: User, *adapters: str, **fields: Any) -> list[pb.PrefetchProgress]:
    request = pb.PrefetchAdaptersRequest(adapters=adapters, **fields)
    return await user.stream("PrefetchAdapters", request)


async def loaded(user: User, **fields: Any) -> dict[str, pb.LoadedAdapter]:
    response = await user("ListLoadedAdapters", pb.ListLoadedAdaptersRequest(**fields))
    return {adapter.adapter_version: adapter for adapter in response.adapters}


async def unload(user: User, adapter: str, **fields: Any) -> pb.UnloadAdapterResponse:
    response: pb.UnloadAdapterResponse = await user(
        "UnloadAdapter", pb.UnloadAdapterRequest(adapter=adapter, **fields)
    )
    return response


async def test_prefetch_tells_how_far_each_adapter_is(world: World) -> None:
    user = await world.user("fetches")
    versions = [await world.publish("fetches", f"a{n}", seed=100 + n) for n in range(3)]
    news = await prefetch(user, "a0", "a1@1", "fetches/a2")
    for asked_for, version in zip(("a0", "a1@1", "fetches/a2"), versions, strict=True):
        mine = [progress for progress in news if progress.adapter == asked_for]
        assert {progress.digest for progress in mine} == {version.digest}
        assert {progress.adapter_version for progress in mine} == {version.name}
        assert [progress.done for progress in mine] == [False] * (len(mine) - 1) + [True]
        assert [progress.tier for progress in mine] == sorted(p.tier for p in mine)
        assert (mine[0].bytes_done, mine[0].tier) == (0, pb.TIER_REMOTE)
        assert (mine[-1].bytes_done, mine[-1].tier) == (version.size_bytes, pb.TIER_DEVICE)
        assert {progress.bytes_total for progress in mine} == {version.size_bytes}
    assert {version.digest for version in versions} <= world.engine.paths.keys()


async def test_prefetch_to_disk_leaves_the_engine_alone(world: World) -> None:
    user = await world.user("to-disk")
    version = await world.publish("to-disk", "math", seed=110)
    news = await prefetch(user, "math", tier=pb.TIER_DISK)
    assert (news[-1].tier, news[-1].done) == (pb.TIER_DISK, True)
    assert version.digest not in world.engine.paths
    assert (await loaded(user))[version.name].tier == pb.TIER_DISK


async def test_prefetch_ends_with_the_first_error(world: World) -> None:
    user = await world.user("fails")
    await world.publish("fails", "math", seed=120)
    with pytest.raises(PermissionDeniedError):
        await prefetch(user, "math", "absent")
    world.engine.load_error = EngineRefusedError("OUT_OF_PAGES", "full")
    with pytest.raises(ResourceExhaustedError) as full:
        await prefetch(user, "math")
    assert full.value.retry_after


@pytest.mark.parametrize(
    "fields", [{}, {"adapters": ["a"] * 1001}, {"adapters": ["a"], "tier": pb.TIER_HOST}]
)
async def test_senseless_prefetches_are_refused(world: World, fields: dict[str, Any]) -> None:
    user = await world.user("senseless", name=f"user{len(fields.get('adapters', []))}")
    with pytest.raises(InvalidArgumentError):
        await user.stream("PrefetchAdapters", pb.PrefetchAdaptersRequest(**fields))


async def test_unloading_frees_pages_then_disk(world: World) -> None:
    user = await world.user("unloads")
    version = await world.publish("unloads", "math", seed=130)
    await prefetch(user, "math")
    response = await unload(user, "math")
    assert (response.digest, response.freed_pages) == (version.digest, 3)
    assert response.tier == pb.TIER_DISK
    response = await unload(user, "math", delete_from_disk=True)
    assert (response.freed_pages, response.tier) == (0, pb.TIER_REMOTE)
    assert not (world.data_dir / "adapters" / version.digest.replace(":", "-")).exists()
    assert (await unload(user, "math")).tier == pb.TIER_REMOTE
    world.engine.steps = steps_of([70])
    assert (await user.generate("math")).start.digest == version.digest


async def test_an_adapter_in_use_is_not_unloaded_unless_drained(world: World) -> None:
    user = await world.user("in-use")
    version = await world.publish("in-use", "math", seed=140)
    world.engine.steps = [tokens(70), 0.3, tokens(71, finish="length")]
    running = asyncio.create_task(user.generate("math"))
    await eventually(lambda: world.engine.calls)
    assert (await loaded(user))[version.name].running_requests == 1
    for delete in (False, True):
        with pytest.raises(FailedPreconditionError) as error:
            await unload(user, "math", delete_from_disk=delete)
        assert error.value.reason == "ADAPTER_IN_USE"
    assert not running.done()
    assert (await unload(user, "math", drain=True)).freed_pages == 3
    assert (await running).token_ids == [70, 71]


async def test_only_the_owner_unloads(world: World) -> None:
    guest, owner = await world.user("unload-guest"), await world.user("unload-owner")
    await world.publish("unload-owner", "math", seed=150)
    await world.allow("tenants/unload-owner/adapters/math", "unload-guest")
    await prefetch(guest, "unload-owner/math")
    with pytest.raises(PermissionDeniedError):
        await unload(guest, "unload-owner/math")
    assert (await unload(owner, "math")).freed_pages == 3
    administrator = await world.user("unload-guest", (ADMIN, "*"), name="administrator")
    await unload(administrator, "unload-owner/math")


async def test_tenants_see_only_what_they_may_use_now(world: World) -> None:
    owner, guest = await world.user("list-owner"), await world.user("list-guest")
    stranger = await world.user("list-stranger")
    version = await world.publish("list-owner", "math", seed=160)
    await world.allow("tenants/list-owner/adapters/math", "list-guest")
    await prefetch(owner, "math")
    await prefetch(guest, "list-owner/math")
    for user in (owner, guest):
        (adapter,) = (await loaded(user)).values()
        assert adapter.adapter_version == version.name
        assert (adapter.tier, adapter.pages, adapter.rank) == (pb.TIER_DEVICE, 3, 2)
        assert adapter.disk_bytes == version.size_bytes
    assert await loaded(stranger) == {}
    await world.allow("tenants/list-owner/adapters/math")
    await until(lambda: loaded(guest), {})
    administrator = await world.user("list-stranger", (ADMIN, "*"), name="administrator")
    assert version.name in await loaded(administrator)
    assert await loaded(administrator, tenant="tenants/list-stranger") == {}


async def test_administrators_pin_and_unpin(world: World) -> None:
    owner = await world.user("pins")
    version = await world.publish("pins", "math", seed=301)
    with pytest.raises(PermissionDeniedError):
        await owner("PinAdapter", pb.PinAdapterRequest(adapter="math"))
    administrator = await world.user("pin-admin", (ADMIN, "*"), name="pin-administrator")
    pin = pb.PinAdapterRequest(adapter="math", tenant="tenants/pins")
    pinned: pb.LoadedAdapter = await administrator("PinAdapter", pin)
    assert (pinned.adapter_version, pinned.pinned) == (version.name, True)
    assert (pinned.tier, pinned.disk_bytes) == (pb.TIER_DEVICE, version.size_bytes)
    assert (await loaded(owner))[version.name].pinned
    unpin = pb.UnpinAdapterRequest(adapter="math", tenant="tenants/pins")
    assert not (await administrator("UnpinAdapter", unpin)).pinned
    await unload(owner, "math")
    assert not (await administrator("UnpinAdapter", unpin)).pinned  # nothing is loaded: no error
    with pytest.raises(PermissionDeniedError):
        await owner("UnpinAdapter", pb.UnpinAdapterRequest(adapter="math"))


async def test_the_server_tells_what_it_is(world: World) -> None:
    user = await world.user("asks")
    info: pb.ServerInfo = await user("GetServerInfo", pb.GetServerInfoRequest())
    assert (info.base_model, info.base_model_revision) == ("baseModels/tiny", "r1")
    assert info.config_digest.startswith("sha256:")
    assert (info.device, info.dtype, info.max_model_len) == ("cpu", "float32", INFO.max_model_len)
    memory = info.memory
    used = memory.kv_pages + memory.cached_pages + memory.adapter_pages
    assert memory.total_pages == memory.free_pages + used
    assert info.version
    assert info.device_memory.total_bytes > info.device_memory.process_bytes > 0


async def test_tokens_and_text_are_each_others_inverse(world: World) -> None:
    user = await world.user("tokens")
    text = "Grüße 🦜 <|user|> to the world " * 100
    tokenized = await user("Tokenize", pb.TokenizeRequest(text=text))
    request = pb.DetokenizeRequest(token_ids=tokenized.token_ids)
    assert (await user("Detokenize", request)).text == text
    with pytest.raises(InvalidArgumentError):
        await user("Detokenize", pb.DetokenizeRequest(token_ids=[INFO.vocab_size]))
    with pytest.raises(PermissionDeniedError):
        await user("Tokenize", pb.TokenizeRequest(text="x", adapter="absent"))
