"""Principals, their grants and their API keys."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from lorikeet.rpc.credentials import invalid_credential
from lorikeet.rpc.names import ApiKeyName, PrincipalName
from registry_service.access import USE, Caller, Grant, secret_matches, split_api_key
from registry_service.credentials import Credential, CredentialKind
from registry_service.models import ApiKeyRow, GrantRow, PrincipalRow, SubjectRow, TenantRow

# Names of callers that no principal stands for: no principal may be given one.
TOKEN_USER_PREFIX = "jwt."
_TOKEN_USER_DIGITS = 32


def authenticate(session: Session, credential: Credential) -> Caller:
    """Who presents it; one UNAUTHENTICATED for malformed, unknown, wrong, expired and ambiguous."""
    if credential.kind is CredentialKind.API_KEY:
        return _owner_of_key(session, credential.value)
    found = _known_by(session, credential.subjects)
    if len(found) == 1:
        subject, name = found[0]
        grants, expire_time = _grants(session, name), credential.expire_time
        return Caller(name, grants, subject=subject, expire_time=expire_time)
    if not found and session.get(TenantRow, credential.tenant) is not None:
        return _plain_user(credential)
    # Several principals: whom a certificate means must not depend on the order of its names.
    raise invalid_credential()


def _owner_of_key(session: Session, api_key: str) -> Caller:
    parts = split_api_key(api_key)
    if parts is None:
        raise invalid_credential()
    key_id, secret = parts
    row = session.get(ApiKeyRow, key_id) if key_id.isascii() and key_id.isalnum() else None
    if not secret_matches(secret, row.secret_hash if row else None) or row is None:
        raise invalid_credential()
    if row.expire_time is not None and row.expire_time <= datetime.now(UTC):
        raise invalid_credential()
    name = PrincipalName(row.tenant_id, row.principal_id)
    key = ApiKeyName(row.tenant_id, key_id)
    return Caller(name, _grants(session, name), api_key=key, expire_time=row.expire_time)


def _known_by(session: Session, subjects: Sequence[str]) -> list[tuple[str, PrincipalName]]:
    """Principals that go by any of these, each with one of the subjects that say so."""
    rows = session.scalars(
        select(SubjectRow).where(SubjectRow.subject.in_(subjects)).order_by(SubjectRow.subject)
    )
    found = {PrincipalName(row.tenant_id, row.principal_id): row.subject for row in rows}
    return [(subject, name) for name, subject in found.items()]


def _plain_user(credential: Credential) -> Caller:
    """Someone the token's issuer knows and we do not: may use what its tenant may use."""
    tenant, subject = credential.tenant, credential.value
    digest = hashlib.sha256(subject.encode()).hexdigest()[:_TOKEN_USER_DIGITS]
    name = PrincipalName(tenant, f"{TOKEN_USER_PREFIX}{digest}")
    grants = frozenset({Grant(USE, f"tenants/{tenant}")})
    return Caller(name, grants, subject=subject, expire_time=credential.expire_time)


def _grants(session: Session, name: PrincipalName) -> frozenset[Grant]:
    grants = session.execute(
        select(GrantRow.permission, GrantRow.scope).where(
            GrantRow.tenant_id == name.tenant, GrantRow.principal_id == name.principal
        )
    )
    return frozenset(Grant(permission, scope) for permission, scope in grants)


def get(session: Session, name: PrincipalName) -> PrincipalRow | None:
    return session.get(PrincipalRow, (name.tenant, name.principal))


def lock(session: Session, name: PrincipalName) -> PrincipalRow | None:
    """The principal as it is now, held until the transaction ends."""
    return session.scalars(
        select(PrincipalRow)
        .where(PrincipalRow.tenant_id == name.tenant, PrincipalRow.id == name.principal)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()


def list_after(
    session: Session, tenant: str, after: str | None, limit: int
) -> Sequence[PrincipalRow]:
    query = select(PrincipalRow).where(PrincipalRow.tenant_id == tenant)
    if after is not None:
        query = query.where(PrincipalRow.id > after)
    return session.scalars(query.order_by(PrincipalRow.id).limit(limit)).all()


def add(
    session: Session, name: PrincipalName, display_name: str, grants: Iterable[Grant]
) -> PrincipalRow:
    row = PrincipalRow(
        tenant_id=name.tenant,
        id=name.principal,
        display_name=display_name,
        create_time=datetime.now(UTC),
    )
    session.add(row)
    replace_grants(session, row, grants)
    return row


def replace_grants(session: Session, row: PrincipalRow, grants: Iterable[Grant]) -> None:
    # Deleted first: SQLAlchemy would otherwise insert before it deletes an equal grant.
    row.grants.clear()
    session.flush()
    row.grants.extend(
        GrantRow(permission=grant.permission, scope=grant.scope) for grant in set(grants)
    )
    session.flush()


def replace_subjects(session: Session, row: PrincipalRow, subjects: Iterable[str]) -> None:
    row.subjects.clear()
    session.flush()
    row.subjects.extend(SubjectRow(subject=subject) for subject in sorted(subjects))
    session.flush()


def taken_subjects(session: Session, name: PrincipalName, subjects: Sequence[str]) -> Sequence[str]:
    """Those of `subjects` that mean a principal other than `name`."""
    found = session.scalars(
        select(SubjectRow).where(SubjectRow.subject.in_(subjects)).order_by(SubjectRow.subject)
    )
    return [
        row.subject
        for row in found
        if (row.tenant_id, row.principal_id) != (name.tenant, name.principal)
    ]


def list_keys_after(
    session: Session, tenant: str, after: str | None, limit: int
) -> Sequence[ApiKeyRow]:
    query = select(ApiKeyRow).where(ApiKeyRow.tenant_id == tenant)
    if after is not None:
        query = query.where(ApiKeyRow.id > after)
    return session.scalars(query.order_by(ApiKeyRow.id).limit(limit)).all()


def add_key(
    session: Session,
    principal: PrincipalName,
    key_id: str,
    secret_hash: str,
    expire_time: datetime | None,
) -> ApiKeyRow:
    row = ApiKeyRow(
        id=key_id,
        tenant_id=principal.tenant,
        principal_id=principal.principal,
        secret_hash=secret_hash,
        create_time=datetime.now(UTC),
        expire_time=expire_time,
    )
    session.add(row)
    session.flush()
    return row
