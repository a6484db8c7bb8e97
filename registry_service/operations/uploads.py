"""Uploads: what they are for, who may touch them, and the version they end in."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lorikeet.rpc.digests import manifest_digest
from lorikeet.rpc.errors import FailedPreconditionError, ResourceExhaustedError
from lorikeet.rpc.names import AdapterName, BaseModelName, UploadName, VersionName, check_identifier
from protos import registry_pb2 as pb
from registry_service.artifacts.base_config import parse_base_config
from registry_service.artifacts.file_names import check_files
from registry_service.artifacts.validation import AdapterFacts, BaseModelFacts
from registry_service.calls import Call
from registry_service.messages import LATEST
from registry_service.models import AdapterRow, BaseModelRow, UploadRow, VersionRow
from registry_service.operations.adapter_fields import checked_labels, checked_profile
from registry_service.operations.adapters import locked, publishable
from registry_service.operations.base_models import existing_base_model
from registry_service.operations.quotas import check_quota
from registry_service.repository import adapters, tenants, uploads, versions
from registry_service.repository.idempotency import once
from registry_service.requests import allow_only, invalid

_MAX_ALIASES = 16


@dataclass(frozen=True)
class CommitPlan:
    """What a commit has to check and where it stores; or the version an earlier commit made."""

    upload: UploadRow
    digest: str
    storage_path: str
    base: BaseModelFacts | None
    committed: VersionRow | None

    @property
    def declared(self) -> list[tuple[str, int, str]]:
        return declared_files(self.upload)


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
    if uploads.count_open(call.session, tenant, datetime.now(UTC)) >= limit:
        raise ResourceExhaustedError(
            f"tenants/{tenant} has {limit} unfinished uploads: commit or abort some",
            reason="QUOTA_EXCEEDED",
            metadata={"quota": "max_open_uploads", "limit": str(limit)},
        )


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


def get_upload(call: Call, request: pb.GetUploadRequest) -> UploadRow:
    return existing_upload(call, UploadName.parse(request.name))


def abort_upload(call: Call, request: pb.AbortUploadRequest) -> None:
    name = UploadName.parse(request.name)
    call.session.delete(open_upload(call, name))
    call.record("uploads.abort", name)


def plan_commit(call: Call, request: pb.CommitUploadRequest) -> CommitPlan:
    """Checks the request, and reads what the validation needs."""
    name = UploadName.parse(request.name)
    upload = existing_upload(call, name)
    aliases = _checked_aliases(request)
    checked_profile(request.profile, "profile")  # before the bytes are read, not after
    checked_labels(request.labels, "labels")
    digest = manifest_digest([pb.ArtifactFile(**file) for file in upload.files])
    storage_path = f"tenants/{upload.tenant_id}/{digest.replace(':', '/')}"
    if upload.version is not None:
        committed = _committed_version(call, upload, aliases)
        return CommitPlan(upload, digest, storage_path, None, committed)
    open_upload(call, name)
    adapter = publishable(call, AdapterName(upload.tenant_id, upload.adapter_id))
    return CommitPlan(upload, digest, storage_path, _base_facts(call, adapter), None)


def create_version(
    call: Call, request: pb.CommitUploadRequest, plan: CommitPlan, facts: AdapterFacts
) -> VersionRow:
    """The version row, its aliases and the end of the upload, in one transaction.

    The blob is stored and validated by now; what may have changed meanwhile is checked again.
    """
    aliases = _checked_aliases(request)
    name = UploadName(plan.upload.id)
    tenants.lock(call.session, existing_upload(call, name).tenant_id)  # the first of the locks
    upload = uploads.lock(call.session, name.upload)
    if upload is None:
        raise call.absent("adapters.publish", str(name))
    if upload.version is not None:
        return _committed_version(call, upload, aliases)
    adapter_name = AdapterName(upload.tenant_id, upload.adapter_id)
    adapter = locked(call, adapter_name)
    check_quota(call, adapter_name.tenant, version_of=adapter_name, rank=facts.rank)
    row = _new_version(call, request, adapter, plan, facts)
    call.session.flush()
    for alias in {LATEST, *aliases}:
        versions.point_alias(call.session, adapter_name, alias, row.number)
    upload.version, upload.aliases = row.number, aliases
    adapters.touch(call.session, adapter)
    version_name = VersionName(adapter_name.tenant, adapter_name.adapter, str(row.number))
    call.record("versions.create", version_name, digest=row.digest, aliases=aliases)
    return row


def _new_version(
    call: Call,
    request: pb.CommitUploadRequest,
    adapter: AdapterRow,
    plan: CommitPlan,
    facts: AdapterFacts,
) -> VersionRow:
    assert plan.base is not None, "a committed upload is answered before"
    name = AdapterName(adapter.tenant_id, adapter.id)
    base_model = BaseModelName(adapter.base_model_id)
    own_profile = request.HasField("profile")
    row = VersionRow(
        tenant_id=adapter.tenant_id,
        adapter_id=adapter.id,
        number=versions.take_number(call.session, name),
        digest=plan.digest,
        files=plan.upload.files,
        rank=facts.rank,
        target_modules=list(facts.target_modules),
        base_model_id=adapter.base_model_id,
        base_model_revision=plan.base.revision,
        num_parameters=facts.num_parameters,
        size_bytes=sum(size for _, size, _ in plan.declared),
        storage_path=plan.storage_path,
        created_by=str(call.caller.name),
        create_time=datetime.now(UTC),
        profile=checked_profile(request.profile, "profile") if own_profile else adapter.profile,
        labels=checked_labels(request.labels, "labels"),
        base_model_config_digest=existing_base_model(call, base_model).config_digest,
    )
    call.session.add(row)
    return row


def _committed_version(call: Call, upload: UploadRow, aliases: list[str]) -> VersionRow:
    assert upload.version is not None, "only for committed uploads"
    if upload.aliases != aliases:
        raise FailedPreconditionError(
            f"uploads/{upload.id} was committed as version {upload.version} with aliases "
            f"{upload.aliases}: use SetAlias to change them",
            reason="UPLOAD_COMMITTED",
        )
    number = str(upload.version)
    row = versions.get(call.session, VersionName(upload.tenant_id, upload.adapter_id, number))
    assert row is not None, "an upload is marked in the transaction that makes its version"
    return row


def _checked_aliases(request: pb.CommitUploadRequest) -> list[str]:
    if len(request.aliases) > _MAX_ALIASES:
        raise invalid("aliases", f"at most {_MAX_ALIASES} aliases are allowed")
    checked = {check_identifier(a, f"aliases[{i}]") for i, a in enumerate(request.aliases)}
    return sorted(checked)


def _base_facts(call: Call, adapter: AdapterRow) -> BaseModelFacts:
    row = call.session.get_one(BaseModelRow, adapter.base_model_id)
    _, architecture = parse_base_config(row.config_json.encode())
    return BaseModelFacts(
        name=str(BaseModelName(row.id)),
        source=row.source,
        known_as=tuple(row.known_as),
        revision=row.revision,
        architecture=architecture,
    )
