"""Keys, grants and the allow-list: who may do what, and what the others are told."""

import pytest

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from tests.registry.conftest import World
from tests.registry.support import (
    ACT_AS,
    CONFIG,
    DENIED,
    USE,
    WHO,
    failure,
    grants,
    make_adapter,
    make_key,
    make_registered,
    make_tenant,
    publish,
    read_file,
    shape,
)


@pytest.fixture
async def adapter(world: World) -> str:
    """Published by acme, shared with globex."""
    name = await make_registered(world.publisher, "acme", "bot")
    await publish(world.publisher, name, make_adapter().files())
    policy = pb.AccessPolicy(adapter=name, allowed_tenants=["tenants/globex"])
    await world.publisher("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy))
    return name


async def test_the_allow_list_decides(world: World, adapter: str) -> None:
    for client, tenant in (
        (world.acme, "acme"),
        (world.globex, "globex"),
        (world.inference, "acme"),
        (world.inference, "globex"),
    ):
        request = pb.ResolveAdapterRequest(tenant=f"tenants/{tenant}", name=adapter)
        assert (await client("ResolveAdapter", request)).version.version == 1
    version = f"{adapter}/versions/1"
    assert await read_file(world.globex, version, CONFIG)
    assert await read_file(world.inference, version, CONFIG, "tenants/globex")

    own = pb.ResolveAdapterRequest(tenant="tenants/initech", name=adapter)
    for client in (world.stranger, world.inference):
        assert (await failure(client, "ResolveAdapter", own)).code == DENIED
    for tenant in ("", "tenants/initech"):
        with pytest.raises(LorikeetError) as refused:
            await read_file(world.stranger, version, CONFIG, tenant)
        assert refused.value.code == DENIED


async def test_a_revocation_holds_at_once(world: World, adapter: str) -> None:
    request = pb.ResolveAdapterRequest(tenant="tenants/globex", name=adapter)
    await world.inference("ResolveAdapter", request)
    policy = pb.AccessPolicy(adapter=adapter)
    await world.publisher("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy))
    assert (await failure(world.inference, "ResolveAdapter", request)).code == DENIED


async def test_forbidden_absent_and_deleted_look_alike(world: World, adapter: str) -> None:
    gone = await make_registered(world.publisher, "acme", "gone")
    await world.publisher("DeleteAdapter", pb.DeleteAdapterRequest(name=gone))
    absent = "tenants/acme/adapters/absent"
    nowhere = "tenants/nowhere/adapters/absent"
    names = (adapter, gone, absent, nowhere)

    async def shapes(method: str, make: type, field: str, **more: str) -> set[tuple[object, ...]]:
        requests = {name: make(**{field: name}, **more) for name in names}
        return {
            shape(await failure(world.stranger, method, request), name)
            for name, request in requests.items()
        }

    alike = [
        await shapes("ResolveAdapter", pb.ResolveAdapterRequest, "name", tenant="tenants/initech"),
        await shapes("GetAdapter", pb.GetAdapterRequest, "name"),
        await shapes("DeleteAdapter", pb.DeleteAdapterRequest, "name"),
        await shapes("UndeleteAdapter", pb.UndeleteAdapterRequest, "name"),
        await shapes("GetAccessPolicy", pb.GetAccessPolicyRequest, "adapter"),
        await shapes("ListAdapterVersions", pb.ListAdapterVersionsRequest, "parent"),
        await shapes("StartUpload", pb.StartUploadRequest, "adapter"),
    ]
    assert [len(answers) for answers in alike] == [1] * len(alike)
    for tenant in ("acme", "nowhere"):
        request = pb.ListAdaptersRequest(parent=f"tenants/{tenant}", show_deleted=True)
        assert not (await world.stranger("ListAdapters", request)).adapters


async def test_lists_show_what_is_shared(world: World, adapter: str) -> None:
    await make_registered(world.publisher, "acme", "private")
    request = pb.ListAdaptersRequest(parent="tenants/acme")
    seen = {
        name: [a.name for a in (await client("ListAdapters", request)).adapters]
        for name, client in (("globex", world.globex), ("acme", world.acme), ("admin", world.admin))
    }
    private = "tenants/acme/adapters/private"
    assert seen == {"globex": [adapter], "acme": [adapter, private], "admin": [adapter, private]}
    assert (
        await world.globex("GetAdapter", pb.GetAdapterRequest(name=adapter))
    ).latest_version == 1
    policy = pb.GetAccessPolicyRequest(adapter=adapter)
    assert (await failure(world.globex, "GetAccessPolicy", policy)).code == DENIED


async def test_nobody_speaks_for_another_tenant(world: World, adapter: str) -> None:
    request = pb.ResolveAdapterRequest(tenant="tenants/globex", name=adapter)
    refused = await failure(world.acme, "ResolveAdapter", request)
    assert (refused.code, refused.reason) == (DENIED, "TENANT_MISMATCH")
    scoped = grants((USE, "tenants/globex"), (ACT_AS, "tenants/initech"))
    other = world.client(await make_key(world.admin, "initech", "agent", scoped))
    assert (await failure(other, "ResolveAdapter", request)).reason == "TENANT_MISMATCH"
    agent = grants((ACT_AS, "tenants/globex"))
    allowed = world.client(await make_key(world.admin, "initech", "good", agent))
    assert (await allowed("ResolveAdapter", request)).version.version == 1


async def test_use_needs_its_grant(world: World, adapter: str) -> None:
    powerless = world.client(await make_key(world.admin, "acme", "powerless", []))
    request = pb.ResolveAdapterRequest(tenant="tenants/acme", name=adapter)
    assert (await failure(powerless, "ResolveAdapter", request)).code == DENIED
    assert (await powerless("GetAdapter", pb.GetAdapterRequest(name=adapter))).name == adapter


async def test_publishing_needs_its_grant(world: World, adapter: str) -> None:
    policy = pb.AccessPolicy(adapter=adapter, allowed_tenants=["tenants/initech"])
    update = pb.UpdateAdapterRequest(adapter=pb.Adapter(name=adapter, description="x"))
    for method, request in (
        ("CreateAdapter", pb.CreateAdapterRequest(parent="tenants/acme", adapter_id="new")),
        ("UpdateAdapter", update),
        ("DeleteAdapter", pb.DeleteAdapterRequest(name=adapter)),
        ("SetAlias", pb.SetAliasRequest(name=f"{adapter}/aliases/stable", version=1)),
        ("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy)),
        ("StartUpload", pb.StartUploadRequest(adapter=adapter)),
        ("DeleteAdapterVersion", pb.DeleteAdapterVersionRequest(name=f"{adapter}/versions/1")),
    ):
        for client in (world.acme, world.globex, world.stranger, world.inference):
            assert (await failure(client, method, request)).code == DENIED, method


async def test_a_deleted_tenant_leaves_no_rights_behind(world: World, adapter: str) -> None:
    owned = await failure(world.admin, "DeleteTenant", pb.DeleteTenantRequest(name="tenants/acme"))
    assert owned.reason == "TENANT_NOT_EMPTY"
    await make_key(world.admin, "initech", "heir", grants((ACT_AS, "tenants/globex")))
    await world.admin("DeleteTenant", pb.DeleteTenantRequest(name="tenants/globex"))
    assert (await failure(world.globex, "IdentifyCaller", WHO)).reason == "CREDENTIAL_INVALID"
    await make_tenant(world.admin, "globex")
    request = pb.ResolveAdapterRequest(tenant="tenants/globex", name=adapter)
    assert (await failure(world.inference, "ResolveAdapter", request)).code == DENIED
    listed = await world.admin("ListPrincipals", pb.ListPrincipalsRequest(parent="tenants/initech"))
    assert [list(p.grants) for p in listed.principals if p.name.endswith("/heir")] == [[]]


async def test_writes_and_denials_are_audited(world: World, adapter: str) -> None:
    request = pb.ResolveAdapterRequest(tenant="tenants/initech", name=adapter)
    await failure(world.stranger, "ResolveAdapter", request)
    asked = pb.ListAuditEventsRequest(resource_prefix=adapter)
    events = (await world.admin("ListAuditEvents", asked)).events
    newest = events[0]
    assert (newest.outcome, newest.action) == ("denied", "adapters.use")
    assert newest.principal == "tenants/initech/principals/user0"
    assert [event.action for event in events[1:]] == [
        "adapters.setAccessPolicy",
        "versions.create",
        "adapters.create",
    ]
