"""ArtifactService: bytes in and out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.protobuf.empty_pb2 import Empty

from adapter_format.violation import shown
from lorikeet.rpc.errors import (
    LorikeetError,
    NotFoundError,
    UnavailableError,
    UnimplementedError,
)
from lorikeet.rpc.names import AdapterName, TenantName, UploadName, VersionName
from protos import registry_pb2 as pb
from protos import registry_pb2_grpc
from registry_service.artifact_keeper import ArtifactKeeper
from registry_service.call_origin import CallOrigin
from registry_service.calls import Call, CallRunner
from registry_service.chunk_writer import BufferBudget, ChunkWriter, UploadTables
from registry_service.messages import timestamp, upload_message, version_message
from registry_service.models import UploadChunkRow
from registry_service.operations import uploads
from registry_service.operations.resolution import usable
from registry_service.operations.uploads import UploadStatus
from registry_service.operations.versions import existing_version
from registry_service.publisher import Publisher
from registry_service.requests import invalid
from registry_service.upload_gate import UploadGate

T = TypeVar("T")

_MAX_BUFFERED_BYTES = 16 * 1024 * 1024
_MAX_STREAMS = 16
_QUEUE_SECONDS = 60.0
_RETRY_SECONDS = 5.0
_MAX_COMMIT_SECONDS = 600.0
_MARGIN_SECONDS = 0.5


class ArtifactServicer(registry_pb2_grpc.ArtifactServiceServicer):
    """Thin: operations decide, the keeper moves bytes, the publisher makes versions."""

    def __init__(
        self,
        runner: CallRunner,
        keeper: ArtifactKeeper,
        publisher: Publisher,
        gate: UploadGate,
        url_seconds: int,
    ) -> None:
        self._runner = runner
        self._keeper = keeper
        self._publisher = publisher
        self._gate = gate
        self._url_seconds = url_seconds
        self._budget = BufferBudget(_MAX_BUFFERED_BYTES)
        self._streams = asyncio.Semaphore(_MAX_STREAMS)

    async def StartUpload(self, request: pb.StartUploadRequest, context: Any) -> pb.Upload:  # noqa: N802
        def start(call: Call, request: pb.StartUploadRequest) -> UploadStatus:
            return uploads.upload_status(call, uploads.start_upload(call, request))

        return _message(await self._runner.write(context, start, request))

    async def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.Upload:  # noqa: N802
        return _message(await self._runner.read(context, uploads.get_upload, request))

    async def AbortUpload(self, request: pb.AbortUploadRequest, context: Any) -> Empty:  # noqa: N802
        origin = CallOrigin.of(context)

        async def abort() -> Empty:
            await self._forget(await self._runner.write(origin, uploads.abort_upload, request))
            return Empty()

        return await self._gate.run(UploadName.parse(request.name).upload, abort)

    async def WriteArtifact(  # noqa: N802
        self, requests: AsyncIterator[pb.WriteArtifactRequest], context: Any
    ) -> pb.Upload:
        """What arrived before a stream broke is stored, though the client has gone."""
        origin = CallOrigin.of(context)
        async with self._turn():
            writer: ChunkWriter | None = None
            upload = ""
            try:
                async for request in requests:
                    if writer is None:
                        status = await self._runner.read(origin, uploads.opened_upload, request)
                        upload = str(UploadName(status.row.id))
                        writer = self._writer(status, origin)
                    elif request.upload not in ("", upload):
                        raise invalid("upload", "one stream writes to one upload: open another")
                    await self._gate.finish(writer.add(request))
            except asyncio.CancelledError:  # the client has gone, or must be told that we go
                if writer is not None:
                    self._gate.begin(writer.flush())
                raise
            except Exception:
                if writer is not None:
                    with contextlib.suppress(LorikeetError):
                        await self._gate.finish(writer.flush())
                raise
            if writer is None:
                raise invalid("upload", "the stream has no message")
            await self._gate.finish(writer.flush())
            return await self.GetUpload(pb.GetUploadRequest(name=upload), context)

    async def CommitUpload(  # noqa: N802
        self, request: pb.CommitUploadRequest, context: Any
    ) -> pb.AdapterVersion:
        origin = CallOrigin.of(context)

        async def commit() -> pb.AdapterVersion:
            committed = await self._publisher.commit(request, origin)
            await self._forget(committed.keys)
            return version_message(committed.version)

        upload = UploadName.parse(request.name).upload
        return await _in_time(self._gate.run(upload, commit), context)

    async def ImportArtifact(  # noqa: N802
        self, request: pb.ImportArtifactRequest, context: Any
    ) -> pb.AdapterVersion:
        origin = CallOrigin.of(context)

        async def make() -> pb.AdapterVersion:
            return version_message(await self._publisher.import_artifact(request, origin))

        return await _in_time(self._gate.finish(make()), context)

    async def ReadArtifact(  # noqa: N802
        self, request: pb.ReadArtifactRequest, context: Any
    ) -> AsyncIterator[pb.ReadArtifactResponse]:
        key, size = await self._runner.read(context, _located, request)
        async with contextlib.aclosing(self._keeper.read(key, request.offset, size)) as responses:
            async for response in responses:
                yield response

    async def GetDownloadUrl(  # noqa: N802
        self, request: pb.GetDownloadUrlRequest, context: Any
    ) -> pb.GetDownloadUrlResponse:
        key, _ = await self._runner.read(context, _located, request)
        expire_time = datetime.now(UTC) + timedelta(seconds=self._url_seconds)
        url = await self._keeper.download_url(key, self._url_seconds)
        if url is None:
            raise UnimplementedError(
                "this registry keeps artifacts on its own disk: use ReadArtifact",
                reason="NO_DOWNLOAD_URL",
            )
        await self._runner.write(context, _note_url, request)
        return pb.GetDownloadUrlResponse(url=url, expire_time=timestamp(expire_time))

    def _writer(self, status: UploadStatus, origin: CallOrigin) -> ChunkWriter:
        get = pb.GetUploadRequest(name=str(UploadName(status.row.id)))

        async def append(chunk: UploadChunkRow) -> None:
            def add(call: Call, request: pb.GetUploadRequest) -> None:
                uploads.append_chunk(call, chunk)

            await self._runner.write(origin, add, get)

        async def committed_bytes() -> dict[str, int]:
            return (await self._runner.read(origin, uploads.get_upload, get)).committed_bytes

        sizes = {name: size for name, size, _ in uploads.declared_files(status.row)}
        tables = UploadTables(append, committed_bytes)
        arrived = status.committed_bytes
        return ChunkWriter(status.row.id, sizes, arrived, self._keeper, tables, self._budget)

    async def _forget(self, keys: list[str]) -> None:
        """Pieces without rows; what cannot be removed now is the sweeper's."""
        with contextlib.suppress(LorikeetError):
            await self._keeper.delete(keys)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Bounds how many streams hold memory at a time; clients retry UNAVAILABLE."""
        try:
            async with asyncio.timeout(_QUEUE_SECONDS):
                await self._streams.acquire()
        except TimeoutError as error:
            raise UnavailableError(
                f"{_MAX_STREAMS} uploads are being written: try again",
                reason="TOO_MANY_STREAMS",
                retry_after=_RETRY_SECONDS,
            ) from error
        try:
            yield
        finally:
            self._streams.release()


async def _in_time(work: Awaitable[T], context: Any) -> T:
    """Answers before the caller's deadline passes; the work goes on, and a retry finds it done."""
    left = context.time_remaining()
    seconds = _MAX_COMMIT_SECONDS if left is None else min(left, _MAX_COMMIT_SECONDS)
    try:
        async with asyncio.timeout(max(seconds - _MARGIN_SECONDS, 0)):
            return await work
    except TimeoutError as error:
        raise UnavailableError(
            "making the version takes longer than the call may last, and goes on: ask again",
            reason="STILL_WORKING",
            retry_after=1.0,
        ) from error


def _message(status: UploadStatus) -> pb.Upload:
    return upload_message(status.row, status.committed_bytes)


DownloadRequest = pb.ReadArtifactRequest | pb.GetDownloadUrlRequest


def _located(call: Call, request: DownloadRequest) -> tuple[str, int]:
    """Key and size of a file the caller may read for the tenant it names, or for its own."""
    name = VersionName.parse(request.version, "version")
    tenant = TenantName(call.caller.tenant)
    if request.tenant:
        tenant = TenantName.parse(request.tenant, "tenant")
    usable(call, tenant, AdapterName(name.tenant, name.adapter))
    row = existing_version(call, name)
    for file in row.files:
        if file["file_name"] == request.file_name:
            return f"{row.storage_path}/{request.file_name}", file["size_bytes"]
    raise NotFoundError(f"{name} has no file {shown(request.file_name)}", reason="FILE_NOT_FOUND")


def _note_url(call: Call, request: pb.GetDownloadUrlRequest) -> None:
    """Whoever has the URL can read the file: the audit trail says who asked for it."""
    _located(call, request)
    call.note("artifacts.download_url", request.version, file_name=request.file_name)
