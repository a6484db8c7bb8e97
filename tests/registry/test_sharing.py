"""An adapter for every tenant: "*" in the allow-list."""

import grpc
import pytest

from protos import registry_pb2 as pb
from tests.registry.conftest import World
from tests.registry.support import (
    ACT_AS,
    CONFIG,
    DENIED,
    USE,
    failure,
    grants,
    make_adapter,
    make_key,
    make_registered,
    make_tenant,
    publish,
    read_file,
)


async def set_policy(world: World, adapter: str, *allowed: str) -> pb.AccessPolicy:
    policy = pb.AccessPolicy(adapter=adapter, allowed_tenants=allowed)
    answer: pb.AccessPolicy = await world.publisher(
        "SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy)
    )
    return answer


@pytest.fixture
async def shared(world: World) -> str:
    name = await make_registered(world.publisher, "acme", "bot")
    await publish(world.publisher, name, make_adapter().files())
    assert list((await set_policy(world, name, "*")).allowed_tenants) == ["*"]
    return name


def resolve(tenant: str, adapter: str) -> pb.ResolveAdapterRequest:
    return pb.ResolveAdapterRequest(tenant=f"tenants/{tenant}", name=adapter)


async def test_every_tenant_sees_reads_and_uses_it(world: World, shared: str) -> None:
    await make_tenant(world.admin, "later")
    key = await make_key(world.admin, "later", "user", grants((USE, "tenants/later")))
    for tenant, client in (("initech", world.stranger), ("later", world.client(key))):
        assert (await client("ResolveAdapter", resolve(tenant, shared))).version.version == 1
        assert (await client("GetAdapter", pb.GetAdapterRequest(name=shared))).name == shared
        assert await read_file(client, f"{shared}/versions/1", CONFIG)
        listed = await client("ListAdapters", pb.ListAdaptersRequest(parent="tenants/acme"))
        assert [adapter.name for adapter in listed.adapters] == [shared]
    assert (await world.inference("ResolveAdapter", resolve("initech", shared))).version


async def test_a_tenant_that_is_not_may_not(world: World, shared: str) -> None:
    for client in (world.inference, world.admin):
        refused = await failure(client, "ResolveAdapter", resolve("nowhere", shared))
        assert refused.code == DENIED


async def test_without_the_grant_to_use_it_is_of_no_use(world: World, shared: str) -> None:
    powerless = world.client(await make_key(world.admin, "initech", "powerless", []))
    agent = grants((ACT_AS, "tenants/globex"))
    other = world.client(await make_key(world.admin, "initech", "agent", agent))
    assert (await failure(powerless, "ResolveAdapter", resolve("initech", shared))).code == DENIED
    assert (await failure(other, "ResolveAdapter", resolve("initech", shared))).code == DENIED
    assert (await other("ResolveAdapter", resolve("globex", shared))).version.version == 1


async def test_it_is_taken_back_at_once(world: World, shared: str) -> None:
    await set_policy(world, shared, "tenants/globex")
    assert (await world.globex("ResolveAdapter", resolve("globex", shared))).version
    assert (await failure(world.stranger, "ResolveAdapter", resolve("initech", shared))).code == (
        DENIED
    )
    asked = pb.ListAuditEventsRequest(resource_prefix=shared)
    events = [
        event
        for event in (await world.admin("ListAuditEvents", asked)).events
        if event.action == "adapters.setAccessPolicy"
    ]
    assert [(dict(event.before), dict(event.after)) for event in events] == [
        ({"allowed_tenants": ["*"]}, {"allowed_tenants": ["globex"]}),
        ({"allowed_tenants": []}, {"allowed_tenants": ["*"]}),
    ]


async def test_it_stands_alone(world: World, shared: str) -> None:
    for allowed in (["*", "tenants/globex"], ["*", "*"], ["tenants/*"], [""]):
        policy = pb.AccessPolicy(adapter=shared, allowed_tenants=allowed)
        request = pb.SetAccessPolicyRequest(policy=policy)
        refused = await failure(world.publisher, "SetAccessPolicy", request)
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT, allowed
