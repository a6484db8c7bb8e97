"""GetDownloadUrl: bytes straight from S3, for those who may read them, and never unnoticed."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator

import pytest
from grpc import aio

from protos import registry_pb2 as pb
from tests.backends import EMBEDDED, POSTGRES_15
from tests.integration.conftest import MakeRegistry
from tests.registry.support import (
    DENIED,
    PUBLISH,
    USE,
    WEIGHTS,
    Client,
    failure,
    grants,
    make_adapter,
    make_base_model,
    make_key,
    make_registered,
    make_tenant,
    publish,
)

FILES = make_adapter().files()


@pytest.fixture
async def clients(make_registry: MakeRegistry) -> AsyncIterator[tuple[Client, Client, Client]]:
    """An administrator, a publisher of acme and a stranger."""
    registry = make_registry("--download-url-seconds=5")
    address = await asyncio.to_thread(registry.start)
    async with aio.insecure_channel(address) as channel:
        admin = Client(channel, registry.admin_key)
        await make_base_model(admin)
        for tenant in ("acme", "globex"):
            await make_tenant(admin, tenant)
        granted = grants((PUBLISH, "tenants/acme"), (USE, "tenants/acme"))
        publisher = Client(channel, await make_key(admin, "acme", "publisher", granted))
        stranger = await make_key(admin, "globex", "user", grants((USE, "tenants/globex")))
        yield admin, publisher, Client(channel, stranger)


async def publish_one(publisher: Client) -> pb.GetDownloadUrlRequest:
    adapter = await make_registered(publisher, "acme", "bot")
    version = await publish(publisher, adapter, FILES)
    return pb.GetDownloadUrlRequest(version=version.name, file_name=WEIGHTS)


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        data: bytes = response.read()
        return data


@pytest.mark.parametrize("backend", [POSTGRES_15], indirect=True)
async def test_a_url_reads_one_file_for_a_while(clients: tuple[Client, Client, Client]) -> None:
    admin, publisher, stranger = clients
    request = await publish_one(publisher)
    answer = await publisher("GetDownloadUrl", request)
    assert await asyncio.to_thread(fetch, answer.url) == FILES[WEIGHTS]
    assert (await failure(stranger, "GetDownloadUrl", request)).code == DENIED
    audit = pb.ListAuditEventsRequest(action="artifacts.download_url")
    (event,) = (await admin("ListAuditEvents", audit)).events
    assert event.principal == "tenants/acme/principals/publisher"
    assert event.resource == request.version
    assert answer.url not in str(event)
    await asyncio.sleep(6)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        await asyncio.to_thread(fetch, answer.url)


@pytest.mark.parametrize("backend", [EMBEDDED], indirect=True)
async def test_files_have_no_urls(clients: tuple[Client, Client, Client]) -> None:
    _, publisher, _ = clients
    request = await publish_one(publisher)
    assert (await failure(publisher, "GetDownloadUrl", request)).reason == "NO_DOWNLOAD_URL"
