"""What inference services grant a tenant, and the adapters they keep loaded.

Revision ID: 0005
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | Sequence[str] | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_COLUMNS: tuple[tuple[str, sa.types.TypeEngine[Any]], ...] = (
    ("serving_weight", sa.Double()),
    ("max_concurrent_requests", sa.BigInteger()),
    ("max_requests_per_minute", sa.BigInteger()),
    ("max_tokens_per_minute", sa.BigInteger()),
)


def upgrade() -> None:
    for name, kind in _COLUMNS:
        op.add_column("tenants", sa.Column(name, kind, nullable=True))
    # Bytes decide the order of every text, as 0004 has it.
    collation = "C" if op.get_bind().dialect.name == "postgresql" else None
    identifier = sa.String(63, collation=collation)
    op.create_table(
        "warm_aliases",
        sa.Column("tenant_id", identifier, nullable=False),
        sa.Column("adapter_id", identifier, nullable=False),
        sa.Column("alias_id", identifier, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "adapter_id"],
            ["adapters.tenant_id", "adapters.id"],
            name=op.f("fk_warm_aliases_tenant_id_adapter_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "adapter_id", "alias_id", name=op.f("pk_warm_aliases")
        ),
    )


def downgrade() -> None:
    op.drop_table("warm_aliases")
    for name, _ in reversed(_COLUMNS):
        op.drop_column("tenants", name)
