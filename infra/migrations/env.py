"""Alembic environment: runs the migrations on the connection that `infra.database` hands over."""

from alembic import context

from infra.tables import Base


def migrate() -> None:
    """Run what is missing, inside the caller's transaction."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    context.run_migrations()


migrate()
