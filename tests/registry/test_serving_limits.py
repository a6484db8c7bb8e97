"""What inference services grant a tenant: written by administrators, read by who acts for it."""

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from protos import registry_pb2 as pb
from tests.registry.conftest import World
from tests.registry.support import (
    ACT_AS,
    DENIED,
    WHO,
    failure,
    fields,
    grants,
    make_key,
    shape,
)

ACME = "tenants/acme"
LIMITS: dict[str, Any] = {
    "weight": 2.5,
    "max_concurrent_requests": 0,
    "max_requests_per_minute": 600,
    "max_tokens_per_minute": 1 << 40,
}


async def update(world: World, *paths: str, etag: str = "", **serving: Any) -> pb.Tenant:
    tenant = pb.Tenant(name=ACME, serving=pb.ServingLimits(**serving), etag=etag)
    request = pb.UpdateTenantRequest(tenant=tenant, update_mask=FieldMask(paths=paths))
    updated: pb.Tenant = await world.admin("UpdateTenant", request)
    return updated


async def test_limits_come_with_the_tenant(world: World) -> None:
    request = pb.CreateTenantRequest(
        tenant_id="umbrella", tenant=pb.Tenant(serving=pb.ServingLimits(**LIMITS)), request_id="r"
    )
    created = await world.admin("CreateTenant", request)
    assert created.serving == pb.ServingLimits(**LIMITS)
    assert await world.admin("CreateTenant", request) == created
    got = await world.admin("GetTenant", pb.GetTenantRequest(name="tenants/umbrella"))
    assert got.serving == created.serving
    listed = await world.admin("ListTenants", pb.ListTenantsRequest())
    assert {tenant.name: tenant.serving for tenant in listed.tenants} == {
        **{tenant.name: pb.ServingLimits() for tenant in listed.tenants},
        "tenants/umbrella": created.serving,
    }


async def test_limits_are_updated_one_by_one_and_unset_again(world: World) -> None:
    first = await update(world, "serving.weight", weight=3, max_concurrent_requests=5)
    assert first.serving == pb.ServingLimits(weight=3)
    second = await update(
        world, "serving.max_concurrent_requests", max_concurrent_requests=0, etag=first.etag
    )
    assert second.serving == pb.ServingLimits(weight=3, max_concurrent_requests=0)
    with pytest.raises(Exception, match="changed since this etag was read"):
        await update(world, "serving.weight", weight=4, etag=first.etag)
    third = await update(world, max_tokens_per_minute=7)  # without a mask: all of what is set
    assert third.serving == pb.ServingLimits(max_tokens_per_minute=7)
    assert (await update(world, "serving")).serving == pb.ServingLimits()
    quota = pb.Tenant(name=ACME, quota=pb.TenantQuota(max_rank=4))
    await update(world, "serving", weight=2)
    kept = await world.admin("UpdateTenant", pb.UpdateTenantRequest(tenant=quota))
    assert (kept.serving, kept.quota.max_rank) == (pb.ServingLimits(weight=2), 4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("weight", value) for value in (0, -1, 0.001, 101, float("nan"), float("inf"))),
        ("max_concurrent_requests", -1),
        ("max_requests_per_minute", -1),
        ("max_tokens_per_minute", -5),
    ],
)
async def test_impossible_limits_are_refused_by_name(world: World, field: str, value: Any) -> None:
    tenant = pb.Tenant(name=ACME, serving=pb.ServingLimits(**{field: value}))
    for method, request in (
        ("UpdateTenant", pb.UpdateTenantRequest(tenant=tenant)),
        (
            "CreateTenant",
            pb.CreateTenantRequest(tenant_id="x", tenant=pb.Tenant(serving=tenant.serving)),
        ),
    ):
        assert fields(await failure(world.admin, method, request)) == [f"tenant.serving.{field}"]


async def test_changes_are_in_the_feed_and_in_the_audit_trail(world: World) -> None:
    await update(world, "serving.weight", weight=3)
    await update(world, "serving", max_concurrent_requests=2)
    listed = await world.admin(
        "ListAuditEvents", pb.ListAuditEventsRequest(action="tenants.update")
    )
    newest = listed.events[0]
    assert dict(newest.before) == {"serving.weight": 3, "serving.max_concurrent_requests": None}
    assert dict(newest.after) == {"serving.weight": None, "serving.max_concurrent_requests": 2}
    told = []
    async for response in world.inference.stream("WatchAdapters", pb.WatchAdaptersRequest()):
        if response.WhichOneof("event") == "heartbeat":
            break
        told.append((response.change.kind, response.change.resource))
    assert told.count(("tenants.update", ACME)) == 2


async def test_who_acts_for_a_tenant_reads_its_limits_and_not_its_usage(world: World) -> None:
    await update(world, "serving.weight", weight=3)
    scoped = world.client(await make_key(world.admin, "initech", "agent", grants((ACT_AS, ACME))))
    for client in (world.inference, scoped):
        got = await client("GetTenant", pb.GetTenantRequest(name=ACME))
        assert (got.serving.weight, got.HasField("usage")) == (3, False)
    asked = await world.admin("GetTenant", pb.GetTenantRequest(name=ACME))
    assert asked.HasField("usage")


async def test_others_do_not_learn_of_a_tenant(world: World) -> None:
    scoped = world.client(await make_key(world.admin, "initech", "agent", grants((ACT_AS, ACME))))
    own = (await world.acme("IdentifyCaller", WHO)).tenant
    for client, present in ((world.acme, own), (world.stranger, ACME), (scoped, "tenants/globex")):
        seen = [
            shape(await failure(client, "GetTenant", pb.GetTenantRequest(name=name)), name)
            for name in (present, "tenants/nowhere")
        ]
        assert seen[0] == seen[1]
        assert seen[0][0] == DENIED
    gone = pb.GetTenantRequest(name="tenants/nowhere")
    assert (await failure(world.inference, "GetTenant", gone)).code == DENIED
