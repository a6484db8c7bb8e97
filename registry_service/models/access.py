"""Tenants, principals, their grants and API keys."""

from datetime import datetime

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from registry_service.models.base import Base


class TenantRow(Base):
    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    display_name: Mapped[str] = mapped_column(Text)
    create_time: Mapped[datetime]


class PrincipalRow(Base):
    __tablename__ = "principals"
    tenant_id: Mapped[str] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    display_name: Mapped[str] = mapped_column(Text)
    create_time: Mapped[datetime]
    grants: Mapped[list["GrantRow"]] = relationship(
        order_by="(GrantRow.permission, GrantRow.scope)",
        cascade="all, delete-orphan",
        passive_deletes=True,
        lazy="selectin",
    )


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
