"""Adapters in use before a restart are loaded again after it, while requests are served."""

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from inference_service.adapter_loads import AdapterLoads
from inference_service.adapters.store import AdapterStore
from inference_service.gate import Gate
from inference_service.known_adapters import KnownAdapters
from lorikeet.rpc.errors import LorikeetError

logger = logging.getLogger(__name__)

_SAVE_SECONDS: Final = 30.0

Use = tuple[str, str]
"""A tenant, and the version name that it used."""


class RecentAdapters:
    """Remembers the last `max_count` uses in a file. Only what is still on disk comes back.

    Each is resolved for its tenant first: what it may no longer use stays away.
    """

    def __init__(
        self,
        path: Path,
        max_count: int,
        known_adapters: KnownAdapters,
        gate: Gate,
        store: AdapterStore,
        loads: AdapterLoads,
    ) -> None:
        self._path, self._max_count = path, max_count
        self._known_adapters, self._gate = known_adapters, gate
        self._store, self._loads = store, loads
        self._saved: list[Use] = []

    async def load_saved(self) -> None:
        """What was used before this process began."""
        self._saved = await asyncio.to_thread(self._read)
        await self._load_all(self._saved[-self._max_count :] if self._max_count else [])

    async def load_again(self) -> None:
        """For an engine that has lost everything."""
        await self._load_all(self._latest())

    async def keep_saved(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            await self.save()

    def _latest(self) -> list[Use]:
        uses = self._known_adapters.latest(self._max_count)
        return [(use.tenant, use.version_name) for use in uses]

    async def _load_all(self, uses: Sequence[Use]) -> None:
        """One after the other, the last used at the end: where room is short, it is what stays."""
        num_loaded = 0
        for tenant, version_name in uses:
            try:
                num_loaded += await self._load(tenant, version_name)
            except LorikeetError as error:
                logger.warning("%s is not loaded again: %s", version_name, error.message)
        if uses:
            logger.info("%d of %d recently used adapters are loaded again", num_loaded, len(uses))

    async def save(self) -> None:
        """Logs what goes wrong: the list of before is good enough."""
        uses = self._latest()
        if uses == self._saved or not uses:
            return
        try:
            await asyncio.to_thread(self._write, uses)
            self._saved = uses
        except OSError as error:
            logger.warning("which adapters were used last cannot be kept: %s", error.strerror)

    async def _load(self, tenant: str, version_name: str) -> bool:
        adapter = await self._gate.resolve_again(version_name, tenant)
        if adapter is None or not self._store.has(adapter.artifact.digest):
            return False
        async with self._loads.in_engine(adapter):
            self._known_adapters.add(adapter)
        return True

    def _write(self, uses: Sequence[Use]) -> None:
        """In one step: a reader finds the old file or the new one."""
        partial = self._path.with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(uses))
        partial.replace(self._path)

    def _read(self) -> list[Use]:
        try:
            return [(str(tenant), str(name)) for tenant, name in json.loads(self._path.read_text())]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            logger.warning("which adapters were used last is lost: %s", error)
            return []
