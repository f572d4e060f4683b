"""Tenants and limits of keys; who asked, what it cost and which engine, cache and tools an answer came from."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _columns() -> dict[str, list[sa.Column[Any]]]:
    """Table → its new columns, with the value that older rows get."""
    return {
        "api_keys": [
            sa.Column("tenant", sa.String(length=64), nullable=False, server_default="default"),
            sa.Column("limits", sa.JSON(), nullable=False, server_default="{}"),
        ],
        "traces": [
            sa.Column("tenant", sa.String(length=64), nullable=False, server_default="default"),
            sa.Column("caller", sa.String(length=16), nullable=False, server_default=""),
            sa.Column("path", sa.String(length=16), nullable=False, server_default="answers"),
            sa.Column("cost", sa.Float(), nullable=False, server_default="0"),
            sa.Column("engine", sa.String(length=128), nullable=False, server_default=""),
            sa.Column("cache", sa.String(length=16), nullable=False, server_default=""),
            sa.Column("tools", sa.JSON(), nullable=False, server_default="[]"),
            sa.Column("body_digest", sa.String(length=64), nullable=False, server_default=""),
        ],
    }


def upgrade() -> None:
    """Add the columns."""
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column)
    op.create_index("traces_caller", "traces", ["caller", "created"], unique=False)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("traces_caller", "traces")
    for table, columns in _columns().items():
        for column in columns:
            op.drop_column(table, str(column.name))
