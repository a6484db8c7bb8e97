"""Ends running streams whose caller or adapter is no longer allowed what they were begun with."""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from inference_service.access.callers import seconds_valid
from inference_service.access.concerns import concerns_caller, concerns_version
from inference_service.access.reviews import Reviews
from inference_service.access.tenant_prefixes import TenantPrefixes
from inference_service.adapters.registry_client import registry_unavailable
from inference_service.adapters.registry_watch import RegistryChange, RegistryWatch
from inference_service.gate import Admitted, Gate
from lorikeet.rpc.errors import LorikeetError, PermissionDeniedError
from lorikeet.rpc.logs import log_fields

logger = logging.getLogger(__name__)

End = Callable[[LorikeetError], None]

_LEASE_PAUSE_SECONDS: Final = 0.1
# A change concerns a stream, and nobody says whether it may go on: the bound is 5 seconds.
_MAX_DOUBT_SECONDS: Final = 4.0
# After an answer has run out, so that the same one is not found in memory once more.
_AFTER_EXPIRY_SECONDS: Final = 0.1
_EXPIRED_PAUSE_SECONDS: Final = 1.0  # by this machine's clock, but not by the registry's


@dataclass(eq=False)
class _Stream:
    """What was admitted, and how to end it."""

    admitted: Admitted
    ends: tuple[End, ...]
    is_revoked: bool = False
    expiry: asyncio.TimerHandle | None = None
    doubts: list[asyncio.TimerHandle] = field(default_factory=list)

    def end(self, error: LorikeetError) -> None:
        for end in self.ends:
            end(error)


class Revocations:
    """Knows every running stream; asks again about those that a change of the registry concerns.

    A denied one ends with ACCESS_REVOKED and its tenant's cached prefixes are dropped; when the
    lease on the registry's answers is over, all end with REGISTRY_UNAVAILABLE.
    """

    def __init__(self, gate: Gate, watch: RegistryWatch, prefixes: TenantPrefixes) -> None:
        self._gate = gate
        self._watch = watch
        self._prefixes = prefixes
        self._running: set[_Stream] = set()
        self._reviews = Reviews(self._look)
        self._guard = asyncio.create_task(self._end_all_without_lease())
        watch.tell(self._changed, self._review_all)

    @contextmanager
    def running(self, admitted: Admitted, *ends: End) -> Iterator[None]:
        """Around a stream; `ends` are called with the error that it is to end with."""
        stream = _Stream(admitted, ends)
        self._running.add(stream)
        if self._watch.num_events != admitted.num_events:
            self._doubt(stream)  # something changed while it was being admitted
        self._await_expiry(stream)
        try:
            yield
        finally:
            self._running.discard(stream)
            self._reviews.forget(stream)
            for timer in (stream.expiry, *stream.doubts):
                if timer is not None:
                    timer.cancel()
            if stream.is_revoked:
                self._prefixes.drop(admitted.tenant, admitted.digest)

    async def close(self) -> None:
        self._guard.cancel()
        await asyncio.gather(self._guard, return_exceptions=True)
        await self._reviews.close()

    def _changed(self, change: RegistryChange) -> None:
        for stream in self._running:
            admitted = stream.admitted
            if concerns_caller(change, admitted.caller) or concerns_version(
                change, admitted.version_name
            ):
                self._doubt(stream)

    def _review_all(self) -> None:
        for stream in self._running:
            self._doubt(stream)

    def _doubt(self, stream: _Stream) -> None:
        """Asks again about a stream; without an answer in time it ends."""
        self._reviews.due(stream)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(_MAX_DOUBT_SECONDS, stream.end, registry_unavailable())
        stream.doubts.append(timer)

    async def _look(self, stream: _Stream) -> bool:
        """Asks again; false when nobody could answer."""
        num_doubts = len(stream.doubts)  # later ones are not answered by this
        try:
            is_allowed = await self._gate.still_admits(stream.admitted)
        except LorikeetError as error:
            logger.warning("a running stream could not be checked: %s", error.message)
            return False
        if is_allowed:
            for timer in stream.doubts[:num_doubts]:
                timer.cancel()
            del stream.doubts[:num_doubts]
            self._await_expiry(stream)
        else:
            self._revoke(stream)
        return True

    def _revoke(self, stream: _Stream) -> None:
        admitted = stream.admitted
        logger.warning(
            "revoked",
            extra=log_fields(
                principal=admitted.caller.principal,
                tenant=admitted.tenant,
                adapter_version=admitted.version_name,
            ),
        )
        stream.is_revoked = True
        stream.end(_access_revoked())

    def _await_expiry(self, stream: _Stream) -> None:
        """The registry is asked again when its answer runs out; it says whether a key has ended."""
        if stream.expiry is not None:
            stream.expiry.cancel()
        seconds = seconds_valid(stream.admitted.presented, stream.admitted.caller)
        if seconds == math.inf:
            return
        delay = seconds + _AFTER_EXPIRY_SECONDS if seconds > 0 else _EXPIRED_PAUSE_SECONDS
        loop = asyncio.get_running_loop()
        stream.expiry = loop.call_later(delay, self._doubt, stream)

    async def _end_all_without_lease(self) -> None:
        while True:
            seconds_left = self._watch.lease_left
            if not seconds_left:
                for stream in self._running:
                    stream.end(registry_unavailable())
            await asyncio.sleep(max(seconds_left, _LEASE_PAUSE_SECONDS))


def _access_revoked() -> PermissionDeniedError:
    return PermissionDeniedError(
        "the caller's access was revoked while this response was streamed",
        reason="ACCESS_REVOKED",
    )
