"""Reads the parts of the service for a scrape."""

import asyncio
from dataclasses import dataclass

from inference_service.adapters.registry_watch import RegistryWatch
from inference_service.adapters.store import AdapterStore
from inference_service.admission import Admission
from inference_service.engine.client import EngineClient, EngineDiedError
from inference_service.engine.self_report import EngineStats
from inference_service.known_adapters import KnownAdapters
from inference_service.metrics.sample import RequestSample, Sample
from inference_service.running_requests import RunningRequests
from inference_service.serving_health import ServingHealth
from inference_service.warm.warm_set import WarmSet


@dataclass(frozen=True)
class SampleReader:
    """Works in the event loop; waits only for the engine."""

    engine: EngineClient
    admission: Admission
    requests: RunningRequests
    store: AdapterStore
    known_adapters: KnownAdapters
    watch: RegistryWatch
    health: ServingHealth
    warm_set: WarmSet

    async def read(self) -> Sample:
        stats = await self._stats()
        disk_bytes = self.store.sizes()
        resident = {adapter.digest for adapter in stats.adapters} if stats else set()
        return Sample(
            info=self.engine.info,
            stats=stats,
            engine_ends=dict(self.engine.ends),
            is_serving=self.health.is_serving,
            watch_age_seconds=self.watch.seconds_since_contact,
            lease_seconds=self.watch.lease_left,
            num_warm=self.warm_set.num_members,
            num_warm_ready=self.warm_set.num_ready,
            num_waiting=self.admission.num_waiting,
            requests=[
                RequestSample(record.adapter_version, record.first_token is not None)
                for record in self.requests.admitted()
            ],
            disk_bytes=disk_bytes,
            version_names={
                digest: name
                for digest in disk_bytes.keys() | resident
                if (name := self.known_adapters.name_of(digest))
            },
            num_tokens=self.requests.clock.num_tokens,
            intervals=self.requests.clock.intervals,
            num_tasks=len(asyncio.all_tasks()),
        )

    async def _stats(self) -> EngineStats | None:
        try:
            return await self.engine.stats()
        except EngineDiedError:
            return None
