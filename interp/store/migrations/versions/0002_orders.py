"""Orders to workers: add, load and unload models."""

from alembic import op

from interp.store.schema import metadata

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table of orders."""
    metadata.create_all(op.get_bind(), tables=[metadata.tables["orders"]])
