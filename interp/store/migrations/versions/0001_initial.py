"""The tables of version 0.1."""

from alembic import op

from interp.store.schema import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table.

    The first released schema is the live one; the migration that changes it must first write the
    tables of 0.1 out here, so that this file keeps meaning what it meant.
    """
    metadata.create_all(op.get_bind())
