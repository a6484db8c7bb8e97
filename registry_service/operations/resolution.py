"""Resolution: may this tenant use this adapter, and which version is meant. The hot path."""

from lorikeet.rpc.errors import FailedPreconditionError, NotFoundError, permission_denied
from lorikeet.rpc.names import (
    AdapterName,
    AliasName,
    BaseModelName,
    TenantName,
    VersionName,
    parse_adapter_selector,
)
from protos import registry_pb2 as pb
from registry_service.access import EVERY_TENANT, check_may_speak_for, may_use
from registry_service.calls import Call
from registry_service.messages import LATEST, profile_message, version_message
from registry_service.models import AdapterRow, VersionRow
from registry_service.operations.versions import existing_alias, existing_version
from registry_service.repository import adapters, journal, tenants, versions


def resolve_adapter(call: Call, request: pb.ResolveAdapterRequest) -> pb.ResolveAdapterResponse:
    tenant = TenantName.parse(request.tenant, "tenant")
    selector = parse_adapter_selector(request.name)
    # Read before the rows: a watcher that resumes from it may see a change twice, never miss one.
    revision = journal.current_revision(call.session)
    usable(call, tenant, AdapterName(selector.tenant, selector.adapter))
    version, alias = _select(call, selector)
    _check_base_model(request, version)
    return pb.ResolveAdapterResponse(
        version=version_message(version),
        profile=profile_message(version),
        revision=revision,
        alias=alias,
    )


def usable(call: Call, tenant: TenantName, name: AdapterName) -> AdapterRow:
    """A live adapter that `tenant` may use; one answer for absent, forbidden and deleted."""
    check_may_speak_for(call.caller, tenant.tenant, str(name))
    row = adapters.get(call.session, name)
    denied = permission_denied("adapters.use", str(name))
    if row is None or row.delete_time is not None:
        raise denied
    allowed = adapters.allowed_tenants(call.session, row)
    if not may_use(call.caller, tenant.tenant, name.tenant, allowed):
        raise denied
    # An agent may name any tenant, but "*" lists only those that there are.
    if EVERY_TENANT in allowed and tenants.get(call.session, tenant.tenant) is None:
        raise denied
    return row


def _select(call: Call, selector: AdapterName | AliasName | VersionName) -> tuple[VersionRow, str]:
    if isinstance(selector, VersionName):
        return existing_version(call, selector), ""
    alias = selector.alias if isinstance(selector, AliasName) else LATEST
    adapter = AdapterName(selector.tenant, selector.adapter)
    if alias == LATEST and versions.get_alias(call.session, adapter, LATEST) is None:
        raise NotFoundError(
            f"{adapter} has no version yet: upload one",
            reason="VERSION_NOT_FOUND",
            metadata={"resource": str(adapter)},
        )
    row = existing_alias(call, AliasName(selector.tenant, selector.adapter, alias))
    name = VersionName(selector.tenant, selector.adapter, str(row.version))
    return existing_version(call, name), alias


def _check_base_model(request: pb.ResolveAdapterRequest, version: VersionRow) -> None:
    made_for = BaseModelName(version.base_model_id)
    if request.base_model:
        asked = BaseModelName.parse(request.base_model, "base_model")
        if asked != made_for:
            raise _mismatch(str(made_for), str(asked))
    if request.base_model_revision not in ("", version.base_model_revision):
        raise _mismatch(
            f"{made_for} at revision {version.base_model_revision!r}",
            f"revision {request.base_model_revision[:80]!r}",
        )


def _mismatch(made_for: str, asked: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"the adapter was made for {made_for}, not for {asked}: send it to a server of that model",
        reason="BASE_MODEL_MISMATCH",
        metadata={"made_for": made_for, "asked_for": asked},
    )
