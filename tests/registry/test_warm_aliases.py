"""Aliases that inference services keep loaded: written by publishers, listed across tenants."""

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict

from lorikeet.rpc.errors import AbortedError, InvalidArgumentError, PermissionDeniedError
from protos import registry_pb2 as pb
from registry_service.access import AUDIT
from tests.registry.conftest import World
from tests.registry.support import (
    ACT_AS,
    BASE,
    Client,
    failure,
    fields,
    grants,
    make_base_model,
    make_key,
    make_registered,
)
from tests.registry.test_requests import pages

BOT = "tenants/acme/adapters/bot"


async def update(client: Client, *warm: str, etag: str = "", name: str = BOT) -> pb.Adapter:
    adapter = pb.Adapter(name=name, warm_aliases=warm, etag=etag)
    mask = FieldMask(paths=["warm_aliases"])
    answer: pb.Adapter = await client(
        "UpdateAdapter", pb.UpdateAdapterRequest(adapter=adapter, update_mask=mask)
    )
    return answer


async def create(
    client: Client, tenant: str, adapter_id: str, *warm: str, base: str = BASE
) -> pb.Adapter:
    request = pb.CreateAdapterRequest(
        parent=f"tenants/{tenant}",
        adapter_id=adapter_id,
        adapter=pb.Adapter(base_model=base, warm_aliases=warm),
    )
    answer: pb.Adapter = await client("CreateAdapter", request)
    return answer


async def names(client: Client, filter: str = "warm = true", **wanted: Any) -> list[str]:
    request = pb.ListAdaptersRequest(parent="tenants/-", filter=filter, **wanted)
    return [
        a.name for page in await pages(client, "ListAdapters", request, "adapters") for a in page
    ]


async def test_publishers_write_them_and_readers_see_them(world: World) -> None:
    created = await create(world.publisher, "acme", "bot", "stable", "latest")
    assert list(created.warm_aliases) == ["latest", "stable"]
    assert list((await update(world.publisher, "stable")).warm_aliases) == ["stable"]
    read = await world.acme("GetAdapter", pb.GetAdapterRequest(name=BOT))
    assert list(read.warm_aliases) == ["stable"]
    listed = await world.acme("ListAdapters", pb.ListAdaptersRequest(parent="tenants/acme"))
    assert [list(adapter.warm_aliases) for adapter in listed.adapters] == [["stable"]]
    assert list((await update(world.publisher)).warm_aliases) == []
    renamed = pb.Adapter(name=BOT, display_name="Bot", warm_aliases=["canary"])
    answer = await world.publisher("UpdateAdapter", pb.UpdateAdapterRequest(adapter=renamed))
    assert (answer.display_name, list(answer.warm_aliases)) == ("Bot", ["canary"])
    everything = pb.UpdateAdapterRequest(
        adapter=pb.Adapter(name=BOT), update_mask=FieldMask(paths=["*"])
    )
    assert list((await world.publisher("UpdateAdapter", everything)).warm_aliases) == []


async def test_a_stale_etag_is_refused_and_a_change_is_told_and_audited(world: World) -> None:
    created = await create(world.publisher, "acme", "bot", "stable")
    watch: Any = world.inference.stream("WatchAdapters", pb.WatchAdaptersRequest(only_new=True))
    await anext(watch)
    await update(world.publisher, "latest", etag=created.etag)
    with pytest.raises(AbortedError):
        await update(world.publisher, "stable", etag=created.etag)
    async for response in watch:
        if response.HasField("change"):
            assert (response.change.resource, response.change.kind) == (BOT, "adapters.update")
            break
    await watch.aclose()
    asked = pb.ListAuditEventsRequest(action="adapters.update", outcome="ok")
    (event,) = (await world.admin("ListAuditEvents", asked)).events
    assert MessageToDict(event.before) == {"warm_aliases": ["stable"]}
    assert MessageToDict(event.after) == {"warm_aliases": ["latest"]}


@pytest.mark.parametrize(
    ("warm", "field"),
    [
        (["stable", "UPPER"], "adapter.warm_aliases[1]"),
        ([""], "adapter.warm_aliases[0]"),
        (["a", "b", "a"], "adapter.warm_aliases[2]"),
        ([f"alias{number}" for number in range(17)], "adapter.warm_aliases"),
    ],
)
async def test_what_cannot_be_an_alias_is_refused(
    world: World, warm: list[str], field: str
) -> None:
    await make_registered(world.publisher, "acme", "bot")
    with pytest.raises(InvalidArgumentError) as refused:
        await update(world.publisher, *warm)
    assert fields(refused.value) == [field]
    with pytest.raises(InvalidArgumentError):
        await create(world.publisher, "acme", "other", *warm)


async def test_all_tenants_are_listed_to_those_who_see_them_all(world: World) -> None:
    await make_base_model(world.admin, "other")
    for tenant in ("acme", "globex", "initech"):
        for number in range(3):
            await create(world.admin, tenant, f"bot-{number}", *(["stable"] if number else []))
        await create(world.admin, tenant, "elsewhere", "stable", base="baseModels/other")
    want = [f"tenants/{t}/adapters/bot-{n}" for t in ("acme", "globex", "initech") for n in (1, 2)]
    of_base = f'warm = true AND base_model = "{BASE}"'
    auditor = await make_key(world.admin, "acme", "sees-all", grants((AUDIT, "*")))
    for client in (world.admin, world.inference, world.client(auditor)):
        for page_size in (0, 1, 4):
            assert await names(client, of_base, page_size=page_size) == want
    assert await names(world.admin, f"elsewhere AND {of_base}") == []
    assert len(await names(world.admin, "")) == 12
    for client in (world.acme, world.publisher, world.stranger):
        with pytest.raises(PermissionDeniedError):
            await names(client)
    some = await make_key(world.admin, "acme", "some", grants((ACT_AS, "tenants/acme")))
    with pytest.raises(PermissionDeniedError):
        await names(world.client(some))


async def test_a_token_is_worth_nothing_for_another_listing(world: World) -> None:
    for number in range(3):
        await create(world.admin, "acme", f"bot-{number}", "stable")
    warm = pb.ListAdaptersRequest(parent="tenants/-", filter="warm = true", page_size=1)
    token = (await world.admin("ListAdapters", warm)).next_page_token
    for parent, filter in (("tenants/-", ""), ("tenants/acme", "warm = true")):
        request = pb.ListAdaptersRequest(parent=parent, filter=filter, page_token=token)
        refused = await failure(world.admin, "ListAdapters", request)
        assert refused.reason == "INVALID_PAGE_TOKEN"


async def test_deleted_adapters_are_not_warm_and_purged_ones_leave_nothing(world: World) -> None:
    await create(world.publisher, "acme", "bot", "stable")
    await world.publisher("DeleteAdapter", pb.DeleteAdapterRequest(name=BOT))
    assert await names(world.inference) == []
    await world.publisher("UndeleteAdapter", pb.UndeleteAdapterRequest(name=BOT))
    assert await names(world.inference) == [BOT]
    await world.publisher("DeleteAdapter", pb.DeleteAdapterRequest(name=BOT))
    await world.publisher("PurgeAdapter", pb.PurgeAdapterRequest(name=BOT))
    assert list((await create(world.publisher, "acme", "bot")).warm_aliases) == []
