"""The tables. Times are seconds since 1970 (UTC), for people; no decision is taken from them."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

records = sa.Table(
    "records",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("key", sa.String(64), nullable=False, index=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("kind_version", sa.Integer, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("inputs", sa.String(64), nullable=False),
    sa.Column("parent", sa.String(32)),
    # Empty for the one record of its key; a rerun has its own id here, so that it may live beside.
    sa.Column("rerun", sa.String(32), nullable=False, default=""),
    sa.Column("lane", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("crashes", sa.Integer, nullable=False, default=0),
    sa.Column("owner", sa.String(32)),
    sa.Column("fraction", sa.Float, nullable=False, default=0.0),
    sa.Column("eta_s", sa.Float),
    sa.Column("error", sa.Text),
    sa.Column("result", sa.String(64)),
    sa.Column("result_row", sa.LargeBinary),
    sa.Column("provenance", sa.Text),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("started", sa.Float),
    sa.Column("finished", sa.Float),
    sa.Column("deleted", sa.Float),
)

# At most one record of a key waits, runs or is done; "Run again" and failures stand beside it.
sa.Index(
    "one_live_record_per_key",
    records.c.key,
    records.c.rerun,
    unique=True,
    sqlite_where=sa.text("state IN ('queued','running','cancelling','done') AND deleted IS NULL"),
    postgresql_where=sa.text(
        "state IN ('queued','running','cancelling','done') AND deleted IS NULL"
    ),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("record", sa.ForeignKey("records.id"), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("owner", sa.String(32), nullable=False),
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("ended", sa.Float),
    sa.Column("outcome", sa.String(16)),
)

partials = sa.Table(
    "partials",
    metadata,
    sa.Column("record", sa.ForeignKey("records.id"), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("result", sa.LargeBinary, nullable=False),
    sa.Column("checkpoint", sa.LargeBinary),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("record", sa.ForeignKey("records.id"), nullable=False, index=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)

artifacts = sa.Table(
    "artifacts",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("owner", sa.String(32), primary_key=True),
    sa.Column("slot", sa.String(32), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("beat", sa.Integer, nullable=False, default=0),
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("ended", sa.Float),
    sa.Column("device", sa.Text),
    sa.Column("total_bytes", sa.BigInteger),
    sa.Column("free_bytes", sa.BigInteger),
    sa.Column("flop_per_s", sa.Float),
    sa.Column("models", sa.Text),
    sa.Column("versions", sa.Text),
)

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("action", sa.String(16), nullable=False),
    # Empty for whichever worker is free first.
    sa.Column("slot", sa.String(32), nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("owner", sa.String(32)),
    sa.Column("said", sa.Text, nullable=False, default=""),
    sa.Column("done_bytes", sa.BigInteger, nullable=False, default=0),
    sa.Column("total_bytes", sa.BigInteger, nullable=False, default=0),
    sa.Column("made", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("ended", sa.Float),
)
