"""The registry's change feed as this process follows it: where it stands, and who is told."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from inference_service.adapters.registry_client import RegistryClient, registry_unavailable
from lorikeet.rpc.errors import LorikeetError, OutOfRangeError, PermissionDeniedError
from protos import registry_pb2

logger = logging.getLogger(__name__)

# The registry says something every second.
_MAX_SILENCE_SECONDS: Final = 3.0
_FIRST_BACKOFF_SECONDS: Final = 0.1
_MAX_BACKOFF_SECONDS: Final = 1.0


@dataclass(frozen=True)
class RegistryChange:
    """One write to the registry: `resource` is a resource name, `kind` such as "aliases.set"."""

    revision: int
    resource: str
    kind: str


Changed = Callable[[RegistryChange], None]
Reset = Callable[[], None]


class RegistryWatch:
    """One background task that holds WatchAdapters open, and takes it up again after a break.

    Used from the event loop only. What was learnt from the registry may be relied on while there
    is a lease: `lease_seconds` from the last time that the watch heard of it.
    """

    def __init__(self, registry: RegistryClient, lease_seconds: float) -> None:
        self._registry = registry
        self._lease_seconds = lease_seconds
        self._listeners: list[tuple[Changed, Reset]] = []
        self._position: int | None = None
        self._contact = float("-inf")
        self._is_connected = False
        self._began = asyncio.Event()
        self._refusal: PermissionDeniedError | None = None
        self._task: asyncio.Task[None] | None = None
        self.num_events = 0  # changes and resets so far

    def tell(self, changed: Changed, reset: Reset) -> None:
        """`changed` hears of every change once, in order; `reset` when some may have been missed.

        Listeners are called in the order in which they came, and must not raise.
        """
        self._listeners.append((changed, reset))

    @property
    def position(self) -> int:
        """The revision up to which every change was told; 0 before there was any contact."""
        return self._position or 0

    @property
    def seconds_since_contact(self) -> float:
        return time.monotonic() - self._contact

    @property
    def is_current(self) -> bool:
        """Whether the feed is open and was heard of lately."""
        return self._is_connected and self.seconds_since_contact < _MAX_SILENCE_SECONDS

    @property
    def lease_left(self) -> float:
        """Seconds for which what was learnt may still be relied on; 0 when they are over."""
        return max(0.0, self._lease_seconds - self.seconds_since_contact)

    async def start(self, wait: float) -> None:
        """Returns when the feed is followed; UNAVAILABLE if it is not within `wait` seconds.

        PERMISSION_DENIED when this service may not follow it. Stop it after a failure too.
        """
        self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(wait):
                await self._began.wait()
        except TimeoutError:
            raise registry_unavailable() from None
        if self._refusal is not None:
            raise self._refusal

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            before = self._contact
            try:
                await self._follow()
            except OutOfRangeError as error:
                logger.warning("the registry is older than it was: %s", error.message)
                self._position = None
            except LorikeetError as error:
                logger.warning("the registry's feed broke off: %s %s", error.reason, error.message)
                if isinstance(error, PermissionDeniedError):
                    self._refusal = error
                    self._began.set()
            except Exception:  # a listener's bug: the others may have missed a change
                logger.exception("a change of the registry was not taken in")
                self._position = None
            finally:
                self._is_connected = False
            heard = self._contact > before
            backoff = _FIRST_BACKOFF_SECONDS if heard else min(2 * backoff, _MAX_BACKOFF_SECONDS)
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))

    async def _follow(self) -> None:
        """Reads the feed until it ends, always by a LorikeetError."""
        async with aclosing(self._registry.watch(self._position)) as responses:
            while True:
                self._take(await _next(responses))

    def _take(self, response: registry_pb2.WatchAdaptersResponse) -> None:
        self._contact = time.monotonic()
        self._is_connected = True
        before, self._position = self._position, response.revision
        is_change = response.HasField("change")
        if before is None or response.revision != before + is_change:
            self._tell_reset()
        elif is_change:
            change = response.change
            self._tell_change(RegistryChange(response.revision, change.resource, change.kind))
        self._refusal = None
        self._began.set()

    def _tell_change(self, change: RegistryChange) -> None:
        self.num_events += 1
        for changed, _ in self._listeners:
            changed(change)

    def _tell_reset(self) -> None:
        self.num_events += 1
        for _, reset in self._listeners:
            reset()


async def _next(
    responses: AsyncGenerator[registry_pb2.WatchAdaptersResponse, None],
) -> registry_pb2.WatchAdaptersResponse:
    """The next response; UNAVAILABLE when the feed ended or is silent for too long."""
    try:
        async with asyncio.timeout(_MAX_SILENCE_SECONDS):
            return await anext(responses)
    except (StopAsyncIteration, TimeoutError):
        raise registry_unavailable() from None
