"""What tenants are granted, reached and recovered through the service, on a real registry."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from lorikeet.rpc.errors import LorikeetError, ResourceExhaustedError
from protos import inference_pb2 as pb
from protos import registry_pb2
from tests.inference.scripted_engine import steps_of, tokens
from tests.inference.world import User, World, running_world
from tests.registry.support import ACT_AS

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def grant(world: World, tenant: str, **serving: Any) -> None:
    """Replaces what the tenant is granted."""
    request = registry_pb2.UpdateTenantRequest(
        tenant=registry_pb2.Tenant(
            name=f"tenants/{tenant}", serving=registry_pb2.ServingLimits(**serving)
        ),
        update_mask=FieldMask(paths=["serving"]),
    )
    await world.admin("UpdateTenant", request)


async def refusal(user: User, **fields: Any) -> ResourceExhaustedError:
    with pytest.raises(ResourceExhaustedError) as caught:
        await user.generate(**fields)
    return caught.value


async def refused_at_last(user: User, **fields: Any) -> ResourceExhaustedError:
    """The first refusal of many requests: once the limit is used up, or the change has arrived."""
    async with asyncio.timeout(20):
        while True:
            try:
                await user.generate(**fields)
            except ResourceExhaustedError as error:
                return error


async def passes_at_last(user: User, **fields: Any) -> None:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(ResourceExhaustedError):
                await user.generate(**fields)
                return


class Running:
    """A request that has its first token and waits for its second, until it is cancelled."""

    def __init__(self, world: World, user: User, **fields: Any) -> None:
        world.engine.steps = [tokens(70), 60.0]
        self.call = user.call("Generate", pb.GenerateRequest(prompt="x", **fields), timeout=None)

    async def begun(self) -> "Running":
        assert (await self.call.read()).WhichOneof("event") == "start"
        assert (await self.call.read()).WhichOneof("event") == "chunk"
        return self


async def test_requests_at_a_time(world: World) -> None:
    user, other = await world.user("many"), await world.user("other")
    await grant(world, "many", max_concurrent_requests=2)
    running = [await Running(world, user).begun() for _ in range(2)]
    error = await refusal(user)
    assert error.reason == "TENANT_CONCURRENCY"
    assert error.retry_after == pytest.approx(1, abs=0.01)
    assert error.metadata == {"limit": "max_concurrent_requests", "value": "2"}
    assert [violation.subject for violation in error.quota_violations] == ["tenants/many"]
    world.engine.steps = steps_of([70])
    await other.generate()
    running[0].call.cancel()
    await passes_at_last(user)
    running[1].call.cancel()


async def test_every_completion_takes_a_place(world: World) -> None:
    user = await world.user("places")
    await grant(world, "places", max_concurrent_requests=3)
    await user.generate(sampling=pb.SamplingParams(n=3, temperature=1))
    error = await refusal(user, sampling=pb.SamplingParams(n=4, temperature=1))
    assert (error.reason, error.retry_after) == ("TENANT_CONCURRENCY", None)
    running = await Running(world, user, sampling=pb.SamplingParams(n=2, temperature=1)).begun()
    error = await refusal(user, sampling=pb.SamplingParams(n=2, temperature=1))
    assert "2 open, 2 more asked for" in error.message
    running.call.cancel()


async def test_requests_per_minute(world: World) -> None:
    user, other = await world.user("rapid"), await world.user("calm")
    await grant(world, "rapid", max_requests_per_minute=300)
    for _ in range(300):
        await user.generate()
    error = await refused_at_last(user)
    await other.generate()
    assert error.reason == "TENANT_REQUEST_RATE"
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 0.202
    await asyncio.sleep(error.retry_after)
    await user.generate()


async def test_tokens_per_minute_are_owed_by_what_runs_and_paid_by_the_next(world: World) -> None:
    user, other = await world.user("wordy"), await world.user("terse")
    await grant(world, "wordy", max_tokens_per_minute=6000)
    world.engine.steps = steps_of(range(100, 200))
    usage = (await user.generate(prompt="x")).complete
    assert usage is not None
    each = usage.usage.prompt_tokens + usage.usage.completion_tokens
    error = await refused_at_last(user, prompt="x")
    assert error.reason == "TENANT_TOKEN_RATE"
    assert error.retry_after is not None
    assert error.retry_after <= (each + 1) / 100, "the last one may have owed all its tokens"
    await other.generate(prompt="x")
    await asyncio.sleep(error.retry_after)
    await user.generate(prompt="x")


async def test_what_is_refused_costs_nothing(world: World) -> None:
    user = await world.user("refused")
    await grant(world, "refused", max_concurrent_requests=1, max_requests_per_minute=3)
    running = await Running(world, user).begun()
    for _ in range(10):
        assert (await refusal(user)).reason == "TENANT_CONCURRENCY"
    running.call.cancel()
    world.engine.steps = steps_of([70])
    await passes_at_last(user)
    await user.generate()
    assert (await refusal(user)).reason == "TENANT_REQUEST_RATE"


async def test_who_acts_for_a_tenant_uses_what_that_tenant_is_granted(world: World) -> None:
    await world.key("served")
    agent = await world.user("broker", (ACT_AS, "tenants/served"), (ACT_AS, "tenants/broker"))
    await grant(world, "served", max_requests_per_minute=1)
    await agent.generate(tenant="tenants/served")
    error = await refusal(agent, tenant="tenants/served")
    assert error.quota_violations[0].subject == "tenants/served"
    await agent.generate()


async def test_limits_change_while_the_service_runs(world: World) -> None:
    user = await world.user("changing")
    await user.generate()
    await grant(world, "changing", max_concurrent_requests=0)
    error = await refused_at_last(user)
    assert (error.reason, error.retry_after) == ("TENANT_CONCURRENCY", None)
    await grant(world, "changing")
    await passes_at_last(user)


async def test_the_weight_reaches_the_engine(world: World) -> None:
    user = await world.user("weighty")
    await user.generate()
    assert world.engine.calls[-1].weight == 1
    await grant(world, "weighty", weight=3)
    async with asyncio.timeout(10):
        while world.engine.calls[-1].weight != 3:
            await user.generate()


async def test_places_are_given_back_however_a_request_ends(world: World) -> None:
    user = await world.user("ends")
    await grant(world, "ends", max_concurrent_requests=1)
    world.engine.steps = [tokens(70), RuntimeError("a fault")]
    for _ in range(3):
        with pytest.raises(LorikeetError) as caught:
            await user.generate()
        assert caught.value.reason == "INTERNAL"
    for _ in range(20):
        running = Running(world, user)
        await running.call.read()
        running.call.cancel()
        world.engine.steps = steps_of([70])
        await passes_at_last(user)
    with pytest.raises(LorikeetError):
        await user.generate(adapter="ends/absent")
    with pytest.raises(LorikeetError):
        await user.generate(prompt="x" * 5000)
    await user.generate()


@pytest.mark.parametrize(
    ("method", "request_"),
    [("Tokenize", pb.TokenizeRequest(text="x")), ("Detokenize", pb.DetokenizeRequest())],
)
async def test_other_calls_count_as_requests(world: World, method: str, request_: Any) -> None:
    tenant = f"calls-{method.lower()}"
    user = await world.user(tenant)
    await grant(world, tenant, max_requests_per_minute=2)
    await user(method, request_)
    await user(method, request_)
    with pytest.raises(ResourceExhaustedError) as caught:
        await user(method, request_)
    assert caught.value.reason == "TENANT_REQUEST_RATE"


async def test_prefetches_at_a_time(world: World) -> None:
    user, other = await world.user("fetches"), await world.user("fetches-not")
    for tenant in ("fetches", "fetches-not"):
        await world.publish(tenant, "math")
    world.engine.load_seconds = 60.0
    request = pb.PrefetchAdaptersRequest(adapters=["math"])
    calls = [user.call("PrefetchAdapters", request, timeout=None) for _ in range(4)]
    for call in calls:
        assert (await call.read()).adapter == "math"
    with pytest.raises(ResourceExhaustedError) as caught:
        await user.stream("PrefetchAdapters", request)
    assert caught.value.reason == "TENANT_CONCURRENCY"
    assert caught.value.metadata == {"limit": "max_prefetches", "value": "4"}
    to_disk = pb.PrefetchAdaptersRequest(adapters=["math"], tier=pb.TIER_DISK)
    assert (await other.stream("PrefetchAdapters", to_disk))[-1].done
    calls[0].cancel()
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(ResourceExhaustedError):
                assert (await user.stream("PrefetchAdapters", to_disk))[-1].done
                break
    for call in calls[1:]:
        call.cancel()


async def test_prefetches_count_as_requests(world: World) -> None:
    user = await world.user("fetch-rate")
    await world.publish("fetch-rate", "math")
    await grant(world, "fetch-rate", max_requests_per_minute=1)
    request = pb.PrefetchAdaptersRequest(adapters=["math"])
    await user.stream("PrefetchAdapters", request)
    assert (await refusal(user)).reason == "TENANT_REQUEST_RATE"


async def test_limits_hold_while_the_registry_is_away(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        user = await world.user("alone")
        await grant(world, "alone", max_requests_per_minute=3)
        await user.generate()
        await world.stop_registry()
        for _ in range(2):
            await user.generate()
        assert (await refusal(user)).reason == "TENANT_REQUEST_RATE"
