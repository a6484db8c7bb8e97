"""Access that is taken away ends what runs on it; what stays allowed goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grpc import aio

from inference_service.adapters.registry_client import RegistryClient
from lorikeet.rpc.errors import (
    LorikeetError,
    PermissionDeniedError,
    UnavailableError,
    from_rpc_error,
)
from protos import inference_pb2 as pb
from protos import registry_pb2 as reg
from tests.inference.scripted_engine import Step, steps_of, tokens
from tests.inference.test_streams import SMALL_WINDOW, read_to_end
from tests.inference.world import User, World, eventually, until
from tests.registry.support import ACT_AS, USE, grants

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDLESS: list[Step] = [tokens(70), 60.0, tokens(71, finish="length")]
SECONDS = 10.0  # for a busy machine; tests/chaos holds the bound

Revoke = Callable[[World, str], Awaitable[Any]]


async def streaming(user: User, adapter: str = "", **fields: Any) -> Any:
    """A call that has given its first token and waits for more."""
    request = pb.GenerateRequest(adapter=adapter, prompt="hello", **fields)
    call = user.call("Generate", request, timeout=60)
    assert (await call.read()).WhichOneof("event") == "start"
    assert (await call.read()).WhichOneof("event") == "chunk"
    return call


async def end_of(call: Any) -> LorikeetError:
    """The error that a stream ends with, soon."""
    with pytest.raises(aio.AioRpcError) as ended:
        await asyncio.wait_for(read_to_end(call), SECONDS)
    return from_rpc_error(ended.value)


async def delete_keys(world: World, tenant: str) -> None:
    listed = await world.admin("ListApiKeys", reg.ListApiKeysRequest(parent=f"tenants/{tenant}"))
    for key in listed.api_keys:
        await world.admin("DeleteApiKey", reg.DeleteApiKeyRequest(name=key.name))


async def remove_grants(world: World, tenant: str) -> None:
    principal = f"tenants/{tenant}/principals/user"
    await world.admin("SetGrants", reg.SetGrantsRequest(principal=principal))


async def delete_principal(world: World, tenant: str) -> None:
    principal = f"tenants/{tenant}/principals/user"
    await world.admin("DeletePrincipal", reg.DeletePrincipalRequest(name=principal))


async def delete_tenant(world: World, tenant: str) -> None:
    await world.admin("DeleteTenant", reg.DeleteTenantRequest(name=f"tenants/{tenant}"))


async def close_policy(world: World, tenant: str) -> None:
    await world.allow(f"tenants/owner-of-{tenant}/adapters/math")


async def delete_adapter(world: World, tenant: str) -> None:
    name = f"tenants/owner-of-{tenant}/adapters/math"
    await world.admin("DeleteAdapter", reg.DeleteAdapterRequest(name=name))


async def delete_version(world: World, tenant: str) -> None:
    await world.publish(f"owner-of-{tenant}", "math", seed=1)  # "latest" must stay
    name = f"tenants/owner-of-{tenant}/adapters/math/versions/1"
    await world.admin("DeleteAdapterVersion", reg.DeleteAdapterVersionRequest(name=name))


REVOCATIONS: list[Revoke] = [
    *(delete_keys, remove_grants, delete_principal, delete_tenant),
    *(close_policy, delete_adapter, delete_version),
]


async def shared_adapter(world: World, tenant: str) -> tuple[User, reg.AdapterVersion]:
    """A user of `tenant`, and an adapter of another one that it may use."""
    user = await world.user(tenant)
    owner = f"owner-of-{tenant}"
    await world.key(owner)
    version = await world.publish(owner, "math")
    await world.allow(f"tenants/{owner}/adapters/math", tenant)
    return user, version


@pytest.mark.parametrize("revoke", REVOCATIONS, ids=lambda revoke: revoke.__name__)
async def test_a_stream_ends_when_its_access_is_revoked(world: World, revoke: Revoke) -> None:
    tenant = revoke.__name__.replace("_", "-")
    user, version = await shared_adapter(world, tenant)
    world.engine.steps = list(ENDLESS)
    call = await streaming(user, f"owner-of-{tenant}/math")
    bystander = await streaming(await world.user(f"not-{tenant}"))
    await revoke(world, tenant)
    error = await end_of(call)
    assert (type(error), error.reason) == (PermissionDeniedError, "ACCESS_REVOKED")
    assert world.engine.calls[0].closed
    await eventually(lambda: (tenant, version.digest) in world.engine.dropped)
    assert not world.engine.calls[1].closed
    bystander.cancel()


async def test_a_stream_of_the_base_model_ends_with_its_key(world: World) -> None:
    user = await world.user("base-only")
    world.engine.steps = list(ENDLESS)
    call = await streaming(user)
    await delete_keys(world, "base-only")
    assert (await end_of(call)).reason == "ACCESS_REVOKED"
    await eventually(lambda: ("base-only", "") in world.engine.dropped)


async def test_a_key_that_expires_ends_its_stream(world: World) -> None:
    await world.key("expires")
    request = reg.CreateApiKeyRequest(principal="tenants/expires/principals/user")
    request.expire_time.FromDatetime(datetime.now(UTC) + timedelta(seconds=2))
    created = await world.admin("CreateApiKey", request)
    world.engine.steps = list(ENDLESS)
    call = await streaming(User(world.channel, created.secret))
    assert (await end_of(call)).reason == "ACCESS_REVOKED"


async def test_who_is_spoken_for_no_longer_is_answered_no_longer(world: World) -> None:
    await world.key("spoken")
    agent = await world.user("speaking", (ACT_AS, "tenants/spoken"))
    world.engine.steps = list(ENDLESS)
    call = await streaming(agent, tenant="tenants/spoken")
    principal = "tenants/speaking/principals/user"
    request = reg.SetGrantsRequest(principal=principal, grants=grants((USE, "tenants/speaking")))
    await world.admin("SetGrants", request)
    assert (await end_of(call)).reason == "ACCESS_REVOKED"


async def test_a_moved_alias_ends_nothing_and_leads_the_next_request(world: World) -> None:
    user = await world.user("moves")
    first = await world.publish("moves", "math", aliases=["stable"])
    world.engine.steps = [tokens(70), 2.0, tokens(71, finish="length")]
    call = await streaming(user, "math@stable")
    second = await world.publish("moves", "math", seed=1, aliases=["stable"])
    assert first.digest != second.digest
    world.engine.steps = steps_of([70])

    async def leads_to() -> str:
        return (await user.generate("math@stable")).start.digest

    await until(leads_to, second.digest)
    assert (await call.read()).chunk.token_ids == [71]
    assert (await call.read()).WhichOneof("event") == "complete"
    assert world.engine.dropped == []


async def test_what_is_granted_beside_it_ends_nothing(world: World) -> None:
    user, _ = await shared_adapter(world, "stays")
    world.engine.steps = list(ENDLESS)
    call = await streaming(user, "owner-of-stays/math")
    await world.key("newcomer")
    await world.allow("tenants/owner-of-stays/adapters/math", "stays", "newcomer")
    await world.key("stays", name="colleague")
    world.engine.scripts = [[], steps_of([70])]
    newcomer = await world.user("newcomer", name="other")

    async def may_use() -> bool:
        try:
            await newcomer.generate("owner-of-stays/math")
        except PermissionDeniedError:
            return False
        return True

    await until(may_use, True)  # so the change has been seen
    assert not world.engine.calls[0].closed
    call.cancel()


async def test_cached_prefixes_go_with_the_right_to_them_also_without_a_stream(
    world: World,
) -> None:
    user, version = await shared_adapter(world, "idle")
    await user.generate("owner-of-idle/math")
    await close_policy(world, "idle")
    await eventually(lambda: ("idle", version.digest) in world.engine.dropped, SECONDS)
    assert [tenant for tenant, _ in world.engine.dropped] == ["idle"]


async def test_a_tenant_that_is_deleted_leaves_no_prefix(world: World) -> None:
    user = await world.user("leaves")
    await user.generate()
    await delete_tenant(world, "leaves")
    await eventually(lambda: ("leaves", None) in world.engine.dropped, SECONDS)


async def test_many_streams_of_one_key_end_together(world: World) -> None:
    user = await world.user("many")
    world.engine.steps = list(ENDLESS)
    calls = [await streaming(user) for _ in range(6)]
    await delete_keys(world, "many")
    errors = await asyncio.gather(*(end_of(call) for call in calls))
    assert {error.reason for error in errors} == {"ACCESS_REVOKED"}


async def test_without_an_answer_a_stream_in_doubt_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await world.user("doubted")
    world.engine.steps = list(ENDLESS)
    call = await streaming(user)

    async def no_answer(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(RegistryClient, "identify", no_answer)
    await delete_keys(world, "doubted")
    error = await end_of(call)
    assert (type(error), error.reason) == (UnavailableError, "REGISTRY_UNAVAILABLE")


async def test_a_reader_that_takes_nothing_does_not_keep_the_engine(world: World) -> None:
    key = await world.key("stalled")
    world.engine.steps = [*[tokens(*[70] * 1000) for _ in range(2000)], 60.0]
    async with aio.insecure_channel(world.address, options=SMALL_WINDOW) as channel:
        call = User(channel, key).call("Generate", pb.GenerateRequest(prompt="x"))
        await call.read()
        await eventually(lambda: world.engine.calls and world.engine.calls[0].num_outputs, SECONDS)
        await delete_keys(world, "stalled")
        await eventually(lambda: world.engine.calls[0].closed, SECONDS)
        assert (await end_of(call)).reason in ("ACCESS_REVOKED", "SLOW_READER")
