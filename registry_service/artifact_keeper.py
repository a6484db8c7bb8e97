"""The object store on asyncio: threads of its own for each kind of work, and limits on waiting."""

import asyncio
import contextlib
import logging
import shutil
import tempfile
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from lorikeet.rpc.errors import OutOfRangeError
from protos import registry_pb2 as pb
from registry_service.artifacts.intake import Artifact, SourceFile, take_in
from registry_service.artifacts.object_store import ObjectMissingError, ObjectStore, StoredObject
from registry_service.artifacts.reading import ObjectReader
from registry_service.artifacts.storage_errors import artifact_corrupt, storage_unavailable
from registry_service.artifacts.validation import BaseModelFacts

T = TypeVar("T")

logger = logging.getLogger(__name__)

READ_CHUNK_BYTES = 1024 * 1024


class ArtifactKeeper:
    """Owns the threads that move bytes: what is slow in one kind of work delays no other.

    `patience` is how many seconds a client waits for one step. A store may be silent in ways that
    its own limits do not see, and time in a queue counts too.
    """

    def __init__(
        self,
        store: ObjectStore,
        scratch: Path,
        num_threads: int,
        max_rank: int,
        patience: float,
    ) -> None:
        self._store = store
        self._scratch = scratch
        self._max_rank = max_rank
        self._patience = patience
        self._chunks = ThreadPoolExecutor(num_threads, "registry-chunks")
        self._commits = ThreadPoolExecutor(num_threads, "registry-commits")
        self._reads = ThreadPoolExecutor(2 * num_threads, "registry-reads")
        self._sweeps = ThreadPoolExecutor(1, "registry-sweeps")
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
        scratch.mkdir(parents=True)

    async def put_chunk(self, key: str, data: bytearray) -> None:
        await self._soon(self._chunks.submit(self._store.put_bytes, key, data))

    async def delete(self, keys: Sequence[str]) -> None:
        await _outcome(self._sweeps.submit(self._store.delete, keys))

    async def list_some(self, entries: Iterator[StoredObject], limit: int) -> list[StoredObject]:
        """The next entries of a listing that `entries` began."""
        return await _outcome(self._sweeps.submit(lambda: list(islice(entries, limit))))

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """Begins a listing; nothing is asked of the store yet."""
        return self._store.entries(prefix)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A directory for the files of one artifact."""
        with tempfile.TemporaryDirectory(dir=self._scratch, ignore_cleanup_errors=True) as path:
            yield Path(path)

    async def list_for_import(
        self, prefix: str, choose: Callable[[Iterable[StoredObject]], list[SourceFile]]
    ) -> list[SourceFile]:
        return await _outcome(self._commits.submit(lambda: choose(self._store.entries(prefix))))

    async def take_in(
        self, sources: Sequence[SourceFile], directory: Path, base: BaseModelFacts
    ) -> Artifact:
        """Copies the files to `directory` and validates them; ObjectMissingError when one went."""
        arguments = (self._store, sources, directory, base, self._max_rank)
        return await _outcome(self._commits.submit(take_in, *arguments))

    async def store(self, directory: Path, artifact: Artifact, path: str) -> None:
        """Makes durable objects of validated files, before any row names them."""

        def put() -> None:
            for file in artifact.files:
                name = file["file_name"]
                self._store.put_file(f"{path}/{name}", directory / name)

        await _outcome(self._commits.submit(put))

    async def read(
        self, key: str, offset: int, size: int
    ) -> AsyncGenerator[pb.ReadArtifactResponse, None]:
        """The bytes of an object from `offset`, in chunks with their checksums.

        While one chunk is on its way to the client the next is read from the store.
        """
        if not 0 <= offset <= size:
            raise OutOfRangeError(
                f"the file has {size} bytes: an offset of {offset} lies outside",
                reason="OFFSET_MISMATCH",
            )
        reader = ObjectReader(self._store, key, offset, size)
        reading = self._reads.submit(_next_chunk, reader, key)
        try:
            while response := await self._soon(reading):
                reading = self._reads.submit(_next_chunk, reader, key)
                yield response
        finally:
            # Its thread may still be reading: the reader is closed behind it.
            reading.cancel()
            reading.add_done_callback(lambda _: reader.close())

    async def download_url(self, key: str, seconds: int) -> str | None:
        return await self._soon(self._reads.submit(self._store.presigned_url, key, seconds))

    def close(self) -> None:
        """Lets running work finish and starts nothing new."""
        for pool in (self._chunks, self._commits, self._reads, self._sweeps):
            pool.shutdown(cancel_futures=True)

    async def _soon(self, work: Future[T]) -> T:
        """The result of what a client waits for at every step."""
        try:
            async with asyncio.timeout(self._patience):
                return await _outcome(work)
        except TimeoutError as error:
            raise storage_unavailable() from error


async def _outcome(work: Future[T]) -> T:
    try:
        return await asyncio.wrap_future(work)
    except OSError as error:
        logger.exception("the storage failed")
        raise storage_unavailable("the registry's storage failed, it may be full") from error


def _next_chunk(reader: ObjectReader, key: str) -> pb.ReadArtifactResponse | None:
    """None at the end."""
    offset = reader.offset
    try:
        data = reader.read(READ_CHUNK_BYTES)
    except ObjectMissingError as error:
        raise artifact_corrupt(key) from error
    if not data:
        return None
    return pb.ReadArtifactResponse(offset=offset, data=data, crc32=zlib.crc32(data))
