"""Secrets the service makes once and keeps, so that replicas and restarts agree on them."""

import secrets

from sqlalchemy.orm import Session

from registry_service.models import ServerSecretRow


def get_or_create(session: Session, name: str) -> bytes:
    row = session.get(ServerSecretRow, name)
    if row is None:
        row = ServerSecretRow(name=name, value=secrets.token_hex(32))
        session.add(row)
        session.flush()
    return bytes.fromhex(row.value)
