"""Removes bytes that nothing refers to: of any number of collectors, one at a time per blob."""

import logging
from datetime import UTC, datetime, timedelta
from functools import partial

from prometheus_client import Counter
from sqlalchemy.orm import Session

from registry_service.artifact_keeper import ArtifactKeeper
from registry_service.artifacts.keys import UPLOADS
from registry_service.repository import blobs, uploads
from registry_service.repository.database import Database

logger = logging.getLogger(__name__)

_BATCH = 100
_LISTED = 500
# How long a claim holds. Removing one blob's few objects takes a small part of it.
_CLAIM = timedelta(minutes=15)


class Collector:
    """Objects without a purpose: blobs, pieces of uploads that are gone, strays."""

    def __init__(
        self, database: Database, keeper: ArtifactKeeper, grace: timedelta, collected: Counter
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._grace = grace
        self._collected = collected

    async def remove_expired_uploads(self) -> None:
        """Each upload's rows first, in one transaction, then its objects."""
        now = datetime.now(UTC)
        while names := await self._database.read(partial(uploads.expired, now=now, limit=_BATCH)):
            for upload in names:
                keys = await self._database.write(partial(_forget_expired, upload=upload, now=now))
                await self._keeper.delete(keys)
                self._collected.labels("upload").inc()

    async def remove_blobs(self) -> None:
        """Blobs that no version has needed for the length of the grace."""
        now = datetime.now(UTC)
        before, claimed_before = now - self._grace, now - _CLAIM
        find = partial(blobs.garbage, before=before, claimed_before=claimed_before, limit=_BATCH)
        while paths := await self._database.read(find):
            claims = [await self._remove_blob(path, before, claimed_before) for path in paths]
            if not any(claims):  # others are at them
                return

    async def remove_stray_chunks(self) -> None:
        """Pieces that were stored but never got a row: their process died in between."""
        before = datetime.now(UTC) - self._grace
        listing = self._keeper.entries(UPLOADS)
        while entries := await self._keeper.list_some(listing, _LISTED):
            old = [entry.key for entry in entries if entry.modified < before]
            if old:
                known = await self._database.read(partial(uploads.known_keys, keys=old))
                strays = [key for key in old if key not in known]
                await self._keeper.delete(strays)
                self._collected.labels("stray chunk").inc(len(strays))

    async def _remove_blob(self, path: str, before: datetime, claimed_before: datetime) -> bool:
        claimed = datetime.now(UTC)
        claim = partial(
            blobs.claim,
            storage_path=path,
            before=before,
            claimed_before=claimed_before,
            now=claimed,
        )
        if not await self._database.write(claim):
            return False
        entries = self._keeper.entries(f"{path}/")
        keys = [entry.key for entry in await self._keeper.list_some(entries, _LISTED)]
        # A process that slept for long must not delete what was stored anew meanwhile.
        if datetime.now(UTC) - claimed < _CLAIM / 2:
            await self._keeper.delete(keys)
            await self._database.write(partial(blobs.forget, storage_path=path, claimed=claimed))
            self._collected.labels("blob").inc()
            logger.info("removed %s, which no version needs", path)
        return True


def _forget_expired(session: Session, upload: str, now: datetime) -> list[str]:
    row = uploads.lock(session, upload)
    if row is None or row.expire_time > now:
        return []
    keys = uploads.forget_chunks(session, upload)
    uploads.delete(session, upload)
    return keys
