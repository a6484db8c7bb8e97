"""The adapters on this machine's disk.

    lease(artifact) ── on disk and unchanged ──────────────────────────► path
          │
          └─ one flight per digest: verify what is there, else make room, download, verify, publish

Owner of all its state, on one event loop: only checks and file writes run in threads.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from inference_service.adapters.artifact import Artifact
from inference_service.adapters.disk import MAX_PARTIAL_SECONDS, AdapterDisk
from inference_service.adapters.download import (
    ArtifactReader,
    CorruptDownloadError,
    Downloader,
    OnProgress,
)
from inference_service.adapters.download_pace import DownloadPace
from inference_service.adapters.leases import Leases
from inference_service.adapters.store_errors import NO_SPACE, corrupt, disk_full
from inference_service.adapters.store_records import Entry, Flight, Partial
from lorikeet.rpc.errors import (
    FailedPreconditionError,
    PermissionDeniedError,
)

logger = logging.getLogger(__name__)


class AdapterStore:
    """Keeps adapters on disk within a byte budget; forgets the least recently used first."""

    def __init__(
        self,
        root: Path,
        reader: ArtifactReader,
        *,
        max_bytes: int,
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_busy` tells when downloads are to go slowly: see DownloadPace."""
        self._disk = AdapterDisk(root)
        self._downloader = Downloader(reader, DownloadPace(is_busy))
        self._max_bytes = max_bytes
        self._entries: dict[str, Entry] = {}  # least recently used first
        self._partials: dict[str, Partial] = {}  # the oldest first
        self._flights: dict[str, Flight] = {}
        self._leases = Leases()
        self._kept: set[str] = set()

    async def open(self) -> None:
        """Finds what earlier processes left; each is verified before it is used.

        StoreLockedError when another process uses the directory.
        """
        for stored in await asyncio.to_thread(self._disk.open):
            if stored.is_partial:
                self._partials[stored.digest] = Partial(stored.size_bytes, stored.modified_at)
            else:
                self._entries[stored.digest] = Entry(stored.size_bytes)

    async def close(self) -> None:
        """Ends running downloads."""
        tasks = [flight.task for flight in self._flights.values() if flight.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._disk.close()

    def sizes(self) -> dict[str, int]:
        """Digest to bytes on disk."""
        return {digest: entry.size_bytes for digest, entry in self._entries.items()}

    def size_of(self, digest: str) -> int | None:
        """Bytes on disk; None for what is not there."""
        entry = self._entries.get(digest)
        return entry.size_bytes if entry else None

    def has(self, digest: str) -> bool:
        """Whether it is on disk, verified or not."""
        return digest in self._entries

    def num_leases(self, digest: str) -> int:
        return self._leases.count(digest)

    @asynccontextmanager
    async def lease(
        self, artifact: Artifact, tenant: str, on_progress: OnProgress | None = None
    ) -> AsyncIterator[Path]:
        """The verified directory of an adapter, which stays while the lease lasts.

        `tenant` is on whose behalf the registry is read. DATA_LOSS ARTIFACT_CORRUPT when the
        registry's bytes are wrong twice; RESOURCE_EXHAUSTED when the disk budget is in use.
        """
        with self._leases.held(artifact.digest):
            yield await self._ensure(artifact, tenant, on_progress)

    async def renew(self, artifact: Artifact, tenant: str) -> None:
        """Has a copy that seems damaged checked again, and fetched once more if it is."""
        entry = self._entries.get(artifact.digest)
        if entry is not None:
            entry.marks = None
        await self._ensure(artifact, tenant, None)

    async def wait_until_unused(self, digest: str) -> None:
        """Returns at a moment when nothing holds a lease."""
        await self._leases.wait_until_none(digest)

    def set_kept(self, digest: str, is_kept: bool) -> None:
        """Whether an adapter stays on disk although nothing holds a lease."""
        if is_kept:
            self._kept.add(digest)
        else:
            self._kept.discard(digest)

    async def delete(self, digest: str) -> None:
        """Removes an adapter from disk; FAILED_PRECONDITION ADAPTER_IN_USE while leased or kept."""
        if not self._is_idle(digest):
            raise FailedPreconditionError(
                f"the adapter {digest} is in use",
                reason="ADAPTER_IN_USE",
                metadata={"digest": digest},
            )
        await self._drop_partial(digest)
        if self._entries.pop(digest, None):
            await self._remove(self._disk.path_of(digest))

    async def _ensure(
        self, artifact: Artifact, tenant: str, on_progress: OnProgress | None
    ) -> Path:
        while not self._is_ready(artifact):
            flight = self._flights.get(artifact.digest)
            is_own = flight is None
            if flight is None:
                flight = self._start_flight(artifact, tenant)
            if on_progress:
                flight.listeners.append(on_progress)
            assert flight.task is not None
            try:
                return await asyncio.shield(flight.task)
            except PermissionDeniedError:
                if is_own:
                    raise
                # The tenant it was read for lost its access; this one was resolved by itself.
            except CorruptDownloadError as error:
                if flight.artifact.version_name == artifact.version_name:
                    raise corrupt(artifact) from error
                # Another version with the same digest; what is stored for this one may be sound.
        self._entries[artifact.digest] = self._entries.pop(artifact.digest)  # newest now
        if on_progress:
            on_progress(artifact.size_bytes, artifact.size_bytes)
        return self._disk.path_of(artifact.digest)

    def _is_ready(self, artifact: Artifact) -> bool:
        """Whether it is on disk, verified by this process and not touched since."""
        entry = self._entries.get(artifact.digest)
        return (
            artifact.digest not in self._flights
            and entry is not None
            and entry.marks is not None
            and entry.marks == self._disk.marks(artifact)
        )

    def _start_flight(self, artifact: Artifact, tenant: str) -> Flight:
        flight = self._flights[artifact.digest] = Flight(artifact)
        flight.task = asyncio.create_task(self._bring(flight, tenant))
        flight.task.add_done_callback(_retrieve_exception)
        return flight

    async def _bring(self, flight: Flight, tenant: str) -> Path:
        artifact = flight.artifact
        path = self._disk.path_of(artifact.digest)
        try:
            num_attempts = 2
            if self._entries.pop(artifact.digest, None) or path.exists():
                if await asyncio.to_thread(self._disk.is_intact, artifact):
                    return self._keep(artifact)
                logger.error("the copy of %s on disk is damaged", artifact.version_name)
                await self._remove(path)
                num_attempts = 1  # this download is already the second try
            await self._make_room(artifact)
            await self._download(flight, tenant, num_attempts)
            return self._keep(artifact)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise disk_full(artifact, "the disk is full") from error
        finally:
            del self._flights[artifact.digest]

    def _keep(self, artifact: Artifact) -> Path:
        marks = self._disk.marks(artifact)
        self._entries[artifact.digest] = Entry(artifact.size_bytes, marks)
        return self._disk.path_of(artifact.digest)

    async def _download(self, flight: Flight, tenant: str, num_attempts: int) -> None:
        artifact = flight.artifact
        # What an earlier try left may be damaged by now: that says nothing about the registry.
        num_attempts += self._partials.pop(artifact.digest, None) is not None
        for _ in range(num_attempts):
            partial = await asyncio.to_thread(self._disk.open_partial, artifact)
            try:
                await self._downloader.fetch(artifact, tenant, partial, flight.report)
                self._disk.publish(partial, artifact.digest)
                return
            except CorruptDownloadError as error:
                logger.error("a download is corrupt: %s", error)
                await self._remove(partial)
            except OSError:  # the disk is full, or broken
                await self._remove(partial)
                raise
            except BaseException:
                self._leave(artifact.digest)
                raise
        raise CorruptDownloadError(artifact.version_name)

    def _leave(self, digest: str) -> None:
        """An unfinished download stays on disk, for the next try to go on with."""
        if size_bytes := self._disk.partial_size(digest):
            self._partials[digest] = Partial(size_bytes, time.time())

    async def _drop_partial(self, digest: str) -> None:
        if self._partials.pop(digest, None):
            await self._remove(self._disk.partial_of(digest))

    async def _remove(self, path: Path) -> None:
        # Detached before anything is awaited, so that nobody can find it half gone.
        if doomed := self._disk.detach(path):
            await asyncio.to_thread(self._disk.erase, doomed)

    async def _make_room(self, artifact: Artifact) -> None:
        """Removes what is idle until this one fits beside what is stored and what is coming.

        Unfinished downloads go first, those that are too old in any case.
        """
        too_old = time.time() - MAX_PARTIAL_SECONDS
        for digest, partial in list(self._partials.items()):
            is_over = self._num_bytes_wanted() > self._max_bytes
            if digest not in self._flights and (is_over or partial.left_at < too_old):
                await self._drop_partial(digest)
        while self._num_bytes_wanted() > self._max_bytes:
            idle = (digest for digest in self._entries if self._is_idle(digest))
            victim = next(idle, None)
            if victim is None:
                raise disk_full(artifact, "the adapters in use fill the disk budget")
            await self.delete(victim)

    def _is_idle(self, digest: str) -> bool:
        held = self.num_leases(digest) or digest in self._kept
        return not held and digest not in self._flights

    def _num_bytes_wanted(self) -> int:
        """What is stored, was begun, and is on its way."""
        stored = sum(entry.size_bytes for entry in self._entries.values())
        stored += sum(
            partial.size_bytes
            for digest, partial in self._partials.items()
            if digest not in self._flights
        )
        return stored + sum(
            flight.artifact.size_bytes
            for digest, flight in self._flights.items()
            if digest not in self._entries
        )


def _retrieve_exception(task: asyncio.Task[Path]) -> None:
    """So that a failure nobody waits for any more is not reported as forgotten."""
    if not task.cancelled():
        task.exception()
