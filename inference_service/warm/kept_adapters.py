"""Adapters that stay loaded, and for whose sake: pinned by an administrator, or warm."""

import logging
from enum import Enum

from inference_service.adapter_loads import AdapterLoads
from inference_service.adapters.artifact import ResolvedAdapter
from inference_service.adapters.store import AdapterStore
from inference_service.engine.client import EngineClient, EngineRefusedError
from inference_service.engine.self_report import AdapterResidency
from inference_service.engine_errors import translated_engine_errors
from lorikeet.rpc.errors import FailedPreconditionError, LorikeetError

logger = logging.getLogger(__name__)


class KeptBy(Enum):
    """Why an adapter stays; the text is what to do before it can be unloaded."""

    PIN = "it is pinned: unpin it first"
    WARM = "the registry wants it kept loaded: take the alias off the adapter's warm_aliases first"


class KeptAdapters:
    """Their files stay on disk, and their pages in the engine, until nobody wants them kept.

    The engine keeps as many as leave room for its largest request. An engine that starts again
    knows nothing of it: pins are given to it once more by `pin_again`.
    """

    def __init__(self, loads: AdapterLoads, store: AdapterStore, engine: EngineClient) -> None:
        self._loads, self._store, self._engine = loads, store, engine
        self._kept: dict[str, dict[KeptBy, ResolvedAdapter]] = {}

    def is_kept(self, digest: str, kept_by: KeptBy) -> bool:
        return kept_by in self._kept.get(digest, {})

    def check_free(self, adapter: ResolvedAdapter) -> None:
        """FAILED_PRECONDITION ADAPTER_IN_USE for an adapter that is to stay."""
        for kept_by in self._kept.get(adapter.artifact.digest, {}):
            raise FailedPreconditionError(
                f"{adapter.artifact.version_name} stays loaded: {kept_by.value}",
                reason="ADAPTER_IN_USE",
                metadata={"version": adapter.artifact.version_name},
            )

    async def pin(self, adapter: ResolvedAdapter) -> AdapterResidency:
        """RESOURCE_EXHAUSTED OUT_OF_PAGES where the largest request would not fit beside it."""
        async with self._loads.in_engine(adapter):
            with translated_engine_errors():
                residency = await self._engine.pin_adapter(adapter.artifact.digest)
            self._note(adapter, KeptBy.PIN)
        return residency

    async def keep_warm(self, adapter: ResolvedAdapter) -> AdapterResidency:
        """As `pin`; where there is no room for a pin, as near to the engine as it fits."""
        async with self._loads.in_engine(adapter) as residency:
            self._note(adapter, KeptBy.WARM)
            try:
                with translated_engine_errors():
                    residency = await self._engine.pin_adapter(adapter.artifact.digest)
            except LorikeetError as error:
                if error.reason != "OUT_OF_PAGES":
                    raise
                logger.warning("no room to keep %s loaded", adapter.artifact.version_name)
        return residency

    async def let_go(self, digest: str, kept_by: KeptBy) -> AdapterResidency | None:
        """What it then is in the engine; None when it is not there. No error if it was not kept."""
        keepers = self._kept.get(digest, {})
        keepers.pop(kept_by, None)
        if not keepers:
            self._kept.pop(digest, None)
            self._store.set_kept(digest, False)
        call = self._engine.pin_adapter if keepers else self._engine.unpin_adapter
        with translated_engine_errors():
            try:
                return await call(digest)
            except EngineRefusedError as error:
                if error.reason != "ADAPTER_UNKNOWN":
                    raise
                return None

    async def pin_again(self) -> None:
        """Gives the pins of administrators to an engine that has started again."""
        pinned = [keepers[KeptBy.PIN] for keepers in self._kept.values() if KeptBy.PIN in keepers]
        for adapter in pinned:
            try:
                await self.pin(adapter)
            except LorikeetError as error:
                name = adapter.artifact.version_name
                logger.error("%s is no longer pinned: %s", name, error.message)
                await self.let_go(adapter.artifact.digest, KeptBy.PIN)

    def _note(self, adapter: ResolvedAdapter, kept_by: KeptBy) -> None:
        self._kept.setdefault(adapter.artifact.digest, {})[kept_by] = adapter
        self._store.set_kept(adapter.artifact.digest, True)
