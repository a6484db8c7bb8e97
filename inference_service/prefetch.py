"""Brings several adapters closer at once, telling how far each one is."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from inference_service.adapter_loads import AdapterLoads
from inference_service.adapters.artifact import ResolvedAdapter
from inference_service.runtime_messages import TIERS, failure_message
from lorikeet.rpc.errors import LorikeetError
from protos import inference_pb2

_MAX_AT_ONCE: Final = 8


@dataclass(frozen=True)
class PrefetchItem:
    """An adapter as it was asked for, and how to find out which that is."""

    asked_for: str
    resolve: Callable[[], Awaitable[ResolvedAdapter]]


@dataclass
class _Progress:
    """How far one item is; each change is news."""

    asked_for: str
    news: asyncio.Queue[inference_pb2.PrefetchProgress]
    tier: inference_pb2.Tier = inference_pb2.TIER_UNSPECIFIED
    done_bytes: int = 0
    adapter: ResolvedAdapter | None = None

    def found(self, adapter: ResolvedAdapter) -> None:
        self.adapter, self.tier = adapter, inference_pb2.TIER_REMOTE
        self._tell()

    def downloaded(self, done_bytes: int, _: int) -> None:
        self.done_bytes = done_bytes
        self._tell()

    def reached(self, tier: inference_pb2.Tier, *, done: bool) -> None:
        assert self.adapter is not None
        self.tier, self.done_bytes = tier, self.adapter.artifact.size_bytes
        self._tell(done=done)

    def failed(self, error: LorikeetError) -> None:
        self._tell(done=True, failure=failure_message(error))

    def _tell(self, **fields: Any) -> None:
        artifact = self.adapter.artifact if self.adapter else None
        self.news.put_nowait(
            inference_pb2.PrefetchProgress(
                adapter=self.asked_for,
                adapter_version=artifact.version_name if artifact else "",
                digest=artifact.digest if artifact else "",
                bytes_done=self.done_bytes,
                bytes_total=artifact.size_bytes if artifact else 0,
                tier=self.tier,
                **fields,
            )
        )


class Prefetcher:
    """Runs prefetches; downloads are shared with requests that need the same adapter."""

    def __init__(self, loads: AdapterLoads) -> None:
        self._loads = loads

    async def run(
        self, items: Sequence[PrefetchItem], *, to_device: bool
    ) -> AsyncGenerator[inference_pb2.PrefetchProgress, None]:
        """Progress of all items, mixed; each ends with one that is `done`.

        Raises, after that, the error of the first that failed. Ended early, it stops what it
        started, but not downloads that others wait for.
        """
        news: asyncio.Queue[inference_pb2.PrefetchProgress] = asyncio.Queue()
        errors: list[LorikeetError] = []
        slots = asyncio.Semaphore(_MAX_AT_ONCE)

        async def bring(item: PrefetchItem) -> None:
            progress = _Progress(item.asked_for, news)
            async with slots:
                try:
                    await self._bring(item, progress, to_device=to_device)
                except LorikeetError as error:
                    errors.append(error)
                    progress.failed(error)

        work = asyncio.gather(*(bring(item) for item in items))
        try:
            num_done = 0
            while num_done < len(items):
                progress = await _next_or_failure(news, work)
                num_done += progress.done
                yield progress
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        if errors:
            raise errors[0]

    async def _bring(self, item: PrefetchItem, progress: _Progress, *, to_device: bool) -> None:
        adapter = await item.resolve()
        progress.found(adapter)
        async with self._loads.on_disk(adapter, progress.downloaded) as path:
            progress.reached(inference_pb2.TIER_DISK, done=not to_device)
            if to_device:
                residency = await self._loads.load(adapter, path)
                progress.reached(TIERS[residency.tier], done=True)


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
