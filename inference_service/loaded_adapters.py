"""Which adapters are here, and which failed to come, for whoever may know."""

import asyncio
from collections.abc import Iterable
from typing import Final

from inference_service.adapter_loads import AdapterLoads
from inference_service.adapters.store import AdapterStore
from inference_service.engine.client import EngineClient
from inference_service.engine.self_report import AdapterResidency
from inference_service.engine_errors import translated_engine_errors
from inference_service.gate import Gate
from inference_service.known_adapters import KnownAdapters
from inference_service.runtime_messages import loaded_adapter
from inference_service.warm.kept_adapters import KeptBy
from inference_service.warm.warm_adapters import WarmAdapters
from protos import inference_pb2

_MAX_RESOLVES_AT_ONCE: Final = 16


class LoadedAdapters:
    """Reads the store, the engine and the failures; changes nothing."""

    def __init__(
        self,
        gate: Gate,
        known_adapters: KnownAdapters,
        store: AdapterStore,
        engine: EngineClient,
        loads: AdapterLoads,
        warm: WarmAdapters,
    ) -> None:
        self._gate, self._known_adapters = gate, known_adapters
        self._store, self._engine, self._loads = store, engine, loads
        self._warm = warm

    def one(
        self, version_name: str, digest: str, resident: AdapterResidency | None
    ) -> inference_pb2.LoadedAdapter:
        """An adapter, given what it is in the engine."""
        kept = self._warm.kept
        error = self._loads.failures.get(version_name) or self._warm.set.error(digest)
        return loaded_adapter(
            version_name,
            digest,
            self._store.size_of(digest),
            resident,
            is_pinned=kept.is_kept(digest, KeptBy.PIN),
            is_warm=kept.is_kept(digest, KeptBy.WARM),
            error=error,
        )

    async def list(self, tenant: str | None) -> list[inference_pb2.LoadedAdapter]:
        """In order of names; those that `tenant` may use now, or all for None."""
        with translated_engine_errors():
            stats = await self._engine.stats()
        resident = {adapter.digest: adapter for adapter in stats.adapters}
        here = self._store.sizes().keys() | resident.keys()
        names = self._all_names(here) if tenant is None else await self._usable_names(tenant, here)
        return [self.one(name, digest, resident.get(digest)) for name, digest in sorted(names)]

    def _all_names(self, here: Iterable[str]) -> set[tuple[str, str]]:
        """(version name, digest); what an earlier process left has a digest only."""
        found = {(self._known_adapters.name_of(digest), digest) for digest in here}
        return found | set(self._failed().items())

    def _failed(self) -> dict[str, str]:
        """Version name to digest of what is not here because the last try failed."""
        return self._loads.failures.digests() | self._warm.set.failed()

    async def _usable_names(self, tenant: str, here: set[str]) -> set[tuple[str, str]]:
        failed = self._failed()
        candidates = [
            (version_name, digest)
            for version_name, digest in self._known_adapters.of_tenant(tenant).items()
            if digest in here or version_name in failed
        ]
        slots = asyncio.Semaphore(_MAX_RESOLVES_AT_ONCE)

        async def may_use(version_name: str) -> bool:
            async with slots:
                return await self._gate.resolve_again(version_name, tenant) is not None

        allowed = await asyncio.gather(*(may_use(name) for name, _ in candidates))
        return {name for name, is_allowed in zip(candidates, allowed, strict=True) if is_allowed}
