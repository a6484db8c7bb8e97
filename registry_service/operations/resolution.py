"""Resolution: may this tenant use this adapter, and which version is meant. The hot path.

What the database says (`read_facts`) and what follows from it (`decide`) are kept apart, so that an
answer from memory is decided exactly as one from the database.
"""

from dataclasses import dataclass

from sqlalchemy.orm import Session

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
from registry_service.access import EVERY_TENANT, Caller, check_may_speak_for, may_use
from registry_service.calls import Call
from registry_service.messages import LATEST, profile_message, version_message
from registry_service.models import AdapterRow
from registry_service.operations.versions import alias_absent, version_absent
from registry_service.repository import adapters, resolution, tenants
from registry_service.repository.resolution import Found

Selector = AdapterName | AliasName | VersionName


@dataclass(frozen=True)
class Asked:
    """Whose use of what is asked about."""

    tenant: TenantName
    selector: Selector

    @property
    def adapter(self) -> AdapterName:
        return AdapterName(self.selector.tenant, self.selector.adapter)


@dataclass(frozen=True)
class Chosen:
    """A live version, as its messages; they are shared and never changed."""

    version: pb.AdapterVersion
    profile: pb.AdapterProfile
    alias: str


@dataclass(frozen=True)
class Facts:
    """What one moment of the database says about one `Asked`.

    `allowed` has the asking tenant, or "*", if the allow-list does. `choice` is an error when the
    adapter has no such version.
    """

    revision: int
    is_live: bool
    allowed: frozenset[str]
    choice: Chosen | NotFoundError


def parse_asked(request: pb.ResolveAdapterRequest) -> Asked:
    return Asked(TenantName.parse(request.tenant, "tenant"), parse_adapter_selector(request.name))


def read_facts(session: Session, asked: Asked) -> Facts:
    selector = asked.selector
    if isinstance(selector, AdapterName):
        selector = AliasName(selector.tenant, selector.adapter, LATEST)
    found = resolution.find(session, asked.tenant, selector)
    listed = EVERY_TENANT if found.is_shared else asked.tenant.tenant
    allowed = frozenset({listed}) if found.is_listed else frozenset[str]()
    return Facts(found.revision, found.is_live, allowed, _choose(selector, found))


def decide(
    caller: Caller, asked: Asked, request: pb.ResolveAdapterRequest, facts: Facts
) -> pb.ResolveAdapterResponse:
    """The answer to this caller; raises what it must not be answered with."""
    check_usable(caller, asked.tenant, asked.adapter, facts.is_live, facts.allowed)
    choice = facts.choice
    if isinstance(choice, NotFoundError):
        raise choice
    _check_base_model(request, choice.version)
    return pb.ResolveAdapterResponse(
        version=choice.version,
        profile=choice.profile,
        revision=facts.revision,
        alias=choice.alias,
    )


def check_usable(
    caller: Caller, tenant: TenantName, name: AdapterName, is_live: bool, allowed: frozenset[str]
) -> None:
    """One refusal for absent, deleted and forbidden."""
    check_may_speak_for(caller, tenant.tenant, str(name))
    if not is_live or not may_use(caller, tenant.tenant, name.tenant, allowed):
        raise permission_denied("adapters.use", str(name))


def usable(call: Call, tenant: TenantName, name: AdapterName) -> AdapterRow:
    """A live adapter that `tenant` may use; one answer for absent, forbidden and deleted."""
    row = adapters.get(call.session, name)
    allowed = frozenset() if row is None else _listed(call.session, row, tenant)
    is_live = row is not None and row.delete_time is None
    check_usable(call.caller, tenant, name, is_live, allowed)
    assert row is not None, "an adapter that is not there is not usable"
    return row


def _listed(session: Session, row: AdapterRow, tenant: TenantName) -> frozenset[str]:
    """Of the allow-list, what concerns `tenant`."""
    if not row.is_shared:
        listed = adapters.is_listed(session, row, tenant.tenant)
        return frozenset({tenant.tenant}) if listed else frozenset()
    # An agent may name any tenant, but "*" lists only those that there are.
    there_is = tenants.get(session, tenant.tenant) is not None
    return frozenset({EVERY_TENANT}) if there_is else frozenset()


def _choose(selector: AliasName | VersionName, found: Found) -> Chosen | NotFoundError:
    adapter = AdapterName(selector.tenant, selector.adapter)
    number, alias = found.aliased, ""
    if isinstance(selector, VersionName):
        number = selector.version
    else:
        alias = selector.alias
    if number is None:
        return _no_alias(adapter, alias)
    row = found.version
    if row is None or row.delete_time is not None:
        name = VersionName(adapter.tenant, adapter.adapter, str(number))
        return version_absent(name, row)
    return Chosen(version_message(row), profile_message(row), alias)


def _no_alias(adapter: AdapterName, alias: str) -> NotFoundError:
    if alias != LATEST:
        return alias_absent(AliasName(adapter.tenant, adapter.adapter, alias))
    return NotFoundError(
        f"{adapter} has no version yet: upload one",
        reason="VERSION_NOT_FOUND",
        metadata={"resource": str(adapter)},
    )


def _check_base_model(request: pb.ResolveAdapterRequest, version: pb.AdapterVersion) -> None:
    if request.base_model:
        asked = str(BaseModelName.parse(request.base_model, "base_model"))
        if asked != version.base_model:
            raise _mismatch(version.base_model, asked)
    for field, of in (
        ("base_model_revision", "revision"),
        ("base_model_config_digest", "config digest"),
    ):
        wanted, made_for = getattr(request, field), getattr(version, field)
        if wanted not in ("", made_for):
            raise _mismatch(f"{version.base_model} at {of} {made_for!r}", f"{of} {wanted[:80]!r}")


def _mismatch(made_for: str, asked: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"the adapter was made for {made_for}, not for {asked}: send it to a server of that model",
        reason="BASE_MODEL_MISMATCH",
        metadata={"made_for": made_for, "asked_for": asked},
    )
