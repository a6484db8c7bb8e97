"""Reads the change table once for the whole process, as soon as there is something new."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from functools import partial

from sqlalchemy.orm import Session

from lorikeet.rpc.errors import LorikeetError
from registry_service.feed import ChangeFeed
from registry_service.repository import journal
from registry_service.repository.database import Database
from registry_service.repository.listener import listen

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.3
_RETRY_SECONDS = 0.2
_MAX_CHANGES = 1000


class Tail:
    """Background tasks that keep a feed current; a notification only makes it sooner."""

    def __init__(self, database: Database, feed: ChangeFeed) -> None:
        self._database = database
        self._feed = feed
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        asked_at = time.monotonic()
        self._feed.restart(await self._database.follow(journal.current_revision), asked_at)
        self._tasks.append(asyncio.create_task(self._follow()))
        engine = self._database.engine
        self._tasks.append(asyncio.create_task(listen(engine, journal.CHANNEL, self._feed.wake)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _follow(self) -> None:
        while True:
            try:
                is_done = await self._step()
            except LorikeetError as error:
                logger.warning("the change feed lost the database: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                if is_done:
                    await self._feed.woken(_POLL_SECONDS)

    async def _step(self) -> bool:
        """One read; whether it reached the end."""
        asked_at = time.monotonic()
        read = partial(_changes_after, position=self._feed.position)
        current, changes = await self._database.follow(read)
        if current < self._feed.position:
            logger.warning("the database is older than it was: everything cached is forgotten")
            self._feed.restart(current, asked_at)
            return True
        is_done = len(changes) < _MAX_CHANGES
        # Behind, it does not count as contact: what is remembered may be wrong.
        self._feed.advance(changes, asked_at if is_done else float("-inf"))
        return is_done


def _changes_after(session: Session, position: int) -> tuple[int, Sequence[journal.Change]]:
    current = journal.current_revision(session)
    if current <= position:
        return current, []
    rows = journal.changes_after(session, position, _MAX_CHANGES)
    return current, [journal.Change(row.revision, row.resource, row.kind, row.time) for row in rows]
