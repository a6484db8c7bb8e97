"""Forgets what nobody will come back for: expired uploads and old request ids."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy.orm import Session

from lorikeet.rpc.errors import LorikeetError
from registry_service.artifact_keeper import ArtifactKeeper
from registry_service.repository import idempotency, uploads
from registry_service.repository.database import Database
from registry_service.upload_gate import UploadGate

logger = logging.getLogger(__name__)

_INTERVAL_SECONDS = 600.0
_REQUEST_ID_LIFE = timedelta(hours=24)


class Sweeper:
    """A background task; `run` ends only by cancellation."""

    def __init__(self, database: Database, keeper: ArtifactKeeper, gate: UploadGate) -> None:
        self._database = database
        self._keeper = keeper
        self._gate = gate

    async def run(self) -> None:
        while True:
            try:
                await self.sweep()
            except LorikeetError as error:
                logger.warning("sweeping is put off: %s", error)
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def sweep(self) -> None:
        """Removes each expired upload under its lock: its row first, then its bytes."""
        for upload in await self._database.read(_expired):
            await self._gate.run(upload, partial(self._remove, upload))
        await self._database.write(
            lambda session: idempotency.forget_before(session, datetime.now(UTC) - _REQUEST_ID_LIFE)
        )

    async def _remove(self, upload: str) -> None:
        await self._database.write(lambda session: uploads.delete(session, upload))
        await self._keeper.remove(upload)


def _expired(session: Session) -> list[str]:
    return [row.id for row in uploads.expired(session, datetime.now(UTC))]
