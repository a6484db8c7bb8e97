"""Quotas, subjects, shared adapters, version profiles, chunked uploads, blobs, richer audit.

Columns are added in place, with defaults: rebuilding a table that others refer to would make SQLite
delete what refers to it.

Revision ID: 0003
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | Sequence[str] | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TIME = sa.DateTime(timezone=True)


def _columns() -> list[tuple[str, sa.Column[object]]]:
    """New each time: a Column belongs to the operation it was given to."""
    return [
        ("tenants", sa.Column("generation", sa.BigInteger(), nullable=False, server_default="1")),
        ("tenants", sa.Column("max_bytes", sa.BigInteger(), nullable=True)),
        ("tenants", sa.Column("max_adapters", sa.BigInteger(), nullable=True)),
        ("tenants", sa.Column("max_versions", sa.BigInteger(), nullable=True)),
        ("tenants", sa.Column("max_rank", sa.BigInteger(), nullable=True)),
        (
            "principals",
            sa.Column("generation", sa.BigInteger(), nullable=False, server_default="1"),
        ),
        (
            "adapters",
            sa.Column("is_shared", sa.Boolean(), nullable=False, server_default=sa.false()),
        ),
        ("versions", sa.Column("profile", sa.JSON(), nullable=False, server_default="{}")),
        ("versions", sa.Column("labels", sa.JSON(), nullable=False, server_default="{}")),
        (
            "versions",
            sa.Column("base_model_config_digest", sa.String(80), nullable=False, server_default=""),
        ),
        ("versions", sa.Column("purge_time", _TIME, nullable=True)),
        ("audit_events", sa.Column("request_id", sa.Text(), nullable=False, server_default="")),
        ("audit_events", sa.Column("peer", sa.Text(), nullable=False, server_default="")),
        ("audit_events", sa.Column("before", sa.JSON(), nullable=False, server_default="{}")),
        ("audit_events", sa.Column("after", sa.JSON(), nullable=False, server_default="{}")),
    ]


def upgrade() -> None:
    for table, column in _columns():
        op.add_column(table, column)
    _create_principal_subjects()
    _create_upload_chunks()
    _create_blobs()
    _fill_versions()


def downgrade() -> None:
    op.drop_index(op.f("ix_versions_storage_path"), "versions")
    for name in ("blobs", "upload_chunks", "principal_subjects"):
        op.drop_table(name)
    for table, column in reversed(_columns()):
        op.drop_column(table, column.name)


def _create_principal_subjects() -> None:
    op.create_table(
        "principal_subjects",
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("principal_id", sa.String(length=63), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "principal_id"],
            ["principals.tenant_id", "principals.id"],
            name=op.f("fk_principal_subjects_tenant_id_principal_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_principal_subjects")),
    )
    op.create_index(
        op.f("ix_principal_subjects_tenant_id_principal_id"),
        "principal_subjects",
        ["tenant_id", "principal_id"],
    )


def _create_upload_chunks() -> None:
    op.create_table(
        "upload_chunks",
        sa.Column("upload_id", sa.String(length=63), nullable=False),
        sa.Column("file_name", sa.String(length=120), nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"],
            ["uploads.id"],
            name=op.f("fk_upload_chunks_upload_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("upload_id", "file_name", "offset", name=op.f("pk_upload_chunks")),
    )


def _create_blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("storage_path", sa.String(length=200), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("touch_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("storage_path", name=op.f("pk_blobs")),
    )
    op.create_index(op.f("ix_blobs_tenant_id"), "blobs", ["tenant_id"])
    op.create_index(op.f("ix_versions_storage_path"), "versions", ["storage_path"])


def _fill_versions() -> None:
    """Versions that exist take their adapter's profile; their bytes get rows."""
    op.execute(
        "UPDATE versions SET"
        " profile = (SELECT profile FROM adapters WHERE adapters.tenant_id = versions.tenant_id"
        " AND adapters.id = versions.adapter_id),"
        " base_model_config_digest = (SELECT config_digest FROM base_models"
        " WHERE base_models.id = versions.base_model_id)"
    )
    op.execute(
        "INSERT INTO blobs (storage_path, tenant_id, size_bytes, state, touch_time)"
        " SELECT storage_path, min(tenant_id), max(size_bytes), 'stored', max(create_time)"
        " FROM versions GROUP BY storage_path"
    )
