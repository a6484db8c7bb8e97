"""Answers from memory are those the database would give, whichever registry made the change."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from grpc import aio

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from tests.backends import ON_SERVERS
from tests.integration.conftest import MakeRegistry
from tests.registry.support import (
    USE,
    Client,
    grants,
    make_adapter,
    make_base_model,
    make_key,
    make_registered,
    make_tenant,
    publish,
)

pytestmark = pytest.mark.parametrize("backend", ON_SERVERS, indirect=True)

ADAPTER = "tenants/platform/adapters/bot"
ALIAS = f"{ADAPTER}/aliases/stable"
GRANT = grants((USE, "tenants/partner"))
NUM_STEPS = 40
SECONDS_TO_SEE = 5.0  # the bound is about one; machines may be busy


@dataclass
class Side:
    """One registry: its administrator, and a user of another tenant."""

    admin: Client
    user: Client


@dataclass
class Expected:
    """What the user must be answered with."""

    version: int = 1
    is_listed: bool = False
    is_deleted: bool = False
    is_granted: bool = True

    @property
    def answer(self) -> int | str:
        if self.is_listed and self.is_granted and not self.is_deleted:
            return self.version
        return "PERMISSION_DENIED"


@pytest.fixture
async def sides(make_registry: MakeRegistry) -> AsyncIterator[list[Side]]:
    registries = [make_registry(), make_registry()]
    addresses = [await asyncio.to_thread(registry.start) for registry in registries]
    key = registries[0].admin_key
    async with aio.insecure_channel(addresses[0]) as one, aio.insecure_channel(addresses[1]) as two:
        admin = Client(one, key)
        await make_base_model(admin)
        await make_tenant(admin, "partner")
        user_key = await make_key(admin, "partner", "user", GRANT)
        await make_registered(admin, "platform", "bot")
        for seed in range(3):
            await publish(admin, ADAPTER, make_adapter(seed=seed).files())
        await admin("SetAlias", pb.SetAliasRequest(name=ALIAS, version=1))
        yield [Side(Client(channel, key), Client(channel, user_key)) for channel in (one, two)]


async def resolve(user: Client) -> int | str:
    request = pb.ResolveAdapterRequest(tenant="tenants/partner", name=ALIAS)
    try:
        response = await user("ResolveAdapter", request)
    except LorikeetError as error:
        return error.code.name
    version: int = response.version.version
    return version


async def change(admin: Client, expected: Expected, kind: str) -> None:
    """Makes one change, and notes what follows from it."""
    if kind == "alias" and not expected.is_deleted:
        expected.version = expected.version % 3 + 1
        await admin("SetAlias", pb.SetAliasRequest(name=ALIAS, version=expected.version))
    elif kind == "policy" and not expected.is_deleted:
        expected.is_listed = not expected.is_listed
        allowed = ["tenants/partner"] if expected.is_listed else []
        policy = pb.AccessPolicy(adapter=ADAPTER, allowed_tenants=allowed)
        await admin("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy))
    elif kind == "life":
        expected.is_deleted = not expected.is_deleted
        if expected.is_deleted:
            await admin("DeleteAdapter", pb.DeleteAdapterRequest(name=ADAPTER))
        else:
            await admin("UndeleteAdapter", pb.UndeleteAdapterRequest(name=ADAPTER))
    elif kind == "grants":
        expected.is_granted = not expected.is_granted
        granted = GRANT if expected.is_granted else []
        name = "tenants/partner/principals/user"
        await admin("SetGrants", pb.SetGrantsRequest(principal=name, grants=granted))


async def test_memory_is_never_behind_an_acknowledged_write(sides: list[Side]) -> None:
    chosen, expected = random.Random(4), Expected()
    slowest = 0.0
    for step in range(NUM_STEPS):
        here, there = chosen.sample(sides, 2)
        kind = chosen.choices(["alias", "policy", "life", "grants"], [4, 3, 1, 1])[0]
        racing = [asyncio.create_task(resolve(side.user)) for side in sides for _ in range(4)]
        await change(here.admin, expected, kind)
        acknowledged = time.monotonic()
        assert await resolve(here.user) == expected.answer, (step, kind)
        while await resolve(there.user) != expected.answer:
            assert time.monotonic() < acknowledged + SECONDS_TO_SEE, (step, kind)
        slowest = max(slowest, time.monotonic() - acknowledged)
        await asyncio.gather(*racing)
        # What raced with the change has not been kept.
        answers = {await resolve(side.user) for side in sides}
        assert answers == {expected.answer}, (step, kind)
    print(f"the other registry followed within {1e3 * slowest:.0f} ms")
