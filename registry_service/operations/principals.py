"""Principals: what they may do and what they are known by; administrators write, auditors read."""

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.empty_pb2 import Empty

from lorikeet.rpc.credentials import is_subject
from lorikeet.rpc.errors import AlreadyExistsError, FailedPreconditionError
from lorikeet.rpc.names import PrincipalName, TenantName, check_identifier
from protos import registry_pb2 as pb
from registry_service.access import ADMIN, EVERY_TENANT, PERMISSIONS, Grant
from registry_service.calls import Call
from registry_service.messages import principal_etag, principal_message
from registry_service.models import PrincipalRow
from registry_service.operations.changed import check_etag, difference
from registry_service.operations.tenants import MAX_DISPLAY_NAME, existing_tenant
from registry_service.repository import principals, tenants
from registry_service.repository.idempotency import once
from registry_service.requests import FieldPaths, allow_only, check_text, check_texts, invalid

_MAX_GRANTS = 1000
_MAX_SUBJECTS = 32
_MAX_SUBJECT = 300
_PATHS = FieldPaths("principal", {"display_name": (), "subjects": ()})


def create_principal(call: Call, request: pb.CreatePrincipalRequest) -> pb.Principal:
    tenant = TenantName.parse(request.parent, "parent")
    call.require_admin(str(tenant))
    name = PrincipalName(tenant.tenant, _checked_identifier(request.principal_id))
    allow_only(request.principal, {"display_name", "grants", "subjects"}, "principal")

    def create() -> tuple[str, PrincipalRow]:
        existing_tenant(call, tenant)
        if principals.get(call.session, name) is not None:
            raise AlreadyExistsError(f"{name} exists already", metadata={"resource": str(name)})
        grants = _checked_grants(call, request.principal.grants, "principal.grants")
        row = principals.add(call.session, name, "", grants)
        _apply(call, row, request.principal, _PATHS.all())
        call.record("principals.create", name, after=_described(row))
        return str(name), row

    row = once(
        call.session,
        str(call.caller.name),
        request,
        create,
        lambda resource: _existing_principal(call, PrincipalName.parse(resource)),
    )
    return principal_message(row)


def get_principal(call: Call, request: pb.GetPrincipalRequest) -> pb.Principal:
    name = PrincipalName.parse(request.name)
    call.require_auditor(name.tenant, str(name))
    return principal_message(_existing_principal(call, name))


def list_principals(call: Call, request: pb.ListPrincipalsRequest) -> pb.ListPrincipalsResponse:
    tenant = TenantName.parse(request.parent, "parent")
    call.require_auditor(tenant.tenant, str(tenant))
    existing_tenant(call, tenant)
    page = call.pages.page(
        request,
        ["principals", tenant],
        lambda after, limit: principals.list_after(call.session, tenant.tenant, after, limit),
        lambda row: row.id,
    )
    return pb.ListPrincipalsResponse(
        principals=[principal_message(row) for row in page.rows],
        next_page_token=page.next_page_token,
    )


def update_principal(call: Call, request: pb.UpdatePrincipalRequest) -> pb.Principal:
    """Its name for people, and what else it is known by; see SetGrants for what it may do."""
    name = PrincipalName.parse(request.principal.name, "principal.name")
    call.require_admin(str(name))
    paths = _PATHS.of(request.principal, request.update_mask)
    row = _locked_principal(call, name)
    check_etag(principal_etag(row), request.principal.etag, "the principal")
    before = _described(row)
    _apply(call, row, request.principal, paths)
    row.generation += 1
    call.session.flush()
    call.record("principals.update", name, **difference(before, _described(row)))
    return principal_message(row)


def delete_principal(call: Call, request: pb.DeletePrincipalRequest) -> Empty:
    """Deletes the principal; its keys and subjects stop working with it."""
    name = PrincipalName.parse(request.name)
    call.require_admin(str(name))
    row = _locked_principal(call, name)
    if name == call.caller.name:
        raise FailedPreconditionError(
            f"{name} is yourself: deleting it would lock you out", reason="OWN_PRINCIPAL"
        )
    before = _described(row)
    call.session.delete(row)
    call.record("principals.delete", name, before=before)
    return Empty()


