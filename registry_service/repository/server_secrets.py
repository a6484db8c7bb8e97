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


class ChangedSettingError(Exception):
    """A database that was used with one value is now used with another."""

    def __init__(self, name: str, remembered: str, given: str) -> None:
        super().__init__(f"{name} was {remembered!r} and is now {given!r}")
        self.remembered = remembered
        self.given = given


def remember_or_check(session: Session, name: str, value: str) -> None:
    """Remembers `value` for as long as the database lives; ChangedSettingError for another one."""
    row = session.get(ServerSecretRow, name)
    if row is None:
        session.add(ServerSecretRow(name=name, value=value))
        session.flush()
    elif row.value != value:
        raise ChangedSettingError(name, row.value, value)
