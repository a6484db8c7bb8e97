"""Committing an upload: what has to be read and checked, and the version it ends in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from adapter_format.violation import Reason, Violation
from lorikeet.rpc.errors import FailedPreconditionError
from lorikeet.rpc.names import AdapterName, UploadName, VersionName
from protos import registry_pb2 as pb
from registry_service.artifacts.intake import Artifact, Piece, SourceFile
from registry_service.artifacts.validation import BaseModelFacts, refusal
from registry_service.calls import Call
from registry_service.models import UploadRow, VersionRow
from registry_service.operations.adapter_fields import checked_labels, checked_profile
from registry_service.operations.adapters import locked, publishable
from registry_service.operations.publishing import (
    base_facts,
    check_publish_request,
    checked_aliases,
    make_version,
)
from registry_service.operations.quotas import check_quota
from registry_service.operations.uploads import declared_files, existing_upload, open_upload
from registry_service.repository import tenants, uploads, versions


@dataclass(frozen=True)
class Plan:
    """What makes a version: the files to take in, and for which base model."""

    tenant: str
    sources: list[SourceFile]
    base: BaseModelFacts


@dataclass(frozen=True)
class Committed:
    """The version an upload has become, and keys of pieces that nobody needs any more."""

    version: VersionRow
    keys: list[str] = field(default_factory=list)


def plan_commit(call: Call, request: pb.CommitUploadRequest) -> Plan | VersionRow:
    """What the commit has to read; or the version an earlier commit made."""
    name = UploadName.parse(request.name)
    upload = existing_upload(call, name)
    check_publish_request(request)
    if upload.version is not None:
        return _committed_version(call, request, upload)
    open_upload(call, name)
    adapter = publishable(call, AdapterName(upload.tenant_id, upload.adapter_id))
    sources = _sources(call, upload)
    return Plan(upload.tenant_id, sources, base_facts(call, adapter))


def commit_upload(call: Call, request: pb.CommitUploadRequest, artifact: Artifact) -> Committed:
    """The version, its aliases and the end of the upload, in one transaction.

    The objects are stored and validated by now; what may have changed meanwhile is checked again.
    """
    name = UploadName.parse(request.name)
    upload = existing_upload(call, name)
    adapter_name = AdapterName(upload.tenant_id, upload.adapter_id)
    tenants.lock(call.session, upload.tenant_id)  # the first of the locks
    adapter = locked(call, adapter_name)
    locked_upload = uploads.lock(call.session, name.upload)
    if locked_upload is None:
        raise call.absent("adapters.publish", str(name))
    if locked_upload.version is not None:
        return Committed(_committed_version(call, request, locked_upload))
    check_quota(call, upload.tenant_id, version_of=adapter_name, rank=artifact.facts.rank)
    row = make_version(call, request, adapter, artifact)
    upload.version, upload.aliases = row.number, checked_aliases(request.aliases)
    return Committed(row, uploads.forget_chunks(call.session, upload.id))


def _sources(call: Call, upload: UploadRow) -> list[SourceFile]:
    """The pieces of every declared file; refused unless all of it has arrived."""
    rows = uploads.chunks(call.session, upload.id)
    pieces = {
        name: tuple(Piece(row.object_key, row.size_bytes) for row in group)
        for name, group in groupby(rows, lambda row: row.file_name)
    }
    declared = declared_files(upload)
    missing = [
        Violation(name, Reason.FILE_INCOMPLETE, _incomplete(pieces.get(name, ()), size))
        for name, size, _ in declared
        if sum(piece.size_bytes for piece in pieces.get(name, ())) != size
    ]
    if missing:
        raise refusal(missing, "UPLOAD_INCOMPLETE")
    return [SourceFile(name, pieces[name], sha256) for name, _, sha256 in declared]


def _incomplete(pieces: Sequence[Piece], size: int) -> str:
    arrived = sum(piece.size_bytes for piece in pieces)
    return f"{arrived} of {size} bytes have arrived: send the rest first"


def _committed_version(
    call: Call, request: pb.CommitUploadRequest, upload: UploadRow
) -> VersionRow:
    assert upload.version is not None, "only for committed uploads"
    number = str(upload.version)
    row = versions.get(call.session, VersionName(upload.tenant_id, upload.adapter_id, number))
    assert row is not None, "an upload is marked in the transaction that makes its version"
    if upload.aliases != checked_aliases(request.aliases):
        raise _committed_otherwise(upload, f"aliases {upload.aliases}: use SetAlias to change them")
    if request.HasField("profile") and row.profile != checked_profile(request.profile, "profile"):
        raise _committed_otherwise(upload, "another profile: upload again for a new version")
    if row.labels != checked_labels(request.labels, "labels"):
        raise _committed_otherwise(upload, "other labels: upload again for a new version")
    return row


def _committed_otherwise(upload: UploadRow, how: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"uploads/{upload.id} was committed as version {upload.version} with {how}",
        reason="UPLOAD_COMMITTED",
    )
