"""Reads now and then what only the database knows, for the metrics."""

import asyncio
import logging

from sqlalchemy.orm import Session

from lorikeet.rpc.errors import LorikeetError
from registry_service.metrics import TenantMetrics
from registry_service.repository import usage
from registry_service.repository.database import Database

logger = logging.getLogger(__name__)

_SECONDS = 60.0


class UsageSampler:
    """A scrape never waits for the database: it shows what the last sample found."""

    def __init__(self, database: Database, metrics: TenantMetrics) -> None:
        self._database = database
        self._metrics = metrics

    async def run(self) -> None:
        """Samples until cancelled."""
        while True:
            try:
                await self.sample()
            except LorikeetError as error:
                logger.warning("usage was not sampled: %s", error.message)
            await asyncio.sleep(_SECONDS)

    async def sample(self) -> None:
        self._metrics.show(*await self._database.read(_usage))


def _usage(session: Session) -> tuple[dict[str, int], int]:
    return usage.bytes_by_tenant(session), usage.num_open_uploads(session)
