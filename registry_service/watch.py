"""WatchAdapters: the change feed as a stream that can be left and taken up again."""

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import Any

from lorikeet.rpc.errors import ResourceExhaustedError
from protos import registry_pb2 as pb
from registry_service.access import Caller
from registry_service.calls import CallRunner
from registry_service.feed import ChangeFeed
from registry_service.messages import change_message, timestamp
from registry_service.operations.changes import check_may_watch, read_changes, revision_unknown

# However quiet it is, who watches is checked again: tokens expire.
_CHECK_SECONDS = 5.0


class Watchers:
    """Serves any number of watchers from what the process's feed keeps.

    Nothing is queued for a watcher: it has a position in the feed, and one that has fallen behind
    what the feed keeps reads the table until it has caught up.
    """

    def __init__(
        self,
        runner: CallRunner,
        feed: ChangeFeed,
        heartbeat_seconds: float,
        max_write_seconds: float,
    ) -> None:
        self._runner = runner
        self._feed = feed
        self._heartbeat_seconds = heartbeat_seconds
        self._max_write_seconds = max_write_seconds

    async def serve(self, request: pb.WatchAdaptersRequest, context: Any) -> None:
        """Changes after `from_revision`, then live; a heartbeat when there was nothing to tell.

        The first heartbeat comes as soon as the watcher has caught up. Whether it may watch is
        checked before anything is told.
        """
        era, heartbeat_due = self._feed.era, 0.0
        position, check = await self._from_table(request, context), _Check()
        while True:
            bell = self._feed.listen()
            if check.is_due(self._runner.callers.generation):
                await self._runner.answer(context, "watch_adapters", request, _may_watch)
            if era != self._feed.era:
                raise revision_unknown(position, self._feed.position)
            responses = self._feed.after(position)
            if responses is None:
                behind = pb.WatchAdaptersRequest(from_revision=position)
                position = await self._from_table(behind, context)
                continue
            for response in responses:
                await self._write(context, response)
                position = response.revision
            if time.monotonic() >= heartbeat_due:
                heartbeat_due = time.monotonic() + self._heartbeat_seconds
                if self._feed.is_current():  # else there may be changes that nobody here knows of
                    await self._write(context, _heartbeat(position))
            await _ring(bell, min(check.due, heartbeat_due) - time.monotonic())

    async def _from_table(self, request: pb.WatchAdaptersRequest, context: Any) -> int:
        """Tells what the table has next; returns the position after it."""
        batch = await self._runner.read(context, read_changes, request)
        for row in batch.changes:
            await self._write(context, change_message(row))
        return batch.revision

    async def _write(self, context: Any, response: pb.WatchAdaptersResponse) -> None:
        try:
            async with asyncio.timeout(self._max_write_seconds):
                await context.write(response)
        except TimeoutError as error:
            raise ResourceExhaustedError(
                f"the watcher took nothing for {self._max_write_seconds:g} s: watch again from "
                "the last revision it has read",
                reason="WATCHER_TOO_SLOW",
            ) from error


class _Check:
    """When a watcher's rights are to be checked: when anybody's changed, and every few seconds."""

    def __init__(self) -> None:
        self.due = 0.0
        self._generation = -1

    def is_due(self, generation: int) -> bool:
        """Whether to check now; the next check is then some seconds away."""
        now = time.monotonic()
        if generation == self._generation and now < self.due:
            return False
        # Not all at once: a thousand watchers began together when the registry did.
        self.due = now + random.uniform(0.5, 1.0) * _CHECK_SECONDS
        self._generation = generation
        return True


async def _may_watch(caller: Caller, _: pb.WatchAdaptersRequest) -> None:
    check_may_watch(caller)


async def _ring(bell: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(seconds, 0)):
            await bell.wait()
    except TimeoutError:
        return


def _heartbeat(revision: int) -> pb.WatchAdaptersResponse:
    return pb.WatchAdaptersResponse(
        revision=revision, heartbeat=pb.Heartbeat(time=timestamp(datetime.now(UTC)))
    )
