"""What the service keeps about its own work: counters, secrets, request ids, changes, audit."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from registry_service.models.base import Base

# SQLite numbers rows by itself only for a column that is exactly INTEGER.
_AutoNumber = BigInteger().with_variant(Integer, "sqlite")


class CounterRow(Base):
    """Gap-free numbers: the row's lock is held until the transaction that took one commits."""

    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[int]


class ServerSecretRow(Base):
    """Keys the service makes for itself, shared by every replica on one database."""

    __tablename__ = "server_secrets"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class IdempotencyRow(Base):
    """What a request id created, so that a retry gets the same resource."""

    __tablename__ = "idempotency"
    principal: Mapped[str] = mapped_column(String(160), primary_key=True)
    method: Mapped[str] = mapped_column(String(64), primary_key=True)
    request_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    resource: Mapped[str] = mapped_column(Text)
    create_time: Mapped[datetime]


class ChangeRow(Base):
    """The change feed; `revision` has no gaps and grows in commit order."""

    __tablename__ = "changes"
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    resource: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(64))
    time: Mapped[datetime]


class AuditRow(Base):
    """Only ever added: triggers refuse any other change."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index(None, "resource", "id"),
        Index(None, "principal", "id"),
        Index(None, "action", "id"),
    )
    id: Mapped[int] = mapped_column(_AutoNumber, primary_key=True)
    time: Mapped[datetime] = mapped_column(index=True)
    principal: Mapped[str] = mapped_column(String(160))
    action: Mapped[str] = mapped_column(String(64))
    resource: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(String(16))
    detail: Mapped[dict[str, Any]]
    request_id: Mapped[str] = mapped_column(Text, default="", server_default="", index=True)
    peer: Mapped[str] = mapped_column(Text, default="", server_default="")
    before: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    after: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
