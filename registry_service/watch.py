"""WatchAdapters: the change table as a stream that can be left and taken up again."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from protos import registry_pb2 as pb
from registry_service.calls import CallRunner
from registry_service.feed import ChangeFeed
from registry_service.messages import change_message, timestamp
from registry_service.operations.changes import read_changes

# Changes that another process commits to the same database ring no bell here.
_POLL_SECONDS = 1.0


async def watch(
    runner: CallRunner,
    feed: ChangeFeed,
    request: pb.WatchAdaptersRequest,
    context: Any,
    heartbeat_seconds: float,
) -> AsyncIterator[pb.WatchAdaptersResponse]:
    """Changes after `from_revision`, then live; a heartbeat says that there was nothing to tell.

    The first heartbeat comes as soon as the watcher has caught up. The key is checked at every
    read, so a deleted key ends the stream.
    """
    position, heartbeat_due = request.from_revision, 0.0
    while True:
        bell = feed.listen()
        batch = await runner.read(
            context, read_changes, pb.WatchAdaptersRequest(from_revision=position)
        )
        for row in batch.changes:
            yield change_message(row)
        position = batch.revision
        if batch.changes:
            continue
        if time.monotonic() >= heartbeat_due:
            heartbeat_due = time.monotonic() + heartbeat_seconds
            yield _heartbeat(position)
        await _ring(bell)


async def _ring(bell: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(bell.wait(), _POLL_SECONDS)
    except TimeoutError:
        return


def _heartbeat(revision: int) -> pb.WatchAdaptersResponse:
    return pb.WatchAdaptersResponse(
        revision=revision, heartbeat=pb.Heartbeat(time=timestamp(datetime.now(UTC)))
    )
