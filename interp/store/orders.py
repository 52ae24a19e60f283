"""Orders to workers about models: add one, load it, unload it.

An order is a row, like everything between pages and workers: a page asks and looks, a worker takes
it between two steps and reports bytes. One that its worker does not live to finish has failed; it
is not tried again by itself, since the model may be what killed it.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from interp.store.database import Database
from interp.store.schema import orders

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
_KEPT = 200


@dataclass(frozen=True)
class Order:
    """One order. ``what`` has the arguments of ``action``; ``made`` the name of the model."""

    id: int
    action: str
    slot: str
    what: dict[str, Any]
    state: str
    said: str
    done_bytes: int
    total_bytes: int
    made: str | None
    error: dict[str, str] | None

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in (DONE, FAILED)


class Orders:
    """Giving, taking and reporting. All methods are atomic."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def give(self, action: str, what: dict[str, Any], slot: str = "") -> int:
        """Ask for ``action`` and return the order's id; the same order that waits is that one."""
        text = json.dumps(what, sort_keys=True)
        # One that runs has the slot of its worker, whichever was asked for.
        here = orders.c.slot == slot
        if slot == "":
            here = sa.or_(here, orders.c.state == RUNNING)
        same = sa.and_(
            orders.c.action == action,
            orders.c.what == text,
            here,
            orders.c.state.in_((WAITING, RUNNING)),
        )
        with self._db.write.begin() as tx:
            there = tx.execute(sa.select(orders.c.id).where(same)).scalar()
            if there is not None:
                return int(there)
            row = {"action": action, "slot": slot, "what": text, "state": WAITING}
            given = tx.execute(orders.insert().values(**row, created=time.time()))
            key = given.inserted_primary_key
            assert key is not None
            old = sa.and_(orders.c.id <= int(key[0]) - _KEPT, orders.c.state.in_((DONE, FAILED)))
            tx.execute(orders.delete().where(old))
            return int(key[0])

    def take(self, owner: str, slot: str) -> Order | None:
        """Take the oldest order that waits for this slot or for any."""
        query = sa.select(orders).where(orders.c.state == WAITING, orders.c.slot.in_(("", slot)))
        with self._db.read.begin() as tx:
            if tx.execute(query.limit(1)).first() is None:
                return None
        with self._db.write.begin() as tx:
            row = tx.execute(query.order_by(orders.c.id).limit(1)).mappings().first()
            if row is None:
                return None
            values = {"state": RUNNING, "owner": owner, "slot": slot}
            tx.execute(orders.update().where(orders.c.id == row["id"]).values(**values))
            return _order({**row, **values})

    def progress(self, order: int, said: str, done: int, total: int) -> None:
        """Say what is done and how many bytes of how many."""
        values = {"said": said, "done_bytes": done, "total_bytes": total}
        with self._db.quick.begin() as tx:
            tx.execute(orders.update().where(orders.c.id == order).values(**values))

    def finish(self, order: int, made: str) -> None:
        """Mark an order as done; ``made`` is the model's name."""
        self._end(order, state=DONE, made=made)

    def fail(self, order: int, error: dict[str, str]) -> None:
        """Mark an order as failed, with what a person is told."""
        self._end(order, state=FAILED, error=json.dumps(error))

    def lost(self, owner: str) -> None:
        """Fail what a worker was at when it died."""
        error = {
            "asked": "A model was being loaded.",
            "found": "The worker died over it; it may have run out of memory.",
            "works": "Check the fit again, or choose a smaller precision.",
        }
        mine = sa.and_(orders.c.owner == owner, orders.c.state == RUNNING)
        values = {"state": FAILED, "error": json.dumps(error), "ended": time.time()}
        with self._db.read.begin() as tx:
            if tx.execute(sa.select(orders.c.id).where(mine)).first() is None:
                return
        with self._db.write.begin() as tx:
            tx.execute(orders.update().where(mine).values(**values))

    def get(self, order: int) -> Order | None:
        """Read one order; old ones are not kept."""
        with self._db.read.begin() as tx:
            row = tx.execute(sa.select(orders).where(orders.c.id == order)).mappings().first()
        return None if row is None else _order(dict(row))

    def open(self) -> list[Order]:
        """List what waits or runs, oldest first."""
        query = sa.select(orders).where(orders.c.state.in_((WAITING, RUNNING)))
        with self._db.read.begin() as tx:
            rows = tx.execute(query.order_by(orders.c.id)).mappings().all()
        return [_order(dict(row)) for row in rows]

    def recent(self) -> list[Order]:
        """List the orders that are kept, newest first."""
        with self._db.read.begin() as tx:
            rows = tx.execute(sa.select(orders).order_by(orders.c.id.desc())).mappings().all()
        return [_order(dict(row)) for row in rows]

    def _end(self, order: int, **values: Any) -> None:
        with self._db.write.begin() as tx:
            tx.execute(
                orders.update().where(orders.c.id == order).values(**values, ended=time.time())
            )


def _order(row: dict[str, Any]) -> Order:
    return Order(
        id=row["id"],
        action=row["action"],
        slot=row["slot"],
        what=json.loads(row["what"]),
        state=row["state"],
        said=row["said"],
        done_bytes=row["done_bytes"],
        total_bytes=row["total_bytes"],
        made=row["made"],
        error=None if row["error"] is None else json.loads(row["error"]),
    )
