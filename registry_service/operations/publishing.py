"""The version row, however its bytes came in: what was asked for, checked, and written at once."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from lorikeet.rpc.names import AdapterName, BaseModelName, VersionName, check_identifier
from protos import registry_pb2 as pb
from registry_service.artifacts.base_config import parse_base_config
from registry_service.artifacts.intake import Artifact
from registry_service.artifacts.keys import storage_path
from registry_service.artifacts.storage_errors import storage_unavailable
from registry_service.artifacts.validation import BaseModelFacts
from registry_service.calls import Call
from registry_service.messages import LATEST
from registry_service.models import AdapterRow, BaseModelRow, VersionRow
from registry_service.operations.adapter_fields import checked_labels, checked_profile
from registry_service.operations.changed import difference
from registry_service.operations.quotas import check_quota
from registry_service.repository import adapters, blobs, versions
from registry_service.requests import invalid

PublishRequest = pb.CommitUploadRequest | pb.ImportArtifactRequest

_MAX_ALIASES = 16


def check_publish_request(request: PublishRequest) -> None:
    """Refuses bad aliases, profiles and labels before the bytes are read, not after."""
    checked_aliases(request.aliases)
    checked_profile(request.profile, "profile")
    checked_labels(request.labels, "labels")


def checked_aliases(aliases: Sequence[str]) -> list[str]:
    if len(aliases) > _MAX_ALIASES:
        raise invalid("aliases", f"at most {_MAX_ALIASES} aliases are allowed")
    return sorted({check_identifier(a, f"aliases[{i}]") for i, a in enumerate(aliases)})


def base_facts(call: Call, adapter: AdapterRow) -> BaseModelFacts:
    """What the adapter must have been trained on."""
    row = call.session.get_one(BaseModelRow, adapter.base_model_id)
    _, architecture = parse_base_config(row.config_json.encode())
    return BaseModelFacts(
        name=str(BaseModelName(row.id)),
        source=row.source,
        known_as=tuple(row.known_as),
        revision=row.revision,
        architecture=architecture,
    )


def announce_blob(call: Call, tenant: str, artifact: Artifact, *, uncounted: bool) -> bool:
    """Before the objects are written; False while the same bytes are being removed.

    `uncounted`: no upload has declared these bytes, so the quota has not seen them yet.
    """
    path = storage_path(tenant, artifact.digest)
    if uncounted and blobs.get(call.session, path) is None:
        check_quota(call, tenant, more_bytes=artifact.size_bytes)
    return blobs.want(call.session, path, tenant, artifact.size_bytes, datetime.now(UTC))


def make_version(
    call: Call, request: PublishRequest, adapter: AdapterRow, artifact: Artifact
) -> VersionRow:
    """The version of a locked adapter, its aliases and its blob; the objects are stored by now."""
    aliases = checked_aliases(request.aliases)
    name = AdapterName(adapter.tenant_id, adapter.id)
    row = _new_version(call, request, adapter, artifact)
    if not blobs.keep(call.session, row.storage_path, row.create_time):
        raise storage_unavailable("the bytes were removed while the version was made")
    call.session.add(row)
    call.session.flush()
    moved = sorted({LATEST, *aliases})
    before = {alias: _pointed_at(call, name, alias) for alias in moved}
    for alias in moved:
        versions.point_alias(call.session, name, alias, row.number)
    adapters.touch(call.session, adapter)
    version_name = VersionName(name.tenant, name.adapter, str(row.number))
    after = {"aliases": dict.fromkeys(moved, row.number), "digest": row.digest, "rank": row.rank}
    call.record("versions.create", version_name, **difference({"aliases": before}, after))
    return row


def _pointed_at(call: Call, adapter: AdapterName, alias: str) -> int | None:
    row = versions.get_alias(call.session, adapter, alias)
    return row.version if row else None


def _new_version(
    call: Call, request: PublishRequest, adapter: AdapterRow, artifact: Artifact
) -> VersionRow:
    base = call.session.get_one(BaseModelRow, adapter.base_model_id)
    facts = artifact.facts
    return VersionRow(
        tenant_id=adapter.tenant_id,
        adapter_id=adapter.id,
        number=versions.take_number(call.session, AdapterName(adapter.tenant_id, adapter.id)),
        digest=artifact.digest,
        files=artifact.files,
        rank=facts.rank,
        target_modules=list(facts.target_modules),
        base_model_id=base.id,
        base_model_revision=base.revision,
        base_model_config_digest=base.config_digest,
        num_parameters=facts.num_parameters,
        size_bytes=artifact.size_bytes,
        storage_path=storage_path(adapter.tenant_id, artifact.digest),
        created_by=str(call.caller.name),
        create_time=datetime.now(UTC),
        profile=_profile(request, adapter),
        labels=checked_labels(request.labels, "labels"),
    )


def _profile(request: PublishRequest, adapter: AdapterRow) -> dict[str, Any]:
    """Its own, or what the adapter has at this moment."""
    if request.HasField("profile"):
        return checked_profile(request.profile, "profile")
    return adapter.profile
