"""What the registry's tables promise on PostgreSQL, also where its locale sorts as people do."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from alembic import command
from grpc import aio
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from registry_service.bootstrap import migration_config
from registry_service.config import load_settings
from registry_service.repository.engine import make_engine
from registry_service.service import RegistryService
from tests.registry.support import BASE, Client, make_base_model, make_tenant
from tests.registry.test_requests import pages
from tests.servers.guard import Guard
from tests.servers.postgresql import PostgresServer, debian_15, start_postgres, wheel_18

# The servers are ended by their guard, not by who started them.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

NUM_RACERS = 64
IDS = ["a-b", "a.c", "a0", "a_d", "ab", "ab-", "abc", "b"]  # as bytes sort


@pytest.fixture(scope="module", params=[debian_15, wheel_18], ids=["15", "18"])
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    with Guard() as guard:
        server = start_postgres(request.param(), guard)
        yield server
        server.process.stop()


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    # The wheel of 18 is built without ICU.
    locale = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'" if server.version == 15 else ""
    statement = f"CREATE DATABASE worldly TEMPLATE template0 ENCODING 'UTF8' {locale} LOCALE 'C'"
    with server.connect() as connection:
        connection.execute(statement.encode())
    yield server.url("worldly")
    server.drop_database("worldly")


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = make_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
async def admins(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[Client]]:
    """The administrator, at each of two registries on one database."""
    monkeypatch.setenv("LORIKEET_REGISTRY_DATABASE_URL", url)
    services = [
        RegistryService(
            load_settings(["--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / name)])
        )
        for name in ("one", "two")
    ]
    addresses = [await service.start() for service in services]
    key = json.loads((tmp_path / "one" / "credentials.json").read_text())["admin"]
    async with aio.insecure_channel(addresses[0]) as one, aio.insecure_channel(addresses[1]) as two:
        clients = [Client(one, key), Client(two, key)]
        await make_base_model(clients[0])
        await make_tenant(clients[1], "acme")
        yield clients
    for service in services:
        await service.stop()


def create(adapter_id: str, request_id: str = "") -> pb.CreateAdapterRequest:
    return pb.CreateAdapterRequest(
        parent="tenants/acme",
        adapter_id=adapter_id,
        adapter=pb.Adapter(base_model=BASE),
        request_id=request_id,
    )


def test_migrations_go_up_and_down(engine: Engine) -> None:
    config = migration_config()
    for revision in ("head", "base", "head"):
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            if revision == "base":
                command.downgrade(config, revision)
            else:
                command.upgrade(config, revision)
                command.check(config)


async def test_a_page_walk_sees_each_row_once_in_byte_order(admins: list[Client]) -> None:
    for adapter_id in reversed(IDS):
        await admins[0]("CreateAdapter", create(adapter_id))
    request = pb.ListAdaptersRequest(parent="tenants/acme", page_size=1)
    got = await pages(admins[1], "ListAdapters", request, "adapters")
    assert [adapter.name.rpartition("/")[2] for page in got for adapter in page] == IDS
    request = pb.ListAdaptersRequest(parent="tenants/acme", page_size=2, filter="ab")
    got = await pages(admins[1], "ListAdapters", request, "adapters")
    assert [adapter.name.rpartition("/")[2] for page in got for adapter in page] == IDS[4:7]


async def test_racers_at_two_registries_never_pass_a_quota(admins: list[Client]) -> None:
    tenant = pb.Tenant(name="tenants/acme", quota=pb.TenantQuota(max_adapters=5))
    await admins[0]("UpdateTenant", pb.UpdateTenantRequest(tenant=tenant))
    calls = [admins[n % 2]("CreateAdapter", create(f"bot-{n}")) for n in range(NUM_RACERS)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    reasons = [r.reason for r in results if isinstance(r, LorikeetError)]
    assert reasons == ["QUOTA_EXCEEDED"] * (NUM_RACERS - 5)
    found = await admins[1]("GetTenant", pb.GetTenantRequest(name="tenants/acme"))
    assert found.usage.adapters == 5


async def test_duplicates_at_two_registries_make_one_adapter(admins: list[Client]) -> None:
    request = create("bot", request_id="once")
    answers = await asyncio.gather(
        *(admins[n % 2]("CreateAdapter", request) for n in range(NUM_RACERS))
    )
    assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1
    events = pb.ListAuditEventsRequest(action="adapters.create")
    assert len((await admins[0]("ListAuditEvents", events)).events) == 1


async def test_the_database_itself_refuses(admins: list[Client], engine: Engine) -> None:
    for statement, words in (
        ("UPDATE audit_events SET outcome = 'ok'", "only ever added"),
        ("DELETE FROM audit_events", "only ever added"),
        ("TRUNCATE audit_events", "only ever added"),
        ("UPDATE tenants SET max_bytes = -1", "ck_tenants_quota"),
        ("INSERT INTO blobs VALUES ('p', 'acme', 1, 'lost', now())", "ck_blobs_state"),
        ("UPDATE adapters SET num_versions = -1", "ck_adapters_counters"),
    ):
        if "adapters" in statement:
            await admins[0]("CreateAdapter", create("bot"))
        with engine.connect() as connection, pytest.raises(DBAPIError, match=words):
            connection.execute(text(statement))


async def test_audit_by_prefix_is_served_by_its_index(admins: list[Client], engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO audit_events (time, principal, action, resource, outcome, detail)"
                " SELECT now(), 'p', 'a', 'tenants/t' || i % 1000 || '/x', 'ok', '{}'"
                " FROM generate_series(1, 50000) AS i"
            )
        )
        connection.execute(text("ANALYZE audit_events"))
        plan = connection.execute(
            text(
                "EXPLAIN SELECT * FROM audit_events WHERE resource >= 'tenants/t7/'"
                " AND resource < 'tenants/t70' ORDER BY id DESC LIMIT 100"
            )
        )
        assert "ix_audit_events_resource_id" in str(plan.all())
    asked = pb.ListAuditEventsRequest(resource_prefix="tenants/t7/")
    events = (await admins[0]("ListAuditEvents", asked)).events
    assert {event.resource for event in events} == {"tenants/t7/x"}
    assert len(events) == 50
