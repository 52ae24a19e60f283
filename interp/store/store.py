"""The store: a data folder with a database and artifacts."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from interp.config import settings
from interp.errors import BadInput
from interp.store.artifacts import Artifacts
from interp.store.database import Database
from interp.store.orders import Orders
from interp.store.queue import Queue
from interp.store.records import Records
from interp.store.workers import Workers


class Store:
    """Everything that is kept, under ``home``.

    Safe to share between threads. What is read is a copy; a finished result never changes; ids
    are never used again.
    """

    def __init__(self, url: str, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.db = Database(url, home)
        self.artifacts = Artifacts(self.db, home)
        self.records = Records(self.db, self.artifacts)
        self.queue = Queue(self.db, self.records)
        self.workers = Workers(self.db)
        self.orders = Orders(self.db)

    def close(self) -> None:
        """Close the database."""
        self.db.close()


@lru_cache(maxsize=8)
def _open(url: str, home: str) -> Store:
    if not url.startswith("sqlite"):
        raise BadInput(
            "BECAUSE_STORE_URL names another database than SQLite.",
            "Only SQLite is supported in this version.",
            "Leave it unset.",
        )
    return Store(url, Path(home))


def open_store() -> Store:
    """Open the store of the current settings; one a process and folder."""
    now = settings()
    return _open(now.store_url, str(now.home))
