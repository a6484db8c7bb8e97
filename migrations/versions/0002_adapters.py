"""Base models, adapters, versions, aliases, allow-lists and uploads.

Revision ID: 0002
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TIME = sa.DateTime(timezone=True)
# In the order they are created: what is referred to before what refers.
_TABLES = ("base_models", "adapters", "allowed_tenants", "uploads", "versions", "aliases")


def upgrade() -> None:
    _create_base_models()
    _create_adapters()
    _create_allowed_tenants()
    _create_uploads()
    _create_versions()
    _create_aliases()


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(table)


def _create_base_models() -> None:
    op.create_table(
        "base_models",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("known_as", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("config_digest", sa.String(length=80), nullable=False),
        sa.Column("config_json", sa.Text(), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_base_models")),
    )


def _create_adapters() -> None:
    op.create_table(
        "adapters",
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("base_model_id", sa.String(length=63), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("profile", sa.JSON(), nullable=False),
        sa.Column("num_versions", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("policy_generation", sa.BigInteger(), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("policy_update_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["base_model_id"], ["base_models.id"], name=op.f("fk_adapters_base_model_id")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_adapters_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_adapters")),
    )
    op.create_index(op.f("ix_adapters_base_model_id"), "adapters", ["base_model_id"])


def _create_allowed_tenants() -> None:
    op.create_table(
        "allowed_tenants",
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("adapter_id", sa.String(length=63), nullable=False),
        sa.Column("allowed_tenant_id", sa.String(length=63), nullable=False),
        sa.ForeignKeyConstraint(
            ["allowed_tenant_id"], ["tenants.id"], name=op.f("fk_allowed_tenants_allowed_tenant_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "adapter_id"],
            ["adapters.tenant_id", "adapters.id"],
            name=op.f("fk_allowed_tenants_tenant_id_adapter_id"),
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "adapter_id", "allowed_tenant_id", name=op.f("pk_allowed_tenants")
        ),
    )
    op.create_index(
        op.f("ix_allowed_tenants_allowed_tenant_id"), "allowed_tenants", ["allowed_tenant_id"]
    )


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("adapter_id", sa.String(length=63), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("aliases", sa.JSON(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("expire_time", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "adapter_id"],
            ["adapters.tenant_id", "adapters.id"],
            name=op.f("fk_uploads_tenant_id_adapter_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index(op.f("ix_uploads_tenant_id_adapter_id"), "uploads", ["tenant_id", "adapter_id"])


def _create_versions() -> None:
    op.create_table(
        "versions",
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("adapter_id", sa.String(length=63), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("target_modules", sa.JSON(), nullable=False),
        sa.Column("base_model_id", sa.String(length=63), nullable=False),
        sa.Column("base_model_revision", sa.Text(), nullable=False),
        sa.Column("num_parameters", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("storage_path", sa.Text(), nullable=False),
        sa.Column("created_by", sa.String(length=160), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["base_model_id"], ["base_models.id"], name=op.f("fk_versions_base_model_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "adapter_id"],
            ["adapters.tenant_id", "adapters.id"],
            name=op.f("fk_versions_tenant_id_adapter_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "adapter_id", "number", name=op.f("pk_versions")),
    )
    op.create_index(op.f("ix_versions_base_model_id"), "versions", ["base_model_id"])


def _create_aliases() -> None:
    op.create_table(
        "aliases",
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("adapter_id", sa.String(length=63), nullable=False),
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "adapter_id", "version"],
            ["versions.tenant_id", "versions.adapter_id", "versions.number"],
            name=op.f("fk_aliases_tenant_id_adapter_id_version"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "adapter_id"],
            ["adapters.tenant_id", "adapters.id"],
            name=op.f("fk_aliases_tenant_id_adapter_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "adapter_id", "id", name=op.f("pk_aliases")),
    )
