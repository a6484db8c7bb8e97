"""Tenants and their quotas; principals, their grants, subjects and API keys."""

from datetime import datetime

from sqlalchemy import Double, ForeignKey, ForeignKeyConstraint, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from registry_service.models.base import Base


class TenantRow(Base):
    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    display_name: Mapped[str] = mapped_column(Text)
    create_time: Mapped[datetime]
    generation: Mapped[int] = mapped_column(default=1, server_default="1")
    max_bytes: Mapped[int | None]
    max_adapters: Mapped[int | None]
    max_versions: Mapped[int | None]
    max_rank: Mapped[int | None]
    serving_weight: Mapped[float | None] = mapped_column(Double)
    max_concurrent_requests: Mapped[int | None]
    max_requests_per_minute: Mapped[int | None]
    max_tokens_per_minute: Mapped[int | None]


class PrincipalRow(Base):
    __tablename__ = "principals"
    tenant_id: Mapped[str] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    display_name: Mapped[str] = mapped_column(Text)
    create_time: Mapped[datetime]
    generation: Mapped[int] = mapped_column(default=1, server_default="1")
    grants: Mapped[list["GrantRow"]] = relationship(
        order_by="(GrantRow.permission, GrantRow.scope)",
        cascade="all, delete-orphan",
        passive_deletes=True,
        lazy="selectin",
    )
    subjects: Mapped[list["SubjectRow"]] = relationship(
        order_by="SubjectRow.subject",
        cascade="all, delete-orphan",
        passive_deletes=True,
        lazy="selectin",
    )


class SubjectRow(Base):
    """What else a principal is known by: a certificate's SAN or a token's subject."""

    __tablename__ = "principal_subjects"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "principal_id"],
            ["principals.tenant_id", "principals.id"],
            ondelete="CASCADE",
        ),
        Index(None, "tenant_id", "principal_id"),
    )
    subject: Mapped[str] = mapped_column(String(300), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(63))
    principal_id: Mapped[str] = mapped_column(String(63))


class GrantRow(Base):
    __tablename__ = "grants"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "principal_id"],
            ["principals.tenant_id", "principals.id"],
            ondelete="CASCADE",
        ),
    )
    tenant_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    principal_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    permission: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    scope: Mapped[str] = mapped_column(String(80), primary_key=True)


class ApiKeyRow(Base):
    """Only a hash of the secret is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "principal_id"],
            ["principals.tenant_id", "principals.id"],
            ondelete="CASCADE",
        ),
        Index(None, "tenant_id", "principal_id"),
    )
    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(63))
    principal_id: Mapped[str] = mapped_column(String(63))
    secret_hash: Mapped[str] = mapped_column(String(64))
    create_time: Mapped[datetime]
    expire_time: Mapped[datetime | None]
