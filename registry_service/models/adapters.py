"""Base models; adapters with their versions, aliases and allow-lists."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Integer, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from registry_service.models.base import Base


class BaseModelRow(Base):
    __tablename__ = "base_models"
    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    display_name: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    known_as: Mapped[list[str]]
    revision: Mapped[str] = mapped_column(Text)
    config_digest: Mapped[str] = mapped_column(String(80))
    config_json: Mapped[str] = mapped_column(Text)
    create_time: Mapped[datetime]


class AdapterRow(Base):
    """`num_versions` is the counter versions are numbered from; it never goes back.

    `is_shared`: every tenant may use it.
    """

    __tablename__ = "adapters"
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    base_model_id: Mapped[str] = mapped_column(ForeignKey("base_models.id"), index=True)
    display_name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    labels: Mapped[dict[str, str]]
    profile: Mapped[dict[str, Any]]
    num_versions: Mapped[int]
    generation: Mapped[int]
    policy_generation: Mapped[int]
    create_time: Mapped[datetime]
    update_time: Mapped[datetime]
    policy_update_time: Mapped[datetime]
    is_shared: Mapped[bool] = mapped_column(default=False, server_default=false())
    delete_time: Mapped[datetime | None]
    aliases: Mapped[list["AliasRow"]] = relationship(order_by="AliasRow.id", viewonly=True)
    allowed_tenants: Mapped[list["AllowedTenantRow"]] = relationship(
        order_by="AllowedTenantRow.allowed_tenant_id", viewonly=True
    )
    warm_aliases: Mapped[list["WarmAliasRow"]] = relationship(
        order_by="WarmAliasRow.alias_id", viewonly=True
    )


class VersionRow(Base):
    """Immutable but for `delete_time` and `purge_time`, when its bytes were given up."""

    __tablename__ = "versions"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "adapter_id"], ["adapters.tenant_id", "adapters.id"]),
    )
    tenant_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    adapter_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(80))
    files: Mapped[list[dict[str, Any]]]
    rank: Mapped[int] = mapped_column(Integer)
    target_modules: Mapped[list[str]]
    base_model_id: Mapped[str] = mapped_column(ForeignKey("base_models.id"), index=True)
    base_model_revision: Mapped[str] = mapped_column(Text)
    num_parameters: Mapped[int]
    size_bytes: Mapped[int]
    storage_path: Mapped[str] = mapped_column(Text, index=True)
    created_by: Mapped[str] = mapped_column(String(160))
    create_time: Mapped[datetime]
    delete_time: Mapped[datetime | None]
    profile: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    labels: Mapped[dict[str, str]] = mapped_column(default=dict, server_default="{}")
    base_model_config_digest: Mapped[str] = mapped_column(String(80), default="", server_default="")
    purge_time: Mapped[datetime | None]


class AliasRow(Base):
    __tablename__ = "aliases"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "adapter_id"], ["adapters.tenant_id", "adapters.id"]),
        ForeignKeyConstraint(
            ["tenant_id", "adapter_id", "version"],
            ["versions.tenant_id", "versions.adapter_id", "versions.number"],
        ),
    )
    tenant_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    adapter_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    version: Mapped[int]
    update_time: Mapped[datetime]


class AllowedTenantRow(Base):
    """One line of an allow-list. The owner is never listed: it always may."""

    __tablename__ = "allowed_tenants"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "adapter_id"], ["adapters.tenant_id", "adapters.id"]),
    )
    tenant_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    adapter_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    allowed_tenant_id: Mapped[str] = mapped_column(
        ForeignKey("tenants.id"), primary_key=True, index=True
    )


class WarmAliasRow(Base):
    """An alias whose version inference services keep loaded; it need not exist yet."""

    __tablename__ = "warm_aliases"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "adapter_id"],
            ["adapters.tenant_id", "adapters.id"],
            ondelete="CASCADE",
        ),
    )
    tenant_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    adapter_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    alias_id: Mapped[str] = mapped_column(String(63), primary_key=True)
