"""Resolutions from memory before anybody asked: what they say, and when they must not say it."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from lorikeet.rpc.names import TenantName, parse_adapter_selector
from protos import registry_pb2 as pb
from registry_service import catalog as catalog_module
from registry_service import catalog_reader
from registry_service.catalog import Catalog, Entry
from registry_service.config import Settings, load_settings
from registry_service.feed import ChangeFeed
from registry_service.models import AliasRow, AllowedTenantRow
from registry_service.operations.resolution import Asked, Facts
from registry_service.repository.journal import Change
from tests.registry.conftest import World
from tests.registry.support import DENIED, failure, make_adapter, make_registered, publish
from tests.scrapes import scrape_of, value

BOT = "tenants/acme/adapters/bot"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    arguments = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    return load_settings([*arguments, "--data-dir", str(tmp_path / "data")])


def figure(world: World, name: str, **labels: str) -> float:
    address = world.registry.service.metrics_address
    assert address is not None
    return value(scrape_of(address), name, **labels)


async def known(world: World, adapters: int = 1) -> None:
    """Until so many adapters are in memory."""
    for _ in range(500):
        if figure(world, "lorikeet_catalog_adapters") == adapters:
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def hits(world: World) -> float:
    return figure(world, "lorikeet_resolutions_total", cache="hit")


async def published(world: World, *allowed: str) -> None:
    await publish(world.publisher, await make_registered(world.publisher, "acme", "bot"), FILES)
    policy = pb.AccessPolicy(adapter=BOT, allowed_tenants=allowed)
    await world.publisher("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy))
    await known(world)


FILES = make_adapter().files()


def request(tenant: str, name: str = BOT) -> pb.ResolveAdapterRequest:
    return pb.ResolveAdapterRequest(tenant=f"tenants/{tenant}", name=name)


async def test_the_first_question_is_answered_from_memory_as_the_database_would(
    world: World,
) -> None:
    await published(world, "tenants/globex")
    for tenant in ("acme", "globex"):
        before = await hits(world)
        remembered = await world.inference("ResolveAdapter", request(tenant))
        assert await hits(world) == before + 1
        numbered = request(tenant, f"{BOT}/versions/1")  # always asked of the database
        asked = await world.inference("ResolveAdapter", numbered)
        assert (remembered.version, remembered.profile) == (asked.version, asked.profile)
        assert (remembered.alias, remembered.revision) == ("latest", asked.revision)
        assert await hits(world) == before + 1


async def test_refusals_are_never_answered_from_memory(world: World) -> None:
    await published(world)
    before = await hits(world)
    for name in (BOT, "tenants/acme/adapters/none"):
        refused = await failure(world.inference, "ResolveAdapter", request("globex", name))
        assert refused.code == DENIED
    await failure(world.inference, "ResolveAdapter", request("acme", f"{BOT}/aliases/none"))
    assert await hits(world) == before


async def test_a_deleted_adapter_leaves_and_an_undeleted_one_returns(world: World) -> None:
    await published(world, "*")
    assert await world.stranger("ResolveAdapter", request("initech"))
    await world.publisher("DeleteAdapter", pb.DeleteAdapterRequest(name=BOT))
    assert (await failure(world.stranger, "ResolveAdapter", request("initech"))).code == DENIED
    await known(world, 0)
    await world.publisher("UndeleteAdapter", pb.UndeleteAdapterRequest(name=BOT))
    await known(world)
    before = await hits(world)
    assert await world.stranger("ResolveAdapter", request("initech"))
    assert await hits(world) == before + 1


async def test_a_tenant_that_takes_a_deleted_ones_name_inherits_nothing(world: World) -> None:
    await published(world, "tenants/initech")
    assert await world.inference("ResolveAdapter", request("initech"))
    await world.admin("DeleteTenant", pb.DeleteTenantRequest(name="tenants/initech"))
    await world.admin("CreateTenant", pb.CreateTenantRequest(tenant_id="initech"))
    for _ in range(2):
        refused = await failure(world.inference, "ResolveAdapter", request("initech"))
        assert refused.code == DENIED
        await known(world)


@pytest.fixture
def _refreshed_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_reader, "_REFRESH_SECONDS", 0.2)


@pytest.mark.usefixtures("_refreshed_often")
async def test_what_was_changed_by_hand_is_found_by_reading_everything_again(
    world: World,
) -> None:
    await published(world, "tenants/globex")
    await publish(world.publisher, BOT, FILES)
    await known(world)
    with world.registry.database() as session:
        session.execute(delete(AllowedTenantRow))
        session.execute(update(AliasRow).values(version=1))
    for _ in range(200):
        if (await world.inference("ResolveAdapter", request("acme"))).version.version == 1:
            break
        await asyncio.sleep(0.05)
    else:
        raise TimeoutError
    assert (await failure(world.inference, "ResolveAdapter", request("globex"))).code == DENIED


async def test_a_very_long_allow_list_is_left_to_the_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_reader, "_MAX_ALLOWED", 1)
    await published(world, "tenants/globex")
    policy = pb.AccessPolicy(adapter=BOT, allowed_tenants=["tenants/globex", "tenants/initech"])
    await world.publisher("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy))
    await known(world, 0)
    assert await world.inference("ResolveAdapter", request("initech"))


# Below, the catalog alone, with a feed moved by hand.


def make_catalog() -> tuple[Catalog, ChangeFeed]:
    feed = ChangeFeed()
    catalog = Catalog(feed)
    feed.restart(7, time.monotonic())
    return catalog, feed


def entry(*, shared: bool = False, allowed: tuple[str, ...] = ()) -> Entry:
    content = pb.ResolveAdapterResponse(version=pb.AdapterVersion(version=1)).SerializeToString()
    return Entry(shared, frozenset(allowed), {"latest": content})


def facts(catalog: Catalog, tenant: str = "acme") -> Facts | None:
    return catalog.facts(Asked(TenantName(tenant), parse_adapter_selector(BOT)))


def change(resource: str, kind: str) -> Change:
    return Change(8, resource, kind, datetime.now(UTC))


@pytest.mark.parametrize(
    ("resource", "kind"), [(f"{BOT}/aliases/stable", "aliases.set"), (BOT, "adapters.delete")]
)
def test_a_read_that_began_before_a_change_is_not_believed(resource: str, kind: str) -> None:
    catalog, feed = make_catalog()
    catalog.begin()
    feed.committed([change(resource, kind)])
    catalog.put([BOT], {BOT: entry()})
    assert facts(catalog) is None
    assert catalog.stale(9) == [BOT]
    catalog.begin()
    catalog.put([BOT], {BOT: entry()})
    assert facts(catalog) is not None
    assert catalog.stale(9) == []


def test_a_read_that_began_before_a_tenant_went_is_not_believed() -> None:
    catalog, feed = make_catalog()
    catalog.begin()
    feed.committed([change("tenants/globex", "tenants.delete")])
    catalog.put([BOT], {BOT: entry(allowed=("globex",))})
    assert facts(catalog, "globex") is None
    catalog.begin()
    feed.committed([change("tenants/globex", "tenants.create")])
    catalog.put_tenants(frozenset({"acme"}))
    assert catalog.lacks_tenants


def test_star_is_for_tenants_that_are_known_to_exist() -> None:
    catalog, _ = make_catalog()
    catalog.begin()
    catalog.put([BOT], {BOT: entry(shared=True)})
    assert facts(catalog, "globex") is None
    catalog.put_tenants(frozenset({"acme", "globex"}))
    found = facts(catalog, "globex")
    assert found is not None
    assert (found.allowed, found.revision) == (frozenset({"*"}), 7)
    assert facts(catalog, "nowhere") is None


def test_out_of_touch_with_the_database_it_answers_nothing() -> None:
    catalog, feed = make_catalog()
    catalog.begin()
    catalog.put([BOT], {BOT: entry()})
    feed.advance([], float("-inf"))
    assert facts(catalog) is None


def test_no_more_than_so_many_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "MAX_ADAPTERS", 1)
    catalog, _ = make_catalog()
    catalog.begin()
    catalog.put([BOT, BOT + "2"], {BOT: entry(), BOT + "2": entry()})
    assert len(catalog) == 1
    catalog.put([BOT], {BOT: entry()})
    assert facts(catalog) is not None
