"""Connections to the database, and its migrations.

Three engines over one database: ``read`` (plain transactions), ``write`` (takes SQLite's write
lock at once, so that a claim is atomic, and reaches the disk before it returns) and ``quick``
(the same without waiting for the disk: progress may be lost in a power cut, results may not).
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event

from interp.errors import StoreTooNew

_BUSY_MS = 20_000


class Database:
    """Engines over one URL, at the schema of this version."""

    def __init__(self, url: str, home: Path) -> None:
        self.read = _engine(url, begin="BEGIN", synchronous="FULL")
        self.write = _engine(url, begin="BEGIN IMMEDIATE", synchronous="FULL")
        self.quick = _engine(url, begin="BEGIN IMMEDIATE", synchronous="NORMAL")
        with _locked(home / "migrate.lock"):
            self._migrate(home)

    def close(self) -> None:
        """Close every connection."""
        for engine in (self.read, self.write, self.quick):
            engine.dispose()

    def _migrate(self, home: Path) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        script = ScriptDirectory.from_config(config)
        with self.write.begin() as connection:
            at = MigrationContext.configure(connection).get_current_revision()
            if at == script.get_current_head():
                return
            if at is not None and at not in {r.revision for r in script.walk_revisions()}:
                raise StoreTooNew(
                    f"The data folder {home} was opened.",
                    f"Its schema is {at}; this version knows up to {script.get_current_head()}.",
                    "Start the version that wrote it, or point BECAUSE_HOME elsewhere.",
                )
            file = self.write.url.database
            if at is not None and file:
                _copy(file, f"{file}.before-{script.get_current_head()}")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _engine(url: str, *, begin: str, synchronous: str) -> sa.Engine:
    engine = sa.create_engine(url)
    if engine.dialect.name != "sqlite":
        return engine

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        # The driver must not open transactions by itself: ours start with ``begin``.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA synchronous={synchronous}")

    @event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _copy(file: str, to: str) -> None:
    """Copy a database by SQLite itself: what is committed may still lie in the file beside it."""
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
