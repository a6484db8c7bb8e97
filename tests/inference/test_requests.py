"""ListRequests: what is being served now, as far as the caller may know."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lorikeet.rpc.errors import PermissionDeniedError
from protos import inference_pb2 as pb
from tests.inference.scripted_engine import Step, tokens
from tests.inference.world import User, World, eventually
from tests.registry.support import ADMIN

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOREVER = 60.0


async def listed(user: User, **fields: Any) -> list[pb.RequestInfo]:
    response = await user("ListRequests", pb.ListRequestsRequest(**fields))
    return list(response.requests)


@asynccontextmanager
async def held(
    world: World, user: User, steps: list[Step], **fields: Any
) -> AsyncIterator[pb.GenerateStart]:
    """A request that is played `steps`, and stays as it then is until the block ends."""
    world.engine.reset([*steps, FOREVER])
    call = user.call("Generate", pb.GenerateRequest(prompt="hello", **fields), timeout=60)
    start: pb.GenerateResponse = await call.read()
    for _ in steps:
        await call.read()
    try:
        yield start.start
    finally:
        call.cancel()
        await eventually(lambda: not world.service.requests.admitted())


async def test_a_request_is_listed_from_the_gate_to_its_end(world: World) -> None:
    user = await world.user("listed")
    version = await world.publish("listed", "math", seed=700)
    async with held(world, user, [], adapter="math", request_id="r-9") as start:
        await eventually(lambda: world.engine.calls)
        (waiting,) = await listed(user)
    assert (waiting.request_id, waiting.adapter_version) == ("r-9", version.name)
    assert (waiting.tenant, waiting.principal) == ("listed", "tenants/listed/principals/user")
    assert waiting.state == pb.REQUEST_STATE_WAITING
    assert waiting.prompt_tokens == start.num_prompt_tokens > 0
    assert waiting.completion_tokens == 0
    assert not waiting.HasField("time_to_first_token")
    assert not world.service.requests.are_generating
    async with held(world, user, [tokens(70), tokens(71, 72)]):
        (running,) = await listed(user)
        assert world.service.requests.are_generating
    assert running.state == pb.REQUEST_STATE_RUNNING
    assert (running.completion_tokens, running.adapter_version) == (3, "")
    assert running.time_to_first_token.ToNanoseconds() <= running.age.ToNanoseconds()
    assert await listed(user) == []


async def test_tenants_see_their_own_and_administrators_all(world: World) -> None:
    mine = await world.user("list-mine")
    other = await world.user("list-other")
    administrator = await world.user("list-other", (ADMIN, "*"), name="administrator")
    async with held(world, mine, [tokens(70)]):
        assert [item.tenant for item in await listed(mine)] == ["list-mine"]
        assert await listed(other) == []
        assert [item.tenant for item in await listed(administrator)] == ["list-mine"]
        assert await listed(administrator, tenant="tenants/list-other") == []
        with pytest.raises(PermissionDeniedError):
            await listed(other, tenant="tenants/list-mine")


async def test_what_is_turned_away_at_the_gate_is_never_listed(world: World) -> None:
    user = await world.user("list-denied")
    with pytest.raises(PermissionDeniedError):
        await user.generate("list-mine/nothing")
    await asyncio.gather(*(user.generate() for _ in range(3)))
    assert world.service.requests.admitted() == []
