"""Inference reads artifacts straight from S3: resumed, verified, and never past an outage."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from grpc import aio

from inference_service.adapters.artifact import Artifact
from inference_service.adapters.download import ArtifactReader
from inference_service.adapters.registry_client import RegistryClient
from inference_service.adapters.s3_reader import S3Reader, artifact_reader
from inference_service.adapters.store import AdapterStore
from lorikeet.rpc.errors import FailedPreconditionError, UnavailableError
from tests.backends import EMBEDDED, POSTGRES_15, POSTGRES_18, Backends
from tests.integration.conftest import MakeRegistry
from tests.registry.support import (
    CONFIG,
    WEIGHTS,
    Client,
    make_adapter,
    make_base_model,
    make_registered,
    publish,
)

FILES = make_adapter(rank=64).files()
TENANT = "platform"
URL_SECONDS = 2


@dataclass
class Signer:
    """The registry, which signs URLs; `delays` are seconds that pass before each is used."""

    registry: RegistryClient
    delays: list[float] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)

    async def download_url(self, version_name: str, file_name: str, *, tenant: str) -> str:
        self.asked_for.append(file_name)
        url = await self.registry.download_url(version_name, file_name, tenant=tenant)
        await asyncio.sleep(self.delays.pop(0) if self.delays else 0)
        return url


@dataclass
class Bench:
    registry: RegistryClient
    artifact: Artifact
    root: Path

    async def open(self, reader: ArtifactReader) -> AdapterStore:
        store = AdapterStore(self.root / "adapters", reader, max_bytes=1 << 30)
        await store.open()
        return store


@pytest.fixture
async def bench(make_registry: MakeRegistry, tmp_path: Path) -> AsyncIterator[Bench]:
    made = make_registry(f"--download-url-seconds={URL_SECONDS}")
    address = await asyncio.to_thread(made.start)
    async with aio.insecure_channel(address) as channel:
        admin = Client(channel, made.admin_key)
        await make_base_model(admin)
        adapter = await make_registered(admin, TENANT, "bot")
        version = await publish(admin, adapter, FILES)
    registry = RegistryClient(address, made.admin_key, deadline=5.0)
    yield Bench(registry, Artifact.from_version(version), tmp_path)
    await registry.close()


async def read(store: AdapterStore, bench: Bench) -> dict[str, bytes]:
    async with store.lease(bench.artifact, TENANT) as path:
        return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("backend", [POSTGRES_15, POSTGRES_18], indirect=True)
async def test_bytes_come_from_s3_over_plain_and_private_connections(
    bench: Bench, backends: Backends
) -> None:
    signer = Signer(bench.registry)
    store = await bench.open(S3Reader(signer, backends.servers.s3.authority))
    assert await read(store, bench) == FILES
    assert sorted(signer.asked_for) == sorted([CONFIG, WEIGHTS])
    await store.close()


@pytest.mark.parametrize("backend", [POSTGRES_18], indirect=True)
async def test_a_server_nobody_vouches_for_is_not_read(bench: Bench) -> None:
    store = await bench.open(S3Reader(Signer(bench.registry)))
    with pytest.raises(UnavailableError) as refused:
        await read(store, bench)
    assert refused.value.reason == "ARTIFACT_STORE_UNAVAILABLE"
    await store.close()


@pytest.mark.parametrize("backend", [POSTGRES_15], indirect=True)
async def test_an_expired_url_is_replaced(bench: Bench) -> None:
    signer = Signer(bench.registry, delays=[URL_SECONDS + 1.5])
    store = await bench.open(S3Reader(signer))
    assert await read(store, bench) == FILES
    assert len(signer.asked_for) == len(FILES) + 1
    await store.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("backend", [POSTGRES_15], indirect=True)
async def test_a_download_goes_on_after_s3_was_away(bench: Bench, backends: Backends) -> None:
    """S3 is killed when the first file is there, and comes back after the download was given up."""
    signer, s3 = Signer(bench.registry), backends.servers.s3
    store = await bench.open(S3Reader(signer))
    first = bench.artifact.files[0]
    killed: list[int] = []

    def kill(done: int, _: int) -> None:
        if done == first.size_bytes and not killed:
            s3.process.kill()
            killed.append(done)

    with pytest.raises(UnavailableError) as away:
        async with store.lease(bench.artifact, TENANT, kill):
            pass
    assert away.value.retry_after
    await asyncio.to_thread(s3.start)
    signer.asked_for.clear()
    assert await read(store, bench) == FILES
    assert signer.asked_for == [file.file_name for file in bench.artifact.files[1:]]
    await store.close()


@pytest.mark.parametrize("backend", [EMBEDDED], indirect=True)
async def test_without_s3_the_stream_is_read_only_where_that_was_asked_for(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    strict = await bench.open(artifact_reader("s3", bench.registry, None))
    with pytest.raises(FailedPreconditionError) as refused:
        await read(strict, bench)
    assert "--artifact-source" in refused.value.message
    await strict.close()
    auto = await bench.open(artifact_reader("auto", bench.registry, None))
    with caplog.at_level(logging.WARNING):
        assert await read(auto, bench) == FILES
    assert len([record for record in caplog.records if "stream" in record.message]) == 1
    await auto.close()
