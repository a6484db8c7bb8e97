"""Everything that keeps adapters loaded beyond the requests that use them, put together."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final

from inference_service.adapter_loads import AdapterLoads
from inference_service.adapters.registry_client import RegistryClient
from inference_service.adapters.registry_watch import RegistryWatch
from inference_service.adapters.store import AdapterStore
from inference_service.config import Settings
from inference_service.engine.client import EngineClient
from inference_service.gate import Gate
from inference_service.known_adapters import KnownAdapters
from inference_service.serving_health import ServingHealth
from inference_service.warm.kept_adapters import KeptAdapters
from inference_service.warm.recent_adapters import RecentAdapters
from inference_service.warm.warm_list import WarmList
from inference_service.warm.warm_set import WarmSet
from inference_service.warm.warm_up import WarmUp

_LIST_SECONDS: Final = 2.0


class WarmAdapters:
    """Runs in the background from `start` to `stop`."""

    def __init__(
        self, kept: KeptAdapters, warm_set: WarmSet, warm_up: WarmUp, recent: RecentAdapters
    ) -> None:
        self.kept, self.set = kept, warm_set
        self._warm_up, self._recent = warm_up, recent
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self, watch: RegistryWatch) -> None:
        """Returns when it is known which adapters are to be warm, or will not be soon."""
        watch.tell(self.set.changed, self.set.reset)
        self._spawn(self.set.run())
        self._spawn(self._restore())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LIST_SECONDS):
                await self.set.listed.wait()
        if not self.set.settled.is_set():
            self._warm_up.begin()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._warm_up.stop()
        await self._recent.save()

    def engine_restarted(self) -> None:
        self.set.engine_restarted()
        self._warm_up.begin()
        self._spawn(self._load_recent_again())

    async def _restore(self) -> None:
        await self.set.settled.wait()
        await self._recent.load_saved()
        await self._recent.keep_saved()

    async def _load_recent_again(self) -> None:
        await self.set.settled.wait()
        await self._recent.load_again()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def make_warm_adapters(
    settings: Settings,
    registry: RegistryClient,
    gate: Gate,
    known_adapters: KnownAdapters,
    store: AdapterStore,
    engine: EngineClient,
    loads: AdapterLoads,
    health: ServingHealth,
) -> WarmAdapters:
    kept = KeptAdapters(loads, store, engine)
    warm_set = WarmSet(WarmList(registry, gate, settings.base_model), kept, known_adapters)
    recent = RecentAdapters(
        settings.data_dir / "recent-adapters.json",
        settings.max_restored_adapters,
        known_adapters,
        gate,
        store,
        loads,
    )
    warm_up = WarmUp(warm_set, health, settings.warm_up_timeout_seconds)
    return WarmAdapters(kept, warm_set, warm_up, recent)
