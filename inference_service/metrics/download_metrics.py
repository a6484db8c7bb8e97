"""Reads of adapter files: their bytes, their time, how they ended."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from prometheus_client import CollectorRegistry, Counter, Histogram

from inference_service.adapters.download import ArtifactReader
from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class DownloadMetrics:
    """A file that is read on from where it broke off is one read more."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "lorikeet_adapter_download_seconds",
            "Reads of adapter files, from the registry or S3: ok, or the reason of their error.",
            ("outcome",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._bytes = Counter(
            "lorikeet_adapter_download_bytes", "Bytes of adapter files read.", registry=registry
        )

    def ended(self, outcome: str, seconds: float) -> None:
        self._seconds.labels(outcome).observe(seconds)

    def got(self, num_bytes: int) -> None:
        self._bytes.inc(num_bytes)


class ObservedReader:
    """Another reader, measured."""

    def __init__(self, reader: ArtifactReader, metrics: DownloadMetrics) -> None:
        self._reader, self._metrics = reader, metrics

    async def read_artifact(
        self, version_name: str, file_name: str, *, offset: int, tenant: str
    ) -> AsyncGenerator[registry_pb2.ReadArtifactResponse, None]:
        began, outcome = time.perf_counter(), "ok"
        chunks = self._reader.read_artifact(version_name, file_name, offset=offset, tenant=tenant)
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    self._metrics.got(len(chunk.data))
                    yield chunk
        except LorikeetError as error:
            outcome = error.reason
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "CANCELLED"
            raise
        finally:
            self._metrics.ended(outcome, time.perf_counter() - began)
