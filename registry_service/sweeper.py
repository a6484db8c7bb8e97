"""Forgets what nobody will come back for; every process does, and none minds the others."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from prometheus_client import Counter
from sqlalchemy.orm import Session

from lorikeet.rpc.errors import LorikeetError
from registry_service.artifact_keeper import ArtifactKeeper
from registry_service.collector import Collector
from registry_service.config import Settings
from registry_service.repository import idempotency, purges
from registry_service.repository.database import Database

logger = logging.getLogger(__name__)

_INTERVAL_SECONDS = 600.0
_PURGED = 50
_REQUEST_ID_LIFE = timedelta(hours=24)


class Sweeper:
    """A background task; `run` ends only by cancellation."""

    def __init__(
        self,
        database: Database,
        keeper: ArtifactKeeper,
        settings: Settings,
        collected: Counter,
    ) -> None:
        self._database = database
        self._retention = timedelta(days=settings.purge_days)
        grace = timedelta(hours=settings.garbage_grace_hours)
        self._collector = Collector(database, keeper, grace, collected)

    async def run(self) -> None:
        while True:
            for step in self._steps():
                try:
                    await step()
                except LorikeetError as error:
                    logger.warning("%s is put off: %s", step.__name__, error)
                except Exception:
                    # A bug in one step must not keep garbage of every kind forever.
                    logger.exception("%s failed", step.__name__)
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def sweep(self) -> None:
        """Does everything once, and raises what goes wrong."""
        for step in self._steps():
            await step()

    def _steps(self) -> list[Callable[[], Awaitable[None]]]:
        collector = self._collector
        return [
            collector.remove_expired_uploads,
            self._purge_adapters,
            self._purge_versions,
            collector.remove_blobs,
            collector.remove_stray_chunks,
            self._forget_request_ids,
        ]

    async def _purge_adapters(self) -> None:
        await self._purge(purges.purge_expired_adapters)

    async def _purge_versions(self) -> None:
        await self._purge(purges.purge_expired_versions)

    async def _purge(self, purge: Callable[[Session, datetime, int], Sequence[object]]) -> None:
        """A few adapters per transaction, until there is nothing left to purge."""
        before = datetime.now(UTC) - self._retention
        while await self._database.write(lambda session: purge(session, before, _PURGED)):
            continue

    async def _forget_request_ids(self) -> None:
        before = datetime.now(UTC) - _REQUEST_ID_LIFE
        await self._database.write(lambda session: idempotency.forget_before(session, before))
