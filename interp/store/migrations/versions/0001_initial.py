"""The tables of the first version."""

from alembic import op

from interp.store.schema import metadata

revision = "0001"
down_revision = None

TABLES = ("records", "attempts", "partials", "events", "artifacts", "workers")


def upgrade() -> None:
    """Create the tables of the first version.

    Their columns are those of the live schema; the migration that changes one of them must first
    write these tables out here, so that this file keeps meaning what it meant.
    """
    metadata.create_all(op.get_bind(), tables=[metadata.tables[name] for name in TABLES])
