"""The one way of an adapter from the registry to the engine."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec import structs

from inference_service.adapters.artifact import Artifact, ResolvedAdapter
from inference_service.adapters.download import OnProgress
from inference_service.adapters.failures import AdapterFailures
from inference_service.adapters.store import AdapterStore
from inference_service.engine.client import EngineClient
from inference_service.engine.request import DeclaredFile
from inference_service.engine.self_report import AdapterResidency
from inference_service.engine_errors import translated_engine_errors
from lorikeet.rpc.errors import DataLossError

logger = logging.getLogger(__name__)


class AdapterLoads:
    """Registry → disk → engine. What failed for good fails at once for a while: see `failures`."""

    def __init__(self, store: AdapterStore, engine: EngineClient) -> None:
        self._store, self._engine = store, engine
        self.failures = AdapterFailures()

    @asynccontextmanager
    async def on_disk(
        self, adapter: ResolvedAdapter, on_progress: OnProgress | None = None
    ) -> AsyncIterator[Path]:
        """The adapter's directory, which stays while this lasts."""
        artifact = adapter.artifact
        self.failures.check(artifact.version_name)
        async with AsyncExitStack() as stack:
            lease = self._store.lease(artifact, adapter.tenant, on_progress)
            with self.failures.noted(artifact):
                path = await stack.enter_async_context(lease)
            yield path

    @asynccontextmanager
    async def in_engine(self, adapter: ResolvedAdapter) -> AsyncIterator[AdapterResidency]:
        """An adapter that the engine knows, and whose directory stays while this lasts.

        It was `found_on` "remote" when it was not even on disk.
        """
        is_on_disk = self._store.has(adapter.artifact.digest)
        async with self.on_disk(adapter) as path:
            residency = await self.load(adapter, path)
            yield residency if is_on_disk else structs.replace(residency, found_on="remote")

    @asynccontextmanager
    async def begun(
        self, adapter: ResolvedAdapter | None
    ) -> AsyncIterator[Awaitable[AdapterResidency] | None]:
        """As `in_engine`, but entered at once: what is yielded says when the adapter is there."""
        if adapter is None:
            yield None
            return
        async with AsyncExitStack() as stack:
            loading = asyncio.create_task(stack.enter_async_context(self.in_engine(adapter)))
            try:
                yield loading
            finally:
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)

    async def load(self, adapter: ResolvedAdapter, path: Path) -> AdapterResidency:
        """Brings an adapter from disk, where the caller keeps it, into the engine.

        A copy that the engine finds damaged is fetched once more; then DATA_LOSS
        ARTIFACT_CORRUPT.
        """
        with self.failures.noted(adapter.artifact):
            try:
                residency = await self._load(adapter.artifact, path)
            except DataLossError as error:
                version_name = adapter.artifact.version_name
                logger.error("the copy of %s is damaged: %s", version_name, error.message)
                await self._store.renew(adapter.artifact, adapter.tenant)
                residency = await self._load(adapter.artifact, path)
        self.failures.forget(adapter.artifact.version_name)
        return residency

    async def _load(self, artifact: Artifact, path: Path) -> AdapterResidency:
        files = {
            file.file_name: DeclaredFile(file.size_bytes, file.sha256) for file in artifact.files
        }
        with translated_engine_errors():
            return await self._engine.load_adapter(artifact.digest, path, files)
