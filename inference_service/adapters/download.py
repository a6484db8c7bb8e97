"""Downloads of adapters: resumed where they broke off, every chunk and every file checked."""

import asyncio
import logging
import random
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Final, Protocol

from inference_service.adapters.artifact import Artifact, ArtifactFile
from inference_service.adapters.download_pace import DownloadPace
from inference_service.adapters.file_sink import FileSink
from inference_service.adapters.registry_client import registry_unavailable
from lorikeet.rpc.errors import UnavailableError
from protos import registry_pb2

logger = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]  # bytes done, bytes in all

_MAX_FAILURES: Final = 3  # in a row, without a byte in between
_FIRST_PAUSE_SECONDS: Final = 0.1
_CHUNK_SECONDS: Final = 5.0


class CorruptDownloadError(Exception):
    """The registry sent other bytes than it declared."""


class _DamagedChunkError(Exception):
    """A chunk broke on its way: worth asking for again."""


class ArtifactReader(Protocol):
    """Where bytes come from: the registry, or S3."""

    def read_artifact(
        self, version_name: str, file_name: str, *, offset: int, tenant: str
    ) -> AsyncGenerator[registry_pb2.ReadArtifactResponse, None]:
        """One file from an offset."""


class Downloader:
    """Fetches whole artifacts."""

    def __init__(self, reader: ArtifactReader, pace: DownloadPace) -> None:
        self._reader, self._pace = reader, pace

    async def fetch(
        self, artifact: Artifact, tenant: str, directory: Path, on_progress: OnProgress
    ) -> None:
        """Fills `directory`, going on with what is there.

        CorruptDownloadError when the bytes are not the registered ones;
        UNAVAILABLE when the registry stays away; other registry errors pass through.
        """
        done = 0
        for file in artifact.files:
            before = done
            sink = await asyncio.to_thread(FileSink, directory / file.file_name)
            on_progress(before + sink.size_bytes, artifact.size_bytes)
            try:
                async for num_bytes in self._fill(sink, artifact, file, tenant):
                    done = before + num_bytes
                    on_progress(done, artifact.size_bytes)
            finally:
                sink.close()
            done = before + sink.size_bytes
            if not sink.matches(file):
                raise CorruptDownloadError(f"{file.file_name} of {artifact.version_name}")

    async def _fill(
        self, sink: FileSink, artifact: Artifact, file: ArtifactFile, tenant: str
    ) -> AsyncIterator[int]:
        """Reads until the declared size is reached; yields the size so far after each chunk."""
        failures = 0
        while sink.size_bytes < file.size_bytes:
            size_before = sink.size_bytes
            try:
                async for _ in self._read_on(sink, artifact, file, tenant):
                    yield sink.size_bytes
                if sink.size_bytes == size_before:
                    raise CorruptDownloadError(f"{file.file_name} ends at {sink.size_bytes}")
            except (UnavailableError, TimeoutError, _DamagedChunkError) as error:
                failures = 1 if sink.size_bytes > size_before else failures + 1
                await self._pause(failures, error)

    async def _read_on(
        self, sink: FileSink, artifact: Artifact, file: ArtifactFile, tenant: str
    ) -> AsyncIterator[None]:
        chunks = self._reader.read_artifact(
            artifact.version_name, file.file_name, offset=sink.size_bytes, tenant=tenant
        )
        async with aclosing(chunks):
            while True:
                async with asyncio.timeout(_CHUNK_SECONDS):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                await asyncio.to_thread(_take, chunk, sink, file)
                yield
                await self._pace.rest(len(chunk.data))

    async def _pause(self, failures: int, error: Exception) -> None:
        if failures >= _MAX_FAILURES:
            if isinstance(error, _DamagedChunkError):
                raise CorruptDownloadError(str(error)) from error
            if isinstance(error, UnavailableError) and error.retry_after is not None:
                raise error
            raise registry_unavailable() from error
        logger.warning("a download broke off (%s), going on from there", error)
        pause = _FIRST_PAUSE_SECONDS * 2 ** (failures - 1)
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))


def _take(chunk: registry_pb2.ReadArtifactResponse, sink: FileSink, file: ArtifactFile) -> None:
    """Checks a chunk and writes it: milliseconds, so not for the event loop."""
    is_next = chunk.data and chunk.offset == sink.size_bytes
    if not is_next or zlib.crc32(chunk.data) != chunk.crc32:
        raise _DamagedChunkError(f"a chunk of {file.file_name} at {sink.size_bytes}")
    if sink.size_bytes + len(chunk.data) > file.size_bytes:
        raise CorruptDownloadError(f"{file.file_name} is longer than declared")
    sink.write(chunk.data)
