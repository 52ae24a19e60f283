"""Content-addressed files: named by their sha256, checked on every read, never changed."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from interp.errors import Corrupt, NotFound
from interp.store.database import Database
from interp.store.schema import artifacts


class Artifacts:
    """Bytes by hash, under ``home/artifacts``."""

    def __init__(self, db: Database, home: Path) -> None:
        self._db, self._root = db, home / "artifacts"

    def path(self, name: str) -> Path:
        """Return where the bytes of ``name`` are."""
        return self._root / name[:2] / name

    def put(self, data: bytes) -> str:
        """Store bytes and return their hash; the row is written last.

        A crash leaves at most a file ``*.part`` that nothing refers to.
        """
        name = hashlib.sha256(data).hexdigest()
        target = self.path(name)
        # Compared, not only looked for: a file that has changed on disk would stay so for ever,
        # since computing it again gives the same name.
        if not target.exists() or target.read_bytes() != data:
            _write(target, data)
        with self._db.write.begin() as tx:
            tx.execute(
                sqlite.insert(artifacts)
                .values(hash=name, bytes=len(data), created=time.time())
                .on_conflict_do_nothing()
            )
        return name

    def get(self, name: str) -> bytes:
        """Read bytes back.

        Raises:
            NotFound: There are none of this name.
            Corrupt: They are not what was stored.
        """
        try:
            data = self.path(name).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"The artifact {name[:12]} is missing.", "", "Run again.") from error
        check(data, name)
        return data

    def count(self) -> int:
        """Count the stored artifacts."""
        with self._db.read.begin() as tx:
            return tx.execute(sa.select(sa.func.count()).select_from(artifacts)).scalar_one()


def check(data: bytes, name: str) -> None:
    """Refuse bytes that do not have the hash ``name``.

    Raises:
        Corrupt: They do not.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != name:
        raise Corrupt(
            f"The stored result {name[:12]} was read.",
            f"Its bytes have changed: they hash to {found[:12]}. It is not shown.",
            "Run again, or restore the file from a backup.",
        )


def _write(target: Path, data: bytes) -> None:
    """Put a whole file in place or none; two that write the same one do not meet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{secrets.token_hex(8)}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
