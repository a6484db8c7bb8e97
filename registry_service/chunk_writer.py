"""One WriteArtifact stream: its chunks are collected and stored a few MiB at a time."""

import asyncio
import contextlib
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from adapter_format.violation import shown
from lorikeet.rpc.errors import (
    DataLossError,
    FailedPreconditionError,
    LorikeetError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    ResourceExhaustedError,
)
from protos import registry_pb2 as pb
from registry_service.artifact_keeper import ArtifactKeeper
from registry_service.artifacts.keys import new_chunk_key
from registry_service.models import UploadChunkRow
from registry_service.operations.uploads import check_offset
from registry_service.requests import check_known, invalid

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_PIECE_BYTES = 8 * 1024 * 1024
# After these the piece has no row for certain; after others it may have one.
_NOT_TAKEN = (
    FailedPreconditionError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    ResourceExhaustedError,
)


class BufferBudget:
    """Bytes that all streams of the process may hold together beside the message at hand."""

    def __init__(self, max_bytes: int) -> None:
        self._free = max_bytes

    def take(self, count: int) -> bool:
        """False when there is no room: store what you have instead of collecting more."""
        if count > self._free:
            return False
        self._free -= count
        return True

    def give_back(self, count: int) -> None:
        self._free += count


@dataclass(frozen=True)
class UploadTables:
    """What a writer does to the database, as the caller of its stream."""

    append: Callable[[UploadChunkRow], Awaitable[None]]
    committed_bytes: Callable[[], Awaitable[dict[str, int]]]


class ChunkWriter:
    """Collects contiguous chunks of one file, then stores them as one object and its row.

    `sizes` are the declared sizes by file name, `arrived` what was stored when the stream began.
    A chunk that `add` returned from is stored at the latest when `flush` has.
    """

    def __init__(
        self,
        upload: str,
        sizes: Mapping[str, int],
        arrived: Mapping[str, int],
        keeper: ArtifactKeeper,
        tables: UploadTables,
        budget: BufferBudget,
    ) -> None:
        self._upload = upload
        self._sizes = sizes
        self._next = dict(arrived)
        self._keeper = keeper
        self._tables = tables
        self._budget = budget
        self._file_name = ""
        self._buffer = bytearray()
        self._taken = 0
        # A broken stream flushes while its last `add` may still be at work.
        self._lock = asyncio.Lock()

    async def add(self, request: pb.WriteArtifactRequest) -> None:
        """Takes one chunk; a typed error when it is not what may come now."""
        _check_chunk(request, self._sizes)
        async with self._lock:
            await self._add(request)

    async def flush(self) -> None:
        """Stores what was collected; OUT_OF_RANGE when another writer was faster."""
        async with self._lock:
            await self._flush()

    async def _add(self, request: pb.WriteArtifactRequest) -> None:
        name, data = request.file_name, request.data
        if name != self._file_name or request.offset != self._next.get(name, 0):
            await self._flush()
            await self._check_position(request)
        self._check_end(name, request.offset + len(data))
        self._file_name = name
        self._next[name] = request.offset + len(data)
        self._buffer += data
        if self._budget.take(len(data)):
            self._taken += len(data)
        else:
            await self._flush()
        if len(self._buffer) > MAX_PIECE_BYTES - MAX_MESSAGE_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        data, taken, self._buffer, self._taken = self._buffer, self._taken, bytearray(), 0
        try:
            if data:
                offset = self._next[self._file_name] - len(data)
                await self._store(self._file_name, offset, data)
        finally:
            self._budget.give_back(taken)

    async def _store(self, name: str, offset: int, data: bytearray) -> None:
        key = new_chunk_key(self._upload, name, offset)
        await self._keeper.put_chunk(key, data)
        row = UploadChunkRow(
            upload_id=self._upload,
            file_name=name,
            offset=offset,
            size_bytes=len(data),
            object_key=key,
        )
        try:
            await self._tables.append(row)
        except _NOT_TAKEN:
            with contextlib.suppress(LorikeetError):  # the sweeper will find it
                await self._keeper.delete([key])
            raise

    async def _check_position(self, request: pb.WriteArtifactRequest) -> None:
        """Refuses a gap or an overlap with what is stored by now, whoever stored it."""
        if request.offset != self._next.get(request.file_name, 0):
            self._next = await self._tables.committed_bytes()
        check_offset(request.file_name, request.offset, self._next.get(request.file_name, 0))

    def _check_end(self, name: str, end: int) -> None:
        size = self._sizes[name]
        if end > size:
            raise OutOfRangeError(
                f"{name}: the chunk ends at {end}, but {size} bytes were declared",
                reason="SIZE_EXCEEDED",
                metadata={"file_name": name, "declared_size": str(size)},
            )


def _check_chunk(request: pb.WriteArtifactRequest, sizes: Mapping[str, int]) -> None:
    check_known(request)
    if request.file_name not in sizes:
        raise invalid("file_name", f"{shown(request.file_name)} was not declared")
    data = request.data  # each access makes a copy
    if not 1 <= len(data) <= MAX_MESSAGE_BYTES:
        raise invalid("data", f"a chunk has 1 to {MAX_MESSAGE_BYTES} bytes")
    if zlib.crc32(data) != request.crc32:
        raise DataLossError(
            f"{request.file_name}: the chunk at {request.offset} does not have its crc32: "
            "send it again",
            reason="CHUNK_CORRUPT",
        )
