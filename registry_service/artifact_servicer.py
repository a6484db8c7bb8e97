"""ArtifactService: bytes in and out."""

import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.empty_pb2 import Empty

from adapter_format.violation import shown
from lorikeet.rpc.errors import DataLossError, NotFoundError
from lorikeet.rpc.names import AdapterName, TenantName, UploadName, VersionName
from protos import registry_pb2 as pb
from protos import registry_pb2_grpc
from registry_service.artifact_keeper import ArtifactKeeper
from registry_service.artifacts.validation import AdapterFacts
from registry_service.calls import Call, CallRunner
from registry_service.messages import upload_message, version_message
from registry_service.models import UploadRow, VersionRow
from registry_service.operations import uploads
from registry_service.operations.resolution import usable
from registry_service.operations.uploads import CommitPlan
from registry_service.operations.versions import existing_version
from registry_service.requests import check_known, invalid
from registry_service.upload_gate import UploadGate

MAX_CHUNK_BYTES = 1024 * 1024


class ArtifactServicer(registry_pb2_grpc.ArtifactServiceServicer):
    """GetDownloadUrl and ImportArtifact need a bucket: the base class answers UNIMPLEMENTED."""

    def __init__(self, runner: CallRunner, keeper: ArtifactKeeper, gate: UploadGate) -> None:
        self._runner = runner
        self._keeper = keeper
        self._gate = gate

    async def StartUpload(self, request: pb.StartUploadRequest, context: Any) -> pb.Upload:  # noqa: N802
        row = await self._runner.write(context, uploads.start_upload, request)
        if row.version is None:
            await self._keeper.create(row.id)
        return await self._upload(row)

    async def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.Upload:  # noqa: N802
        return await self._upload(await self._runner.read(context, uploads.get_upload, request))

    async def AbortUpload(self, request: pb.AbortUploadRequest, context: Any) -> Empty:  # noqa: N802
        async def abort() -> Empty:
            await self._runner.write(context, uploads.abort_upload, request)
            await self._keeper.remove(name.upload)
            return Empty()

        name = UploadName.parse(request.name)
        return await self._gate.run(name.upload, abort)

    async def WriteArtifact(  # noqa: N802
        self, requests: AsyncIterator[pb.WriteArtifactRequest], context: Any
    ) -> pb.Upload:
        """Every chunk is stored before the next one is read, so a broken stream loses little."""
        row: UploadRow | None = None
        async for request in requests:
            if row is None:
                row = await self._runner.read(context, _opened, request)
            elif request.upload not in ("", f"uploads/{row.id}"):
                raise invalid("upload", "one stream writes to one upload: open another")
            await self._write_chunk(row, request)
        if row is None:
            raise invalid("upload", "the stream has no message")
        return await self._upload(row)

    async def CommitUpload(  # noqa: N802
        self, request: pb.CommitUploadRequest, context: Any
    ) -> pb.AdapterVersion:
        async def commit() -> pb.AdapterVersion:
            return version_message(await self._commit(request, context))

        return await self._gate.run(UploadName.parse(request.name).upload, commit)

    async def ReadArtifact(  # noqa: N802
        self, request: pb.ReadArtifactRequest, context: Any
    ) -> AsyncIterator[pb.ReadArtifactResponse]:
        key, size = await self._runner.read(context, _located, request)
        async for response in self._keeper.read(key, request.offset, size):
            yield response

    async def _commit(self, request: pb.CommitUploadRequest, context: Any) -> VersionRow:
        plan = await self._runner.read(context, uploads.plan_commit, request)
        if plan.committed is not None:
            return plan.committed
        facts = await self._keeper.validate_and_store(plan)
        row = await self._runner.write(context, _version_maker(plan, facts), request)
        await self._keeper.remove(plan.upload.id)
        return row

    async def _write_chunk(self, row: UploadRow, request: pb.WriteArtifactRequest) -> None:
        check_known(request)
        sizes = {name: size for name, size, _ in uploads.declared_files(row)}
        if request.file_name not in sizes:
            raise invalid("file_name", f"{shown(request.file_name)} was not declared")
        if not 1 <= len(request.data) <= MAX_CHUNK_BYTES:
            raise invalid("data", f"a chunk has 1 to {MAX_CHUNK_BYTES} bytes")
        if zlib.crc32(request.data) != request.crc32:
            raise DataLossError(
                f"{request.file_name}: the chunk at {request.offset} does not have its crc32: "
                "send it again",
                reason="CHUNK_CORRUPT",
            )

        async def append() -> None:
            size = sizes[request.file_name]
            await self._keeper.append(row.id, request.file_name, request.offset, request.data, size)

        await self._gate.run(row.id, append)

    async def _upload(self, row: UploadRow) -> pb.Upload:
        sizes = {name: size for name, size, _ in uploads.declared_files(row)}
        if row.version is not None:  # committed: nothing is staged any more, all is stored
            return upload_message(row, sizes)
        return upload_message(row, await self._keeper.committed_bytes(row.id, list(sizes)))


def _opened(call: Call, request: pb.WriteArtifactRequest) -> UploadRow:
    return uploads.open_upload(call, UploadName.parse(request.upload, "upload"))


def _version_maker(
    plan: CommitPlan, facts: AdapterFacts
) -> Callable[[Call, pb.CommitUploadRequest], VersionRow]:
    def commit_upload(call: Call, request: pb.CommitUploadRequest) -> VersionRow:
        return uploads.create_version(call, request, plan, facts)

    return commit_upload


def _located(call: Call, request: pb.ReadArtifactRequest) -> tuple[str, int]:
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
