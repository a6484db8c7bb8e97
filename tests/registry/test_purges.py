"""How adapters and versions go: the states, who may be in which, and what is left."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.orm import Session

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from registry_service.config import Settings
from registry_service.repository import purges
from registry_service.repository.engine import make_engine
from tests.registry.conftest import World
from tests.registry.support import (
    BASE,
    failure,
    make_adapter,
    make_registered,
    publish,
    start_and_write,
)

DAY = 86_400


def delete(name: str, etag: str = "") -> tuple[str, Any]:
    return "DeleteAdapter", pb.DeleteAdapterRequest(name=name, etag=etag)


def undelete(name: str, etag: str = "") -> tuple[str, Any]:
    return "UndeleteAdapter", pb.UndeleteAdapterRequest(name=name, etag=etag)


def purge(name: str, etag: str = "") -> tuple[str, Any]:
    return "PurgeAdapter", pb.PurgeAdapterRequest(name=name, etag=etag)


def version(verb: str, name: str, number: int) -> tuple[str, Any]:
    request = {
        "Delete": pb.DeleteAdapterVersionRequest,
        "Undelete": pb.UndeleteAdapterVersionRequest,
        "Purge": pb.PurgeAdapterVersionRequest,
    }[verb]
    return f"{verb}AdapterVersion", request(name=f"{name}/versions/{number}")


async def latest(world: World, name: str) -> int:
    adapter = await world.acme("GetAdapter", pb.GetAdapterRequest(name=name))
    found: int = adapter.latest_version
    return found


def seconds_between(first: Timestamp, second: Timestamp) -> float:
    return second.ToNanoseconds() / 1e9 - first.ToNanoseconds() / 1e9


@pytest.fixture
def session(world: World, settings: Settings) -> Iterator[Session]:
    engine = make_engine(settings.resolved_database_url)
    with Session(engine) as session, session.begin():
        yield session
    engine.dispose()


async def published(world: World, num_versions: int = 3) -> str:
    name = await make_registered(world.publisher, "acme", "bot")
    for seed in range(num_versions):
        await publish(world.publisher, name, make_adapter(seed=seed).files())
    return name


async def test_an_adapter_is_purged_and_its_name_is_free(world: World) -> None:
    name = await published(world)
    policy = pb.AccessPolicy(adapter=name, allowed_tenants=["tenants/globex"])
    await world.publisher("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy))
    await world.publisher("SetAlias", pb.SetAliasRequest(name=f"{name}/aliases/stable", version=1))
    assert (await failure(world.publisher, *purge(name))).reason == "ADAPTER_NOT_DELETED"
    deleted = await world.publisher(*delete(name))
    assert seconds_between(deleted.delete_time, deleted.purge_time) == pytest.approx(30 * DAY)
    used = pb.DeleteBaseModelRequest(name=BASE)
    assert (await failure(world.admin, "DeleteBaseModel", used)).reason == "BASE_MODEL_IN_USE"

    await world.publisher(*purge(name))
    assert (await failure(world.admin, "GetAdapter", pb.GetAdapterRequest(name=name))).code == (
        grpc.StatusCode.NOT_FOUND
    )
    await make_registered(world.publisher, "acme", "bot")
    again = await publish(world.publisher, name, make_adapter().files())
    assert again.version == 1
    resolve = pb.ResolveAdapterRequest(tenant="tenants/globex", name=name)
    assert (await failure(world.globex, "ResolveAdapter", resolve)).code == (
        grpc.StatusCode.PERMISSION_DENIED
    ), "a namesake inherits no allow-list"
    await world.publisher(*delete(name))
    await world.publisher(*purge(name))
    await world.admin("DeleteBaseModel", used)


async def test_etags_guard_every_end(world: World) -> None:
    name = await make_registered(world.publisher, "acme", "bot")
    first = (await world.acme("GetAdapter", pb.GetAdapterRequest(name=name))).etag
    deleted = await world.publisher(*delete(name, first))
    for method, request in (undelete(name, first), purge(name, first)):
        stale = await failure(world.publisher, method, request)
        assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    await world.publisher(*undelete(name, deleted.etag))
    assert (await failure(world.publisher, *undelete(name))).reason == "ADAPTER_NOT_DELETED"


async def test_aliases_are_set_on_what_was_read(world: World) -> None:
    name = await published(world, 2)
    seen = (await world.acme("GetAdapter", pb.GetAdapterRequest(name=name))).etag
    alias = f"{name}/aliases/stable"
    await world.publisher("SetAlias", pb.SetAliasRequest(name=alias, version=1, adapter_etag=seen))
    for method, request in (
        ("SetAlias", pb.SetAliasRequest(name=alias, version=2, adapter_etag=seen)),
        ("DeleteAlias", pb.DeleteAliasRequest(name=alias, adapter_etag=seen)),
    ):
        assert (await failure(world.publisher, method, request)).reason == "ETAG_MISMATCH"


async def test_versions_go_through_their_states(world: World) -> None:
    name = await published(world)
    assert (await failure(world.publisher, *version("Purge", name, 3))).reason == (
        "VERSION_NOT_DELETED"
    )
    deleted = await world.publisher(*version("Delete", name, 3))
    assert deleted.state == pb.VERSION_STATE_DELETED
    assert seconds_between(deleted.delete_time, deleted.purge_time) == pytest.approx(30 * DAY)
    assert await latest(world, name) == 2
    back = await world.publisher(*version("Undelete", name, 3))
    assert (back.state, back.HasField("purge_time")) == (pb.VERSION_STATE_READY, False)
    assert await latest(world, name) == 3

    await world.publisher(*version("Delete", name, 3))
    purged = await world.publisher(*version("Purge", name, 3))
    assert purged.state == pb.VERSION_STATE_PURGED
    for verb, reason in (("Undelete", "VERSION_PURGED"), ("Purge", "VERSION_PURGED")):
        assert (await failure(world.publisher, *version(verb, name, 3))).reason == reason
    alias = pb.SetAliasRequest(name=f"{name}/aliases/stable", version=3)
    assert (await failure(world.publisher, "SetAlias", alias)).reason == "VERSION_NOT_FOUND"
    assert (await publish(world.publisher, name, make_adapter(seed=3).files())).version == 4
    request = pb.ListAdapterVersionsRequest(parent=name, show_deleted=True)
    listed = (await world.acme("ListAdapterVersions", request)).versions
    assert [(v.version, v.state) for v in listed] == [
        (4, pb.VERSION_STATE_READY),
        (3, pb.VERSION_STATE_PURGED),
        (2, pb.VERSION_STATE_READY),
        (1, pb.VERSION_STATE_READY),
    ]


async def test_purged_versions_leave_the_quota(world: World) -> None:
    quota = pb.Tenant(name="tenants/acme", quota=pb.TenantQuota(max_versions=1))
    await world.admin("UpdateTenant", pb.UpdateTenantRequest(tenant=quota))
    name = await published(world, 1)
    await world.publisher(*version("Delete", name, 1))
    with pytest.raises(LorikeetError) as refused:
        await publish(world.publisher, name, make_adapter(seed=1).files())
    assert refused.value.reason == "QUOTA_EXCEEDED", "deleted ones count"
    await world.publisher(*version("Purge", name, 1))
    assert (await publish(world.publisher, name, make_adapter(seed=1).files())).version == 2


async def test_an_open_upload_keeps_its_adapter(world: World, session: Session) -> None:
    name = await make_registered(world.publisher, "acme", "bot")
    upload = await start_and_write(world.publisher, name, make_adapter().files())
    await world.publisher(*delete(name))
    assert (await failure(world.publisher, *purge(name))).reason == "ADAPTER_HAS_UPLOADS"
    assert not purges.purge_expired_adapters(session, datetime.now(UTC) + timedelta(days=99), 10)
    session.commit()
    await world.publisher("AbortUpload", pb.AbortUploadRequest(name=upload))
    await world.publisher(*purge(name))


async def test_the_expired_are_purged_and_no_others(world: World, session: Session) -> None:
    name = await published(world)
    await make_registered(world.publisher, "acme", "deleted")
    await make_registered(world.publisher, "acme", "live")
    await world.publisher(*version("Delete", name, 2))
    await world.publisher(*delete("tenants/acme/adapters/deleted"))
    hour = timedelta(hours=1)
    assert not purges.purge_expired_adapters(session, datetime.now(UTC) - hour, 10)
    assert not purges.purge_expired_versions(session, datetime.now(UTC) - hour, 10)
    gone = purges.purge_expired_adapters(session, datetime.now(UTC) + hour, 10)
    assert [str(each) for each in gone] == ["tenants/acme/adapters/deleted"]
    versions = purges.purge_expired_versions(session, datetime.now(UTC) + hour, 10)
    assert [str(each) for each in versions] == [f"{name}/versions/2"]
    session.commit()
    got = await world.acme(
        "GetAdapterVersion", pb.GetAdapterVersionRequest(name=f"{name}/versions/2")
    )
    assert got.state == pb.VERSION_STATE_PURGED
    asked = pb.ListAuditEventsRequest(resource_prefix="tenants/acme/adapters/deleted")
    events = (await world.admin("ListAuditEvents", asked)).events
    assert (events[0].action, events[0].principal) == ("adapters.purge", "system")


async def test_racing_ends_leave_one_state(world: World) -> None:
    """Whatever the order: `latest` is the highest READY version, and each call has one answer."""
    name = await published(world, 4)
    calls = [version(verb, name, n) for n in (2, 3, 4) for verb in ("Delete", "Undelete", "Purge")]
    results = await asyncio.gather(
        *(world.publisher(*call) for call in calls for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(r, LorikeetError | pb.AdapterVersion) for r in results), results
    request = pb.ListAdapterVersionsRequest(parent=name, show_deleted=True)
    listed = (await world.acme("ListAdapterVersions", request)).versions
    assert [v.version for v in listed] == [4, 3, 2, 1]
    ready = [v.version for v in listed if v.state == pb.VERSION_STATE_READY]
    assert await latest(world, name) == max(ready)


async def test_ends_need_the_grant_to_publish(world: World) -> None:
    name = await published(world, 1)
    for client in (world.acme, world.globex, world.stranger, world.inference):
        for method, request in (
            purge(name),
            version("Undelete", name, 1),
            version("Purge", name, 1),
        ):
            assert (await failure(client, method, request)).code == (
                grpc.StatusCode.PERMISSION_DENIED
            )


async def test_masks_reach_into_the_profile(world: World) -> None:
    name = await make_registered(world.publisher, "acme", "bot")
    profile = pb.AdapterProfile(stop=["a"], chat_template="t")
    await world.publisher(
        "UpdateAdapter", pb.UpdateAdapterRequest(adapter=pb.Adapter(name=name, profile=profile))
    )

    async def update(paths: list[str], **fields: Any) -> pb.Adapter:
        request = pb.UpdateAdapterRequest(adapter=pb.Adapter(name=name, **fields))
        request.update_mask.paths.extend(paths)
        updated: pb.Adapter = await world.publisher("UpdateAdapter", request)
        return updated

    updated = await update(["profile.stop"], profile=pb.AdapterProfile(stop=["b", "c"]))
    assert updated.profile == pb.AdapterProfile(stop=["b", "c"], chat_template="t")
    updated = await update(["profile.chat_template"])
    assert updated.profile == pb.AdapterProfile(stop=["b", "c"])
    updated = await update(["*"], description="all new")
    assert (updated.description, updated.profile) == ("all new", pb.AdapterProfile())
    for paths in (["profile.nonsense"], ["labels.team"], ["*", "labels"], ["profile.stop.x"]):
        with pytest.raises(LorikeetError) as refused:
            await update(paths)
        assert [v.field for v in refused.value.violations] == ["update_mask"]
