"""Uploads: what they are for, who may touch them, and which bytes of them have arrived."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lorikeet.rpc.errors import FailedPreconditionError, OutOfRangeError, ResourceExhaustedError
from lorikeet.rpc.names import AdapterName, TenantName, UploadName
from protos import registry_pb2 as pb
from registry_service.artifacts.file_names import check_files
from registry_service.calls import Call
from registry_service.models import UploadChunkRow, UploadRow
from registry_service.operations.adapters import locked
from registry_service.operations.quotas import check_limit, check_quota
from registry_service.repository import uploads
from registry_service.repository.idempotency import once
from registry_service.requests import allow_only

# A client that sends a byte at a time must not fill the tables.
_MAX_CHUNKS = 20_000


@dataclass(frozen=True)
class UploadStatus:
    """An upload and how many bytes of each file are stored."""

    row: UploadRow
    committed_bytes: dict[str, int]


def declared_files(row: UploadRow) -> list[tuple[str, int, str]]:
    """(name, size, sha256) of every file."""
    return [(file["file_name"], file["size_bytes"], file["sha256"]) for file in row.files]


def start_upload(call: Call, request: pb.StartUploadRequest) -> UploadRow:
    name = AdapterName.parse(request.adapter, "adapter")
    call.require_publish(name.tenant, str(name))
    for index, file in enumerate(request.files):
        allow_only(file, {"file_name", "size_bytes", "sha256"}, f"files[{index}]")
    check_files(
        [(file.file_name, file.size_bytes, file.sha256) for file in request.files],
        call.settings.max_artifact_bytes,
    )

    def create() -> tuple[str, UploadRow]:
        declared = sum(file.size_bytes for file in request.files)
        check_quota(call, name.tenant, more_bytes=declared, version_of=name)
        locked(call, name)
        _check_open_uploads(call, name.tenant)
        row = _new_row(call, name, request)
        upload = UploadName(row.id)
        call.record("uploads.start", upload, adapter=str(name))
        return str(upload), row

    return once(
        call.session,
        str(call.caller.name),
        request,
        create,
        lambda resource: existing_upload(call, UploadName.parse(resource)),
    )


def _new_row(call: Call, name: AdapterName, request: pb.StartUploadRequest) -> UploadRow:
    now = datetime.now(UTC)
    row = UploadRow(
        id=secrets.token_hex(16),
        tenant_id=name.tenant,
        adapter_id=name.adapter,
        files=[
            {"file_name": file.file_name, "size_bytes": file.size_bytes, "sha256": file.sha256}
            for file in request.files
        ],
        aliases=[],
        version=None,
        create_time=now,
        expire_time=now + timedelta(hours=call.settings.upload_hours),
    )
    call.session.add(row)
    return row


def _check_open_uploads(call: Call, tenant: str) -> None:
    limit = call.settings.max_open_uploads
    used = uploads.count_open(call.session, tenant, datetime.now(UTC))
    check_limit(str(TenantName(tenant)), "max_open_uploads", limit, used, 1)


def existing_upload(call: Call, name: UploadName) -> UploadRow:
    """An upload of an adapter the caller may publish; any other might as well not exist."""
    row = uploads.get(call.session, name.upload)
    if row is None:
        raise call.absent("adapters.publish", str(name))
    call.require_publish(row.tenant_id, str(name))
    return row


def open_upload(call: Call, name: UploadName) -> UploadRow:
    """An upload that still takes bytes."""
    row = existing_upload(call, name)
    if row.version is not None:
        raise FailedPreconditionError(
            f"{name} was committed as version {row.version}", reason="UPLOAD_COMMITTED"
        )
    if row.expire_time <= datetime.now(UTC):
        raise FailedPreconditionError(f"{name} has expired: start again", reason="UPLOAD_EXPIRED")
    return row


def get_upload(call: Call, request: pb.GetUploadRequest) -> UploadStatus:
    return upload_status(call, existing_upload(call, UploadName.parse(request.name)))


def upload_status(call: Call, row: UploadRow) -> UploadStatus:
    """Of a committed upload everything is stored, though no longer in pieces."""
    if row.version is not None:
        return UploadStatus(row, {name: size for name, size, _ in declared_files(row)})
    return UploadStatus(row, uploads.committed_bytes(call.session, row.id))


def opened_upload(call: Call, request: pb.WriteArtifactRequest) -> UploadStatus:
    """What a stream that begins with `request` will write to."""
    row = open_upload(call, UploadName.parse(request.upload, "upload"))
    return upload_status(call, row)


def abort_upload(call: Call, request: pb.AbortUploadRequest) -> list[str]:
    """Forgets an upload; returns the keys of its pieces, which nobody needs any more."""
    name = UploadName.parse(request.name)
    open_upload(call, name)
    row = _locked_open(call, name)
    keys = uploads.forget_chunks(call.session, row.id)
    call.session.delete(row)
    call.record("uploads.abort", name)
    return keys


def append_chunk(call: Call, chunk: UploadChunkRow) -> None:
    """Takes a stored piece into its file; OUT_OF_RANGE unless it begins where the file ends.

    Of writers who stored a piece for one offset, the first to get here wins.
    """
    row = _locked_open(call, UploadName(chunk.upload_id))
    arrived = uploads.committed_bytes(call.session, row.id).get(chunk.file_name, 0)
    check_offset(chunk.file_name, chunk.offset, arrived)
    if uploads.count_chunks(call.session, row.id) >= _MAX_CHUNKS:
        raise ResourceExhaustedError(
            f"uploads/{row.id} came in {_MAX_CHUNKS} pieces: start again and send more at a time",
            reason="QUOTA_EXCEEDED",
            metadata={"quota": "max_chunks", "limit": str(_MAX_CHUNKS)},
        )
    call.session.add(chunk)


def check_offset(file_name: str, offset: int, arrived: int) -> None:
    if offset != arrived:
        raise OutOfRangeError(
            f"{file_name}: the chunk begins at {offset}, but {arrived} bytes have arrived: "
            f"resume from {arrived}",
            reason="OFFSET_MISMATCH",
            metadata={"file_name": file_name, "expected_offset": str(arrived)},
        )


def _locked_open(call: Call, name: UploadName) -> UploadRow:
    """An open upload as it is now, held until the transaction ends."""
    if uploads.lock(call.session, name.upload) is None:
        raise call.absent("adapters.publish", str(name))
    return open_upload(call, name)
