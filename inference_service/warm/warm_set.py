"""Keeps loaded what the registry wants loaded, from the start on and through every change.

the list changes ──► read it ──┬─ new ─────► bring it, in a task of its own ──► ready
the engine restarts ──► again ─┤                └─ it fails ──► again later, longer each time
                               └─ gone ────► let it go
"""

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import Final

from inference_service.adapters.artifact import ResolvedAdapter
from inference_service.adapters.failures import LASTING
from inference_service.adapters.registry_watch import RegistryChange
from inference_service.known_adapters import KnownAdapters
from inference_service.warm.kept_adapters import KeptAdapters, KeptBy
from inference_service.warm.warm_list import WarmList
from lorikeet.rpc.errors import LorikeetError

logger = logging.getLogger(__name__)

_MAX_TRIES: Final = 3  # then it has failed: what is broken must not keep a replica down
_FIRST_PAUSE_SECONDS: Final = 1.0
_MAX_PAUSE_SECONDS: Final = 60.0
_MAX_AT_ONCE: Final = 4


@dataclass(eq=False)
class _Member:
    """An adapter of the set. `error` is how the last try ended, if not well."""

    adapter: ResolvedAdapter
    task: asyncio.Task[None] | None = None
    is_ready: bool = False
    num_tries: int = 0
    error: LorikeetError | None = None

    @property
    def has_failed(self) -> bool:
        if self.is_ready or self.error is None:
            return False
        return self.num_tries >= _MAX_TRIES or self.error.reason in LASTING


class WarmSet:
    """Owner of the set. `listed` is set once it is known what belongs to it, `settled` once every
    member is ready or has failed."""

    def __init__(self, wanted: WarmList, kept: KeptAdapters, known_adapters: KnownAdapters) -> None:
        self._wanted, self._kept, self._known_adapters = wanted, kept, known_adapters
        self._members: dict[str, _Member] = {}
        self._slots = asyncio.Semaphore(_MAX_AT_ONCE)
        self._wake = asyncio.Event()
        self._wake.set()
        self._is_stale = False
        self.listed = asyncio.Event()
        self.settled = asyncio.Event()

    @property
    def num_members(self) -> int:
        return len(self._members)

    @property
    def num_ready(self) -> int:
        return sum(member.is_ready for member in self._members.values())

    def error(self, digest: str) -> LorikeetError | None:
        """Why a member is not loaded."""
        member = self._members.get(digest)
        return member.error if member else None

    def failed(self) -> dict[str, str]:
        """Version name to digest of the members whose last try failed."""
        artifacts = [m.adapter.artifact for m in self._members.values() if m.error]
        return {artifact.version_name: artifact.digest for artifact in artifacts}

    def unready(self) -> list[str]:
        """Version names of the members that are not loaded."""
        members = self._members.values()
        return [m.adapter.artifact.version_name for m in members if not m.is_ready]

    def changed(self, change: RegistryChange) -> None:
        """For the registry's watch."""
        if self._wanted.is_concerned(change):
            self._wake.set()

    def reset(self) -> None:
        """For the registry's watch: changes may have been missed."""
        self._wake.set()

    def engine_restarted(self) -> None:
        """The engine has lost everything: all members are brought again."""
        self._is_stale = True
        self.settled.clear()
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            pause = _FIRST_PAUSE_SECONDS
            while True:
                await self._wake.wait()
                self._wake.clear()
                try:
                    await self._refresh()
                    pause = _FIRST_PAUSE_SECONDS
                except LorikeetError as error:
                    logger.warning("the warm adapters cannot be listed: %s", error.message)
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(2 * pause, _MAX_PAUSE_SECONDS)
                    self._wake.set()
        finally:
            await _cancelled([member.task for member in self._members.values() if member.task])

    async def _refresh(self) -> None:
        if self._is_stale:
            self._is_stale = False
            await self._kept.pin_again()
            await self._bring_all_again()
        wanted = {adapter.artifact.digest: adapter for adapter in await self._wanted.read()}
        for digest in self._members.keys() - wanted.keys():
            await self._drop(digest)
        for digest, adapter in wanted.items():
            if digest not in self._members:
                self._add(adapter)
        self.listed.set()
        self._look_around()

    def _add(self, adapter: ResolvedAdapter) -> None:
        member = self._members[adapter.artifact.digest] = _Member(adapter)
        member.task = asyncio.create_task(self._bring(member))

    async def _bring_all_again(self) -> None:
        """Before the list is read: for what is on disk, the registry need not be there."""
        members = list(self._members.values())
        await _cancelled([member.task for member in members if member.task])
        for member in members:
            self._add(member.adapter)

    async def _drop(self, digest: str) -> None:
        """Requests that run with it go on; then it leaves when its room is needed."""
        member = self._members.pop(digest)
        if member.task:
            await _cancelled([member.task])
        try:
            await self._kept.let_go(digest, KeptBy.WARM)
        except LorikeetError as error:  # the engine is down, and keeps nothing
            logger.info("%s: %s", member.adapter.artifact.version_name, error.message)

    async def _bring(self, member: _Member) -> None:
        """Tries until it is loaded, ever more seldom."""
        self._known_adapters.add(member.adapter)
        while not member.is_ready:
            async with self._slots:
                await self._try(member)
            self._look_around()
            if member.error is not None:
                await asyncio.sleep(_pause(member.num_tries, member.error))

    async def _try(self, member: _Member) -> None:
        name = member.adapter.artifact.version_name
        try:
            await self._kept.keep_warm(member.adapter)
            member.is_ready, member.error = True, None
            logger.info("%s is warm", name)
        except LorikeetError as error:
            member.num_tries += 1
            member.error = error
            verdict = "has failed" if member.has_failed else "is not warm yet"
            logger.error("%s %s: %s %s", name, verdict, error.reason, error.message)

    def _look_around(self) -> None:
        """Whether there is nothing left to wait for."""
        is_known = self.listed.is_set() and not self._is_stale
        if is_known and all(m.is_ready or m.has_failed for m in self._members.values()):
            self.settled.set()


def _pause(num_tries: int, error: LorikeetError) -> float:
    pause = min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(num_tries - 1, 10))
    return max(pause * random.uniform(0.5, 1.0), error.retry_after or 0.0)


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
