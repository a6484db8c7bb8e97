"""What the registry counts of its calls, its database and its store, and what it logs."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lorikeet.rpc.logs import JsonFormatter
from lorikeet.rpc.server import InsecureBindError
from protos import registry_pb2 as pb
from registry_service.config import Settings, load_settings
from registry_service.service import RegistryService
from tests.certificates import Authority
from tests.registry.conftest import Registry, World
from tests.registry.support import failure, make_adapter, make_registered, publish
from tests.scrapes import Samples, get, scrape_of, value


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    arguments = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    return load_settings([*arguments, "--data-dir", str(tmp_path / "data")])


def scrape(registry: Registry) -> Samples:
    assert registry.service.metrics_address is not None
    return scrape_of(registry.service.metrics_address)


async def test_calls_are_counted_by_method_and_end(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "bot")
    await publish(world.publisher, adapter, make_adapter().files())
    for _ in range(3):
        await failure(world.stranger, "GetAdapter", pb.GetAdapterRequest(name=adapter))
    await failure(world.client("wrong"), "GetAdapter", pb.GetAdapterRequest(name=adapter))
    samples = scrape(world.registry)
    method = "AdapterRegistry/GetAdapter"
    count = "lorikeet_rpc_seconds_count"
    assert value(samples, count, method=method, code="PERMISSION_DENIED") == 3
    assert value(samples, count, method=method, code="UNAUTHENTICATED") == 1
    assert value(samples, count, method="ArtifactService/CommitUpload", code="OK") == 1
    failures = "lorikeet_rpc_failures_total"
    assert value(samples, failures, method=method, reason="PERMISSION_DENIED") == 3
    assert value(samples, failures, method=method, reason="CREDENTIAL_INVALID") == 1
    transactions = "lorikeet_database_transaction_seconds_count"
    assert value(samples, transactions, kind="write", end="commit") > 3
    async with asyncio.timeout(10):  # the feed's reader borrows one now and then
        while value(samples, "lorikeet_database_connections_in_use") != 0:
            await asyncio.sleep(0.05)
            samples |= scrape(world.registry)
    await world.registry.service.sample_usage()
    samples |= scrape(world.registry)
    assert value(samples, "lorikeet_tenant_bytes", tenant="acme") > 1000
    assert ("lorikeet_uploads_open", frozenset()) in samples
    stored = "lorikeet_object_store_seconds_count"
    assert value(samples, stored, operation="put", outcome="ok") >= 2
    assert value(samples, "lorikeet_object_store_bytes_total", operation="put") > 1000
    assert not any(number for (name, _), number in samples.items() if name.endswith("in_flight"))


async def test_resolutions_come_from_memory_and_the_feed_is_followed(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "bot")
    await publish(world.publisher, adapter, make_adapter().files())
    request = pb.ResolveAdapterRequest(tenant="tenants/acme", name=adapter)
    answers = [await world.acme("ResolveAdapter", request) for _ in range(4)]
    samples = scrape(world.registry)
    assert value(samples, "lorikeet_resolutions_total", cache="miss") == 1
    assert value(samples, "lorikeet_resolutions_total", cache="hit") == 3
    assert value(samples, "lorikeet_feed_revision") == answers[-1].revision
    assert value(samples, "lorikeet_feed_delay_seconds_count") >= answers[-1].revision


async def test_a_stream_is_in_flight_until_it_ends(world: World) -> None:
    watching = world.inference.stream("WatchAdapters", pb.WatchAdaptersRequest())
    await anext(watching)
    method = "AdapterRegistry/WatchAdapters"
    assert value(scrape(world.registry), "lorikeet_rpc_in_flight", method=method) == 1


async def test_one_line_for_what_was_written_or_failed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lorikeet.calls"):
        adapter = await make_registered(world.publisher, "acme", "bot")
        await world.publisher("GetAdapter", pb.GetAdapterRequest(name=adapter))
        await failure(world.stranger, "GetAdapter", pb.GetAdapterRequest(name=adapter))
    records = [record for record in caplog.records if record.name == "lorikeet.calls"]
    lines = [json.loads(JsonFormatter().format(record)) for record in records]
    assert [(line["method"], line["code"]) for line in lines] == [
        ("AdapterRegistry/CreateAdapter", "OK"),
        ("AdapterRegistry/GetAdapter", "PERMISSION_DENIED"),
    ]
    assert [line["tenant"] for line in lines] == ["acme", "initech"]
    assert lines[0]["principal"] == "tenants/acme/principals/user1"
    assert lines[1]["reason"] == "PERMISSION_DENIED"
    assert all(line["request_id"] and line["duration_ms"] > 0 for line in lines)


@pytest.fixture
async def with_tls(tmp_path: Path) -> AsyncIterator[tuple[RegistryService, Path]]:
    authority = Authority(tmp_path)
    pair = authority.server()
    arguments = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    arguments += ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
    service = RegistryService(load_settings([*arguments, "--data-dir", str(tmp_path / "data")]))
    await service.start()
    yield service, authority.cert
    await service.stop()


async def test_metrics_speak_tls_where_the_service_does(
    with_tls: tuple[RegistryService, Path],
) -> None:
    service, authority = with_tls
    context = ssl.create_default_context(cafile=str(authority))
    assert "lorikeet_build_info" in get(f"https://{service.metrics_address}/metrics", context)


async def test_metrics_name_tenants_so_they_are_not_for_everybody(tmp_path: Path) -> None:
    arguments = ["--listen", "127.0.0.1:0", "--metrics-listen", "0.0.0.0:0"]
    service = RegistryService(load_settings([*arguments, "--data-dir", str(tmp_path / "data")]))
    with pytest.raises(InsecureBindError, match="refusing to listen on"):
        await service.start()
    await service.stop()
