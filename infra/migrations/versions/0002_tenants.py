"""Tenants and limits of keys; who asked, what it cost, its engine, cache and tools; what tools do."""

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
        "placements": [sa.Column("pools", sa.JSON(), nullable=False, server_default="[]")],
        "traces": [
            sa.Column("tenant", sa.String(length=64), nullable=False, server_default="default"),
            sa.Column("caller", sa.String(length=16), nullable=False, server_default=""),
            sa.Column("path", sa.String(length=16), nullable=False, server_default="answers"),
            sa.Column("cost", sa.Float(), nullable=False, server_default="0"),
            sa.Column("engine", sa.String(length=128), nullable=False, server_default=""),
            sa.Column("cache", sa.String(length=16), nullable=False, server_default=""),
            sa.Column("tools", sa.JSON(), nullable=False, server_default="[]"),
            sa.Column("finish_reason", sa.String(length=16), nullable=False, server_default="stop"),
            sa.Column("urgent", sa.Boolean(), nullable=False, server_default=sa.false()),
            sa.Column("left_out", sa.Boolean(), nullable=False, server_default=sa.false()),
            sa.Column("body_digest", sa.String(length=64), nullable=False, server_default=""),
        ],
        "feedback": [sa.Column("exported", sa.Boolean(), nullable=False, server_default=sa.false())],
    }


def upgrade() -> None:
    """Add the columns and tables."""
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column)
    op.create_index("traces_caller", "traces", ["caller", "created"], unique=False)
    op.drop_index("traces_exported", "traces")
    op.create_index("traces_exported", "traces", ["exported", "urgent", "seq"], unique=False)
    op.create_index(
        "traces_left_out",
        "traces",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("left_out IS 1"),
        postgresql_where=sa.text("left_out IS true"),
    )
    op.create_index("feedback_exported", "feedback", ["exported", "id"], unique=False)
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "proposals",
        sa.Column("key", sa.String(length=64), primary_key=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("caller", sa.String(length=64), nullable=False),
        sa.Column("tool", sa.String(length=64), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
    )
    op.create_table(
        "tickets",
        sa.Column("number", number, primary_key=True),
        sa.Column("key", sa.String(length=64), nullable=False, unique=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("caller", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("tickets")
    op.drop_table("proposals")
    op.drop_index("traces_caller", "traces")
    op.drop_index("feedback_exported", "feedback")
    op.drop_index("traces_left_out", "traces")
    op.drop_index("traces_exported", "traces")
    op.create_index("traces_exported", "traces", ["exported", "seq"], unique=False)
    for table, columns in _columns().items():
        for column in columns:
            op.drop_column(table, str(column.name))
