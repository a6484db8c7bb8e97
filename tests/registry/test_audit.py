"""The audit trail: what is in it, who may read what of it, and that it only ever grows."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from protos import registry_pb2 as pb
from registry_service.access import split_api_key
from registry_service.config import Settings
from registry_service.models import AuditRow
from registry_service.repository import journal
from registry_service.repository.audit import begins_with
from registry_service.repository.engine import make_engine
from tests.registry.conftest import World
from tests.registry.support import (
    DENIED,
    failure,
    fields,
    grants,
    make_adapter,
    make_key,
    make_registered,
    make_tenant,
    publish,
)
from tests.registry.test_requests import pages

BOT = "tenants/acme/adapters/bot"


@pytest.fixture
def connection(world: World, settings: Settings) -> Iterator[Connection]:
    """To the database of a registry that runs."""
    engine = make_engine(settings.resolved_database_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def sqlite(connection: Connection) -> Connection:
    if connection.dialect.name != "sqlite":
        pytest.skip("tests/integration/test_postgres_schema.py asks PostgreSQL the same")
    return connection


@pytest.fixture
async def lived(world: World) -> World:
    """An adapter of acme that was changed, shared and asked for by a stranger."""
    await make_registered(world.publisher, "acme", "bot")
    await publish(world.publisher, BOT, make_adapter().files(), ["stable"])
    adapter = pb.Adapter(name=BOT, description="x" * 2000, labels={"team": "a"})
    await world.publisher("UpdateAdapter", pb.UpdateAdapterRequest(adapter=adapter))
    policy = pb.AccessPolicy(adapter=BOT, allowed_tenants=["tenants/globex"])
    await world.publisher("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy))
    resolve = pb.ResolveAdapterRequest(tenant="tenants/initech", name=BOT)
    await failure(world.stranger, "ResolveAdapter", resolve)
    return world


async def listed(client: Any, **wanted: Any) -> list[pb.AuditEvent]:
    response = await client("ListAuditEvents", pb.ListAuditEventsRequest(**wanted))
    return list(response.events)


async def test_a_change_says_what_was_and_what_became(lived: World) -> None:
    (event,) = await listed(lived.admin, action="adapters.update")
    before, after = MessageToDict(event.before), MessageToDict(event.after)
    assert set(before) == set(after) == {"description", "labels"}, "only what changed"
    assert (before["description"], before["labels"]) == ("", {})
    assert after["labels"] == {"team": "a"}
    assert "2000 characters, sha256" in after["description"], "long texts are shortened"
    assert event.principal == "tenants/acme/principals/user1"
    assert event.request_id
    assert event.peer.startswith("ipv4:127.0.0.1")
    (created,) = await listed(lived.admin, action="adapters.create")
    assert not created.before.fields
    assert created.after["base_model"] == "baseModels/tiny"


async def test_every_filter_narrows_and_all_must_match(lived: World) -> None:
    everything = await listed(lived.admin)
    assert [event.id for event in everything] == sorted((e.id for e in everything), reverse=True)
    denied = await listed(lived.admin, outcome="denied")
    assert [(e.action, e.principal) for e in denied] == [
        ("adapters.use", "tenants/initech/principals/user0")
    ]
    assert await listed(lived.admin, request_id=denied[0].request_id) == denied
    assert await listed(lived.admin, principal="tenants/initech/principals/user0") == denied
    assert all(e.principal == "system" for e in await listed(lived.admin, principal="system"))
    adapters = await listed(lived.admin, action="adapters.*", outcome="ok")
    assert {e.action for e in adapters} == {
        "adapters.create",
        "adapters.update",
        "adapters.setAccessPolicy",
    }
    assert {e.resource for e in await listed(lived.admin, resource_prefix=BOT)} >= {BOT}
    assert await listed(lived.admin, resource_prefix="TENANTS/acme") == []
    middle = everything[len(everything) // 2].time
    older = await listed(lived.admin, end_time=middle)
    newer = await listed(lived.admin, start_time=middle)
    assert newer + older == everything
    assert older
    assert await listed(lived.admin, resource_prefix=BOT, principal="system") == []


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"action": "*.create"}, "action"),
        ({"action": "adapters*"}, "action"),
        ({"outcome": "maybe"}, "outcome"),
        ({"principal": "acme/user"}, "principal"),
        ({"resource_prefix": "x" * 600}, "resource_prefix"),
        ({"start_time": Timestamp(seconds=10**15)}, "start_time"),
    ],
)
async def test_filters_that_mean_nothing_are_refused(
    world: World, wanted: dict[str, Any], named: str
) -> None:
    error = await failure(world.admin, "ListAuditEvents", pb.ListAuditEventsRequest(**wanted))
    assert fields(error) == [named]


async def test_pages_are_bound_to_their_filter(lived: World) -> None:
    request = pb.ListAuditEventsRequest(page_size=2, action="adapters.*")
    got = await pages(lived.admin, "ListAuditEvents", request, "events")
    ids = [event.id for page in got for event in page]
    assert len(ids) == len(set(ids)) == 4
    request = pb.ListAuditEventsRequest(page_size=1)
    token = (await lived.admin("ListAuditEvents", request)).next_page_token
    other = pb.ListAuditEventsRequest(page_token=token, outcome="ok")
    assert (await failure(lived.admin, "ListAuditEvents", other)).reason == "INVALID_PAGE_TOKEN"


async def test_auditors_see_their_scope_and_nothing_else(lived: World) -> None:
    await make_tenant(lived.admin, "acme2")
    scope = grants((pb.PERMISSION_AUDIT, "tenants/acme"))
    auditor = lived.client(await make_key(lived.admin, "globex", "auditor", scope))
    seen = await listed(auditor)
    assert any(event.outcome == "denied" for event in seen)
    assert all(
        f"{event.resource}/".startswith("tenants/acme/")
        or event.principal.startswith("tenants/acme/")
        for event in seen
    )
    assert {e.id for e in seen} < {e.id for e in await listed(lived.admin)}
    for client in (lived.publisher, lived.inference, lived.stranger):
        assert (await failure(client, "ListAuditEvents", pb.ListAuditEventsRequest())).code == (
            DENIED
        )
    request = pb.ListAuditEventsRequest(page_size=1)
    token = (await lived.admin("ListAuditEvents", request)).next_page_token
    foreign = pb.ListAuditEventsRequest(page_size=1, page_token=token)
    assert (await failure(auditor, "ListAuditEvents", foreign)).reason == "INVALID_PAGE_TOKEN"


async def test_no_secret_is_ever_stored(lived: World, connection: Connection) -> None:
    secret = await make_key(lived.admin, "acme", "fresh", [])
    keys = [secret, *lived.registry.credentials.values()]
    stored = "".join(
        str(row)
        for table in inspect(connection).get_table_names()
        for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"').all()
    )
    assert "apiKeys.create" in stored
    for key in keys:
        _, secret = split_api_key(key) or ("", "")
        assert len(secret) > 40
        assert secret not in stored


async def test_events_are_only_ever_added(lived: World, sqlite: Connection) -> None:
    row = "1, '2026-01-01', 'p', 'a', 'r', 'ok', '{}', '', '', '{}', '{}'"
    for statement in (
        "UPDATE audit_events SET outcome = 'ok'",
        "DELETE FROM audit_events",
        f"INSERT OR REPLACE INTO audit_events VALUES ({row})",
    ):
        with pytest.raises(IntegrityError, match="only ever added"):
            sqlite.execute(text(statement))
        sqlite.rollback()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE versions SET rank = 0",
        "UPDATE versions SET size_bytes = -1",
        "UPDATE versions SET purge_time = create_time",
        "UPDATE tenants SET max_bytes = -1",
        "UPDATE adapters SET num_versions = -1",
        "INSERT INTO blobs VALUES ('p', 'acme', 1, 'lost', '2026-01-01')",
        "INSERT INTO blobs VALUES ('p', 'acme', -1, 'stored', '2026-01-01')",
    ],
)
async def test_the_database_refuses_what_cannot_be(
    lived: World, sqlite: Connection, statement: str
) -> None:
    with pytest.raises(IntegrityError, match="CHECK failed"):
        sqlite.execute(text(statement))
    sqlite.rollback()


async def test_a_trail_of_many_events_is_searched_by_index(
    lived: World, sqlite: Connection
) -> None:
    many = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
        " INSERT INTO audit_events (time, principal, action, resource, outcome, detail)"
        " SELECT '2026-01-01', 'p' || i % 100, 'a', 'tenants/t' || i % 1000, 'ok', '{}' FROM n"
    )
    sqlite.execute(text(many))
    sqlite.commit()
    condition = begins_with(AuditRow.resource, "tenants/acme/")
    query = str(condition.compile(compile_kwargs={"literal_binds": True}))
    plan = sqlite.exec_driver_sql(f"EXPLAIN QUERY PLAN SELECT * FROM audit_events WHERE {query}")
    assert "ix_audit_events_resource_id" in str(plan.all())
    began = time.monotonic()
    for wanted in ({"resource_prefix": BOT}, {"action": "adapters.update"}, {"request_id": "x"}):
        await listed(lived.admin, **wanted)
    assert time.monotonic() - began < 2, "without an index each of them reads 100,000 rows"


@pytest.mark.parametrize(
    ("prefix", "inside", "outside"),
    [
        ("a", ["a", "a\uffff", "a\U0010ffff", "ab"], ["b", "A", ""]),
        ("a\ud7ff", ["a\ud7ff", "a\ud7ffz"], ["a\ue000"]),
        ("a\U0010ffff", ["a\U0010ffffz"], ["a", "b"]),
        ("50%_", ["50%_off"], ["50x1"]),
    ],
)
async def test_a_prefix_is_a_range(
    world: World, connection: Connection, prefix: str, inside: list[str], outside: list[str]
) -> None:
    condition = begins_with(AuditRow.resource, prefix)
    with Session(connection) as session:
        for resource in [*inside, *outside]:
            journal.record_denial(session, journal.Origin("test"), "a", resource)
        session.flush()
        query = select(AuditRow.resource).where(condition, AuditRow.principal == "test")
        found = session.scalars(query.order_by(AuditRow.id)).all()
    assert found == inside
