"""Rows that workers write about themselves: heartbeat, device, memory, models."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from interp.store.database import Database
from interp.store.schema import workers


@dataclass(frozen=True)
class WorkerRow:
    """One worker.

    ``beat`` is a counter: only whether it moves means anything. ``sizes`` has the bytes of each
    loaded model, the least recently used first.
    """

    owner: str
    slot: str
    pid: int
    beat: int
    device: str | None
    total_bytes: int | None
    free_bytes: int | None
    flop_per_s: float | None
    sizes: dict[str, int]
    versions: dict[str, str]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the loaded models."""
        return tuple(self.sizes)


class Workers:
    """Registering, beating and listing workers."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def register(self, owner: str, slot: str) -> None:
        """Announce a worker; earlier ones of the same slot have ended."""
        with self._db.write.begin() as tx:
            tx.execute(
                workers.update()
                .where(workers.c.slot == slot, workers.c.ended.is_(None))
                .values(ended=time.time())
            )
            tx.execute(
                workers.insert().values(
                    owner=owner, slot=slot, pid=os.getpid(), started=time.time()
                )
            )

    def beat(self, owner: str, **about: Any) -> None:
        """Move the heartbeat on and write what changed; ``models`` and ``versions`` are JSON."""
        values = {k: json.dumps(v) if k in ("models", "versions") else v for k, v in about.items()}
        with self._db.quick.begin() as tx:
            tx.execute(
                workers.update()
                .where(workers.c.owner == owner)
                .values(beat=workers.c.beat + 1, **values)
            )

    def end(self, owner: str) -> None:
        """Mark a worker as gone."""
        with self._db.write.begin() as tx:
            tx.execute(workers.update().where(workers.c.owner == owner).values(ended=time.time()))

    def alive(self) -> list[WorkerRow]:
        """List workers that have not ended (a killed one is listed until somebody marks it)."""
        query = sa.select(workers).where(workers.c.ended.is_(None))
        with self._db.read.begin() as tx:
            rows = tx.execute(query.order_by(workers.c.slot)).mappings().all()
        return [
            WorkerRow(
                owner=row["owner"],
                slot=row["slot"],
                pid=row["pid"],
                beat=row["beat"],
                device=row["device"],
                total_bytes=row["total_bytes"],
                free_bytes=row["free_bytes"],
                flop_per_s=row["flop_per_s"],
                sizes=_sizes(row["models"]),
                versions=json.loads(row["versions"] or "{}"),
            )
            for row in rows
        ]


def _sizes(text: str | None) -> dict[str, int]:
    """Read the loaded models; rows of ended workers of the first version have names only."""
    told = json.loads(text or "{}")
    return dict.fromkeys(told, 0) if isinstance(told, list) else told
