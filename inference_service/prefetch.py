"""Brings several adapters closer at once, telling how far each one is."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from inference_service.adapters.artifact import ResolvedAdapter
from inference_service.adapters.store import AdapterStore
from inference_service.engine.client import EngineClient
from inference_service.engine_errors import translated_engine_errors
from protos import inference_pb2

_MAX_AT_ONCE: Final = 8


@dataclass(frozen=True)
class PrefetchItem:
    """An adapter as it was asked for, and what that resolved to."""

    asked_for: str
    adapter: ResolvedAdapter


class Prefetcher:
    """Runs prefetches; downloads are shared with requests that need the same adapter."""

    def __init__(self, store: AdapterStore, engine: EngineClient) -> None:
        self._store = store
        self._engine = engine

    async def run(
        self, items: Sequence[PrefetchItem], *, to_device: bool
    ) -> AsyncGenerator[inference_pb2.PrefetchProgress, None]:
        """Progress of all items, mixed; each ends with one that is `done`. Raises the first error.

        Ended early, it stops what it started, but not downloads that others wait for.
        """
        news: asyncio.Queue[inference_pb2.PrefetchProgress] = asyncio.Queue()
        slots = asyncio.Semaphore(_MAX_AT_ONCE)
        work = asyncio.gather(
            *(self._bring(item, news, slots, to_device=to_device) for item in items)
        )
        try:
            num_done = 0
            while num_done < len(items):
                progress = await _next_or_failure(news, work)
                num_done += progress.done
                yield progress
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _bring(
        self,
        item: PrefetchItem,
        news: asyncio.Queue[inference_pb2.PrefetchProgress],
        slots: asyncio.Semaphore,
        *,
        to_device: bool,
    ) -> None:
        artifact = item.adapter.artifact

        def report(done_bytes: int, *, tier: inference_pb2.Tier, done: bool = False) -> None:
            news.put_nowait(
                inference_pb2.PrefetchProgress(
                    adapter=item.asked_for,
                    adapter_version=artifact.version_name,
                    digest=artifact.digest,
                    bytes_done=done_bytes,
                    bytes_total=artifact.size_bytes,
                    tier=tier,
                    done=done,
                )
            )

        def downloaded(done_bytes: int, _: int) -> None:
            report(done_bytes, tier=inference_pb2.TIER_REMOTE)

        async with slots:
            downloaded(0, artifact.size_bytes)
            async with self._store.lease(artifact, item.adapter.tenant, downloaded) as path:
                report(artifact.size_bytes, tier=inference_pb2.TIER_DISK, done=not to_device)
                if to_device:
                    with translated_engine_errors():
                        await self._engine.load_adapter(artifact.digest, path)
                    report(artifact.size_bytes, tier=inference_pb2.TIER_DEVICE, done=True)


async def _next_or_failure(
    news: asyncio.Queue[inference_pb2.PrefetchProgress], work: asyncio.Future[Any]
) -> inference_pb2.PrefetchProgress:
    waiting = asyncio.ensure_future(news.get())
    try:
        await asyncio.wait((waiting, work), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            work.result()  # raises: had nothing failed, the last news would be there
        return await waiting
    finally:
        waiting.cancel()
