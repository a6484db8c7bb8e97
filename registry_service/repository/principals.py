"""Principals, their grants and their API keys."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from lorikeet.rpc.names import PrincipalName
from lorikeet.rpc.server import invalid_credential
from registry_service.access import Caller, Grant, secret_matches, split_api_key
from registry_service.models import ApiKeyRow, GrantRow, PrincipalRow


def authenticate(session: Session, api_key: str) -> Caller:
    """The owner of a valid key; one UNAUTHENTICATED for malformed, unknown, wrong and expired."""
    parts = split_api_key(api_key)
    if parts is None:
        raise invalid_credential()
    key_id, secret = parts
    row = session.get(ApiKeyRow, key_id) if key_id.isascii() and key_id.isalnum() else None
    if not secret_matches(secret, row.secret_hash if row else None) or row is None:
        raise invalid_credential()
    if row.expire_time is not None and row.expire_time <= datetime.now(UTC):
        raise invalid_credential()
    return _caller(session, row)


def _caller(session: Session, row: ApiKeyRow) -> Caller:
    grants = session.execute(
        select(GrantRow.permission, GrantRow.scope).where(
            GrantRow.tenant_id == row.tenant_id, GrantRow.principal_id == row.principal_id
        )
    )
    return Caller(
        name=PrincipalName(row.tenant_id, row.principal_id),
        grants=frozenset(Grant(permission, scope) for permission, scope in grants),
    )


def get(session: Session, name: PrincipalName) -> PrincipalRow | None:
    return session.get(PrincipalRow, (name.tenant, name.principal))


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
