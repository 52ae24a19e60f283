"""Records: a question, what became of it, and its answer."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from interp.errors import BadInput, Gone, NotFound
from interp.store.artifacts import Artifacts, check
from interp.store.database import Database
from interp.store.schema import attempts, events, partials, records
from interp.store.states import State

LIVE = (State.QUEUED, State.RUNNING, State.CANCELLING, State.DONE)
_ROW_BYTES = 64 * 1024
_COLUMNS = [c for c in records.c if c.name not in ("result_row", "rerun")]


@dataclass(frozen=True)
class Record:
    """One row, without its arrays.

    ``spec`` is canonical JSON, ``inputs`` a behavior's hash, ``result`` the hash of the packed
    result, ``error`` what went wrong by part.
    """

    id: str
    key: str
    kind: str
    kind_version: int
    title: str
    model: str
    spec: str
    inputs: str
    parent: str | None
    lane: int
    state: State
    attempt: int
    crashes: int
    owner: str | None
    fraction: float
    eta_s: float | None
    error: dict[str, str] | None
    result: str | None
    provenance: dict[str, Any] | None
    created: float
    started: float | None
    finished: float | None
    deleted: float | None


@dataclass(frozen=True)
class New:
    """What a submitted question brings along."""

    key: str
    kind: str
    kind_version: int
    title: str
    model: str
    spec: str
    lane: int


class Records:
    """Submitting, finding, reading and deleting records."""

    def __init__(self, db: Database, artifacts: Artifacts) -> None:
        self._db, self._artifacts = db, artifacts

    def submit(
        self, new: New, inputs: bytes, *, parent: str | None = None, again: bool = False
    ) -> str:
        """Queue a question and return its record's id.

        If a record of the same key waits, runs or is done, that one's id is returned, however
        often and from however many tabs it is submitted; ``again`` makes a new one beside it.
        """
        where = (records.c.key == new.key, records.c.state.in_(LIVE), records.c.deleted.is_(None))
        stored = self._artifacts.put(inputs)
        with self._db.write.begin() as tx:
            found = tx.execute(
                sa.select(records.c.id).where(*where, records.c.rerun == "")
            ).scalar()
            if found and not again:
                return str(found)
            name = secrets.token_hex(16)
            tx.execute(
                records.insert().values(
                    **vars(new),
                    id=name,
                    inputs=stored,
                    parent=parent,
                    rerun=name if found else "",
                    state=State.QUEUED,
                    created=time.time(),
                )
            )
            return name

    def get(self, record: str) -> Record:
        """Read a record.

        Raises:
            NotFound: No record has this id.
            Gone: It was deleted.
        """
        with self._db.read.begin() as tx:
            row = tx.execute(sa.select(*_COLUMNS).where(records.c.id == record)).mappings().first()
        if row is None:
            raise NotFound(f"There is no record {record!r}.", "", "Check the link.")
        if row["deleted"] is not None:
            raise Gone(f"The record {record!r} was deleted.", "", "Ask the question again.")
        return _record(row)

    def find(self, key: str) -> Record | None:
        """Find the record of a key: one that waits, runs or is done, else the latest that ended."""
        query = (
            sa.select(*_COLUMNS)
            .where(records.c.key == key, records.c.deleted.is_(None), records.c.rerun == "")
            .order_by(records.c.state.in_(LIVE).desc(), records.c.created.desc())
        )
        with self._db.read.begin() as tx:
            row = tx.execute(query.limit(1)).mappings().first()
        return None if row is None else _record(row)

    def list(
        self, *, kind: str = "", model: str = "", state: str = "", most: int = 200
    ) -> list[Record]:
        """List records, newest first."""
        query = sa.select(*_COLUMNS).where(records.c.deleted.is_(None))
        for column, wanted in (
            (records.c.kind, kind),
            (records.c.model, model),
            (records.c.state, state),
        ):
            if wanted:
                query = query.where(column == wanted)
        with self._db.read.begin() as tx:
            rows = tx.execute(query.order_by(records.c.created.desc()).limit(most)).mappings().all()
        return [_record(row) for row in rows]

    def result(self, record: Record) -> bytes | None:
        """Read the packed result of a finished record, or what there is of an unfinished one.

        Raises:
            Corrupt: The stored bytes have changed.
        """
        if record.result is None:
            return self.partial(record.id)
        with self._db.read.begin() as tx:
            row = tx.execute(
                sa.select(records.c.result_row).where(records.c.id == record.id)
            ).scalar()
        if row is None:
            return self._artifacts.get(record.result)
        check(row, record.result)
        return bytes(row)

    def partial(self, record: str) -> bytes | None:
        """Read the last partial result, if any."""
        with self._db.read.begin() as tx:
            row = tx.execute(
                sa.select(partials.c.result).where(partials.c.record == record)
            ).scalar()
        return None if row is None else bytes(row)

    def inputs(self, record: Record) -> bytes:
        """Read the exact inputs of a record."""
        return self._artifacts.get(record.inputs)

    def events(self, record: str) -> list[tuple[float, str]]:
        """List (time, text) of what happened to a record."""
        query = sa.select(events.c.at, events.c.text).where(events.c.record == record)
        with self._db.read.begin() as tx:
            return [(row.at, row.text) for row in tx.execute(query.order_by(events.c.seq))]

    def attempts(self, record: str) -> list[tuple[int, str | None]]:
        """List (attempt, outcome) of a record."""
        query = sa.select(attempts.c.attempt, attempts.c.outcome).where(attempts.c.record == record)
        with self._db.read.begin() as tx:
            return [(row.attempt, row.outcome) for row in tx.execute(query.order_by("attempt"))]

    def delete(self, record: str) -> None:
        """Delete a record that is not running; its id stays taken and answers "gone".

        Raises:
            NotFound: There is none.
            BadInput: It still waits or runs.
        """
        found = self.get(record)
        if found.state in (State.RUNNING, State.CANCELLING, State.QUEUED):
            raise BadInput(
                f"The record {record!r} was to be deleted.",
                f"It is {found.state}.",
                "Cancel it first.",
            )
        with self._db.write.begin() as tx:
            tx.execute(
                records.update()
                .where(records.c.id == record, records.c.deleted.is_(None))
                .values(deleted=time.time(), result_row=None)
            )
            tx.execute(partials.delete().where(partials.c.record == record))

    def add_finished(self, row: dict[str, Any], inputs: bytes, packed: bytes) -> None:
        """Add a record that was computed elsewhere; nothing happens if its id is known."""
        stored, result = self._artifacts.put(inputs), self.keep(packed)
        with self._db.write.begin() as tx:
            if tx.execute(sa.select(records.c.id).where(records.c.id == row["id"])).first():
                return
            taken = tx.execute(
                sa.select(records.c.id).where(
                    records.c.key == row["key"],
                    records.c.state.in_(LIVE),
                    records.c.deleted.is_(None),
                    records.c.rerun == "",
                )
            ).first()
            tx.execute(
                records.insert().values(
                    **row, **result, inputs=stored, rerun=row["id"] if taken else "", lane=0
                )
            )

    def keep(self, packed: bytes) -> dict[str, Any]:
        """Store packed bytes, in the row if small, and return the columns that name them."""
        if len(packed) <= _ROW_BYTES:
            return {"result": hashlib.sha256(packed).hexdigest(), "result_row": packed}
        return {"result": self._artifacts.put(packed), "result_row": None}


def _record(row: Any) -> Record:
    fields = dict(row)
    fields["state"] = State(fields["state"])
    for name in ("error", "provenance"):
        fields[name] = json.loads(fields[name]) if fields[name] else None
    return Record(**fields)
