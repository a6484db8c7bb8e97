"""Rows to protos. Nothing here reads the database or decides anything."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from lorikeet.rpc.names import (
    AdapterName,
    AliasName,
    ApiKeyName,
    BaseModelName,
    PrincipalName,
    TenantName,
    UploadName,
    VersionName,
)
from protos import registry_pb2 as pb
from registry_service.access import EVERY_TENANT, Grant
from registry_service.models import (
    AdapterRow,
    AliasRow,
    ApiKeyRow,
    AuditRow,
    BaseModelRow,
    ChangeRow,
    PrincipalRow,
    TenantRow,
    UploadRow,
    VersionRow,
)
from registry_service.repository.journal import Change
from registry_service.repository.tenants import Usage

LATEST = "latest"


def timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    result = Timestamp()
    result.FromDatetime(time.astimezone(UTC))
    return result


def tenant_message(row: TenantRow) -> pb.Tenant:
    return pb.Tenant(
        name=str(TenantName(row.id)),
        display_name=row.display_name,
        create_time=timestamp(row.create_time),
        quota=pb.TenantQuota(
            max_bytes=row.max_bytes,
            max_adapters=row.max_adapters,
            max_versions=row.max_versions,
            max_rank=row.max_rank,
        ),
        etag=tenant_etag(row),
        serving=pb.ServingLimits(
            weight=row.serving_weight,
            max_concurrent_requests=row.max_concurrent_requests,
            max_requests_per_minute=row.max_requests_per_minute,
            max_tokens_per_minute=row.max_tokens_per_minute,
        ),
    )


def tenant_etag(row: TenantRow) -> str:
    return f'"t{row.generation}"'


def usage_message(usage: Usage) -> pb.TenantUsage:
    return pb.TenantUsage(
        bytes=usage.bytes,
        adapters=usage.adapters,
        versions=usage.versions,
        open_uploads=usage.open_uploads,
    )


def grant_messages(grants: Iterable[Grant]) -> list[pb.Grant]:
    """In one fixed order, so that equal grants give equal messages."""
    ordered = sorted(grants, key=lambda grant: (grant.permission, grant.scope))
    return [pb.Grant(permission=g.permission, scope=g.scope) for g in ordered]  # type: ignore[arg-type]


def principal_message(row: PrincipalRow) -> pb.Principal:
    return pb.Principal(
        name=str(PrincipalName(row.tenant_id, row.id)),
        display_name=row.display_name,
        grants=grant_messages(Grant(grant.permission, grant.scope) for grant in row.grants),
        create_time=timestamp(row.create_time),
        subjects=sorted(subject.subject for subject in row.subjects),
        etag=principal_etag(row),
    )


def principal_etag(row: PrincipalRow) -> str:
    return f'"r{row.generation}"'


def api_key_message(row: ApiKeyRow) -> pb.ApiKey:
    return pb.ApiKey(
        name=str(ApiKeyName(row.tenant_id, row.id)),
        principal=str(PrincipalName(row.tenant_id, row.principal_id)),
        create_time=timestamp(row.create_time),
        expire_time=timestamp(row.expire_time),
    )


def base_model_message(row: BaseModelRow) -> pb.BaseModel:
    return pb.BaseModel(
        name=str(BaseModelName(row.id)),
        display_name=row.display_name,
        source=row.source,
        known_as=row.known_as,
        revision=row.revision,
        config_digest=row.config_digest,
        config_json=row.config_json,
        create_time=timestamp(row.create_time),
    )


def alias_message(row: AliasRow) -> pb.Alias:
    return pb.Alias(
        name=str(AliasName(row.tenant_id, row.adapter_id, row.id)),
        version=row.version,
        update_time=timestamp(row.update_time),
    )


def profile_message(row: AdapterRow | VersionRow) -> pb.AdapterProfile:
    return ParseDict(row.profile, pb.AdapterProfile())


def adapter_message(row: AdapterRow, retention: timedelta) -> pb.Adapter:
    """Reads `row.aliases` and `row.warm_aliases`: listings load them eagerly.

    `retention`: how long deleted ones stay."""
    latest = [alias.version for alias in row.aliases if alias.id == LATEST]
    return pb.Adapter(
        name=str(AdapterName(row.tenant_id, row.id)),
        display_name=row.display_name,
        description=row.description,
        labels=row.labels,
        base_model=str(BaseModelName(row.base_model_id)),
        latest_version=latest[0] if latest else 0,
        aliases=[alias_message(alias) for alias in row.aliases],
        etag=adapter_etag(row),
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        delete_time=timestamp(row.delete_time),
        profile=profile_message(row),
        purge_time=timestamp(row.delete_time and row.delete_time + retention),
        warm_aliases=[warm.alias_id for warm in row.warm_aliases],
    )


def adapter_etag(row: AdapterRow) -> str:
    return f'"a{row.generation}"'


def policy_etag(row: AdapterRow) -> str:
    return f'"p{row.policy_generation}"'


def policy_message(row: AdapterRow) -> pb.AccessPolicy:
    named = [str(TenantName(entry.allowed_tenant_id)) for entry in row.allowed_tenants]
    return pb.AccessPolicy(
        adapter=str(AdapterName(row.tenant_id, row.id)),
        allowed_tenants=[EVERY_TENANT] if row.is_shared else named,
        etag=policy_etag(row),
        update_time=timestamp(row.policy_update_time),
    )


def version_message(row: VersionRow, retention: timedelta | None = None) -> pb.AdapterVersion:
    """`retention`: how long a deleted version stays, where a deleted one may be shown."""
    purge_time = row.purge_time
    if purge_time is None and row.delete_time is not None and retention is not None:
        purge_time = row.delete_time + retention
    return pb.AdapterVersion(
        name=str(VersionName(row.tenant_id, row.adapter_id, str(row.number))),
        version=row.number,
        digest=row.digest,
        files=[pb.ArtifactFile(**file) for file in row.files],
        rank=row.rank,
        target_modules=row.target_modules,
        base_model=str(BaseModelName(row.base_model_id)),
        base_model_revision=row.base_model_revision,
        num_parameters=row.num_parameters,
        size_bytes=row.size_bytes,
        state=version_state(row),
        storage_path=row.storage_path,
        created_by=row.created_by,
        create_time=timestamp(row.create_time),
        delete_time=timestamp(row.delete_time),
        profile=profile_message(row),
        labels=row.labels,
        base_model_config_digest=row.base_model_config_digest,
        purge_time=timestamp(purge_time),
    )


def version_state(row: VersionRow) -> pb.VersionState:
    if row.purge_time is not None:
        return pb.VERSION_STATE_PURGED
    return pb.VERSION_STATE_READY if row.delete_time is None else pb.VERSION_STATE_DELETED


def upload_message(row: UploadRow, committed_bytes: dict[str, int]) -> pb.Upload:
    return pb.Upload(
        name=str(UploadName(row.id)),
        adapter=str(AdapterName(row.tenant_id, row.adapter_id)),
        files=[
            pb.UploadedFile(
                file=pb.ArtifactFile(**file),
                committed_bytes=committed_bytes.get(file["file_name"], 0),
            )
            for file in row.files
        ],
        expire_time=timestamp(row.expire_time),
        version=row.version or 0,
    )


def change_message(row: ChangeRow | Change) -> pb.WatchAdaptersResponse:
    change = pb.AdapterChange(resource=row.resource, kind=row.kind, time=timestamp(row.time))
    return pb.WatchAdaptersResponse(revision=row.revision, change=change)


def audit_message(row: AuditRow) -> pb.AuditEvent:
    event = pb.AuditEvent(
        id=row.id,
        time=timestamp(row.time),
        principal=row.principal,
        action=row.action,
        resource=row.resource,
        outcome=row.outcome,
        request_id=row.request_id,
        peer=row.peer,
    )
    event.detail.update(row.detail)
    event.before.update(row.before)
    event.after.update(row.after)
    return event
