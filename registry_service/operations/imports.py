"""Importing: a version made from objects that already lie in the tenant's import area."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from adapter_format.violation import Reason, Violation
from lorikeet.rpc.errors import FailedPreconditionError
from lorikeet.rpc.names import AdapterName, VersionName
from protos import registry_pb2 as pb
from registry_service.artifacts.file_names import check_files
from registry_service.artifacts.intake import Artifact, Piece, SourceFile
from registry_service.artifacts.keys import import_prefix
from registry_service.artifacts.object_store import StoredObject
from registry_service.artifacts.validation import BaseModelFacts, refusal
from registry_service.calls import Call
from registry_service.models import VersionRow
from registry_service.operations.adapters import locked, publishable
from registry_service.operations.publishing import base_facts, check_publish_request, make_version
from registry_service.operations.quotas import check_quota
from registry_service.repository import idempotency, versions

MAX_LISTED = 32
"""An adapter has a few files: whatever lists more is something else."""


@dataclass(frozen=True)
class ImportPlan:
    """Where the files are, and what they are validated against."""

    tenant: str
    prefix: str
    base: BaseModelFacts


def plan_import(call: Call, request: pb.ImportArtifactRequest) -> ImportPlan | VersionRow:
    """What the import has to read; or the version this request id has made."""
    name = _authorised(call, request)
    prefix = import_prefix(name.tenant, request.prefix)
    check_publish_request(request)
    earlier = idempotency.earlier(call.session, str(call.caller.name), request)
    if earlier is not None:
        return _version(call, earlier)
    return ImportPlan(name.tenant, prefix, base_facts(call, publishable(call, name)))


def sources_of(
    prefix: str, listed: Iterable[StoredObject], max_artifact_bytes: int
) -> list[SourceFile]:
    """The files below `prefix`, if they are an adapter's; nothing has been read yet."""
    objects = list(islice(listed, MAX_LISTED + 1))
    if len(objects) > MAX_LISTED:
        description = f"has more than {MAX_LISTED} objects: put only the adapter's files there"
        raise refusal([Violation("prefix", Reason.FILE_NAME_REFUSED, description)], "UNSAFE_FORMAT")
    # Consoles mark a directory with an empty object of its name.
    files = [(item.key.removeprefix(prefix), item) for item in objects if item.key != prefix]
    if not files:
        raise FailedPreconditionError(
            "there is no object at this prefix of the tenant's import area", reason="NOTHING_THERE"
        )
    check_files([(name, item.size_bytes, None) for name, item in files], max_artifact_bytes)
    return [SourceFile(name, (Piece(item.key, item.size_bytes),)) for name, item in files]


def import_version(call: Call, request: pb.ImportArtifactRequest, artifact: Artifact) -> VersionRow:
    """The version and its aliases, once per request id; the objects are stored by now."""
    name = _authorised(call, request)

    def create() -> tuple[str, VersionRow]:
        check_quota(call, name.tenant, version_of=name, rank=artifact.facts.rank)
        adapter = locked(call, name)
        row = make_version(call, request, adapter, artifact)
        return str(VersionName(name.tenant, name.adapter, str(row.number))), row

    return idempotency.once(
        call.session,
        str(call.caller.name),
        request,
        create,
        lambda resource: _version(call, resource),
    )


def _authorised(call: Call, request: pb.ImportArtifactRequest) -> AdapterName:
    name = AdapterName.parse(request.adapter, "adapter")
    call.require_publish(name.tenant, str(name))
    return name


def _version(call: Call, resource: str) -> VersionRow:
    row = versions.get(call.session, VersionName.parse(resource))
    if row is None:
        raise FailedPreconditionError(
            f"this request made {resource}, which was purged since", reason="VERSION_PURGED"
        )
    return row