def set_grants(call: Call, request: pb.SetGrantsRequest) -> pb.Principal:
    name = PrincipalName.parse(request.principal, "principal")
    call.require_admin(str(name))
    grants = _checked_grants(call, request.grants, "grants")
    row = _locked_principal(call, name)
    check_etag(principal_etag(row), request.etag, "the principal")
    if name == call.caller.name and Grant(ADMIN, EVERY_TENANT) not in grants:
        raise FailedPreconditionError(
            f"{name} is yourself: giving up administration would lock you out",
            reason="OWN_PRINCIPAL",
        )
    before = _described(row)
    principals.replace_grants(call.session, row, grants)
    row.generation += 1
    call.session.flush()
    call.record("principals.setGrants", name, **difference(before, _described(row)))
    return principal_message(row)


def _existing_principal(call: Call, name: PrincipalName) -> PrincipalRow:
    row = principals.get(call.session, name)
    if row is None:
        raise call.absent("admin", str(name))
    return row


def _locked_principal(call: Call, name: PrincipalName) -> PrincipalRow:
    row = principals.lock(call.session, name)
    if row is None:
        raise call.absent("admin", str(name))
    return row


def _checked_identifier(identifier: str) -> str:
    if identifier.startswith(principals.TOKEN_USER_PREFIX):
        raise invalid(
            "principal_id",
            f"'{principals.TOKEN_USER_PREFIX}' begins the names of callers without a principal",
        )
    return check_identifier(identifier, "principal_id")


def _apply(call: Call, row: PrincipalRow, message: pb.Principal, paths: Iterable[str]) -> None:
    if "display_name" in paths:
        field = "principal.display_name"
        row.display_name = check_text(message.display_name, field, MAX_DISPLAY_NAME)
    if "subjects" in paths:
        subjects = _checked_subjects(call, row, message.subjects)
        principals.replace_subjects(call.session, row, subjects)


def _checked_subjects(call: Call, row: PrincipalRow, subjects: Sequence[str]) -> set[str]:
    field = "principal.subjects"
    for index, subject in enumerate(check_texts(subjects, field, _MAX_SUBJECTS, _MAX_SUBJECT)):
        if not is_subject(subject):
            raise invalid(
                f"{field}[{index}]",
                "must be spiffe://<trust domain>/<path>, dns:<lower-case name> or jwt:<subject>",
            )
    name = PrincipalName(row.tenant_id, row.id)
    for subject in principals.taken_subjects(call.session, name, subjects):
        raise AlreadyExistsError(
            f"{subject} means another principal already", metadata={"subject": subject}
        )
    return set(subjects)


def _checked_grants(call: Call, grants: Sequence[pb.Grant], field: str) -> set[Grant]:
    if len(grants) > _MAX_GRANTS:
        raise invalid(field, f"has {len(grants)} grants: at most {_MAX_GRANTS} are allowed")
    checked = {_checked_grant(g, f"{field}[{i}]") for i, g in enumerate(grants)}
    scopes = [g.scope.removeprefix("tenants/") for g in checked if g.scope != EVERY_TENANT]
    for tenant in tenants.missing(call.session, scopes):
        raise invalid(field, f"tenants/{tenant} does not exist: create it first")
    return checked


def _checked_grant(grant: pb.Grant, field: str) -> Grant:
    if grant.permission not in PERMISSIONS:
        raise invalid(f"{field}.permission", "is missing or unknown")
    if grant.scope != EVERY_TENANT:
        TenantName.parse(grant.scope, f"{field}.scope")
        if grant.permission == ADMIN:
            raise invalid(f"{field}.scope", 'must be "*": an administrator has every tenant')
    return Grant(int(grant.permission), grant.scope)


def _described(row: PrincipalRow) -> dict[str, Any]:
    return {
        "display_name": row.display_name,
        "grants": sorted(f"{pb.Permission.Name(g.permission)} {g.scope}" for g in row.grants),
        "subjects": sorted(subject.subject for subject in row.subjects),
    }
