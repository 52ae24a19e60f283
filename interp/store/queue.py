"""The queue: claiming work and reporting on it.

Every write of a worker is fenced: it happens only while the record is held by this owner in this
attempt. A worker that was thought dead and comes back finds that nothing it writes lands.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from interp.store.database import Database
from interp.store.records import Records
from interp.store.schema import attempts, events, partials, records
from interp.store.states import MAX_CRASHES, State

HELD = (State.RUNNING, State.CANCELLING)


class Fenced(Exception):
    """The record is not held by this owner in this attempt any more: stop at once."""


@dataclass(frozen=True)
class Claim:
    """A record held by a worker. ``attempt`` is the fencing token."""

    record: str
    owner: str
    attempt: int


class Queue:
    """Claims and reports. All methods are atomic."""

    def __init__(self, db: Database, kept: Records) -> None:
        self._db, self._records = db, kept

    def claim(self, owner: str, *, record: str = "", lane: int | None = None) -> Claim | None:
        """Take the next waiting record (short ones first, then the oldest), or the one named.

        Args:
            owner: Who takes it.
            record: Only this one.
            lane: Only this lane (0 short, 1 long).
        """
        query = sa.select(records.c.id, records.c.attempt).where(
            records.c.state == State.QUEUED, records.c.deleted.is_(None)
        )
        if record:
            query = query.where(records.c.id == record)
        if lane is not None:
            query = query.where(records.c.lane == lane)
        # Most looks find nothing: look without the write lock first.
        with self._db.read.begin() as tx:
            if tx.execute(query.limit(1)).first() is None:
                return None
        with self._db.write.begin() as tx:
            row = tx.execute(query.order_by(records.c.lane, records.c.created).limit(1)).first()
            if row is None:
                return None
            claim, now = Claim(row.id, owner, row.attempt + 1), time.time()
            tx.execute(
                records.update()
                .where(records.c.id == row.id)
                .values(state=State.RUNNING, owner=owner, attempt=claim.attempt, started=now)
            )
            tx.execute(
                attempts.insert().values(
                    record=row.id, attempt=claim.attempt, owner=owner, started=now
                )
            )
            _note(tx, claim, f"attempt {claim.attempt} started")
            return claim

    def progress(
        self,
        claim: Claim,
        fraction: float,
        eta_s: float | None,
        partial: bytes,
        checkpoint: bytes | None,
    ) -> None:
        """Keep a partial result; not waited for to reach the disk.

        Raises:
            Fenced: The claim is not held any more.
        """
        with self._db.quick.begin() as tx:
            self._update(tx, claim, fraction=fraction, eta_s=eta_s)
            tx.execute(partials.delete().where(partials.c.record == claim.record))
            tx.execute(
                partials.insert().values(
                    record=claim.record,
                    attempt=claim.attempt,
                    result=partial,
                    checkpoint=checkpoint,
                )
            )

    def checkpoint(self, record: str) -> bytes | None:
        """Read the last checkpoint of a record."""
        query = sa.select(partials.c.checkpoint).where(partials.c.record == record)
        with self._db.read.begin() as tx:
            return tx.execute(query).scalar()

    def wants_stop(self, claim: Claim) -> bool:
        """Whether a person asked to cancel it.

        Raises:
            Fenced: The claim is not held any more.
        """
        query = sa.select(records.c.state).where(*_fence(claim))
        with self._db.read.begin() as tx:
            state = tx.execute(query).scalar()
        if state is None:
            raise Fenced(claim.record)
        return state == State.CANCELLING

    def finish(self, claim: Claim, packed: bytes, provenance: dict[str, Any]) -> State:
        """Write the result, once; if a cancel came first, the record is cancelled instead.

        Returns:
            The state that it ended in.
        """
        kept = self._records.keep(packed)
        with self._db.write.begin() as tx:
            state = tx.execute(sa.select(records.c.state).where(*_fence(claim))).scalar()
            if state == State.CANCELLING:
                return self._end(tx, claim, State.CANCELLED)
            tx.execute(partials.delete().where(partials.c.record == claim.record))
            text = json.dumps(provenance, sort_keys=True)
            return self._end(tx, claim, State.DONE, **kept, provenance=text, fraction=1.0)

    def fail(self, claim: Claim, error: dict[str, str], provenance: dict[str, Any]) -> None:
        """End with an error: its parts by name."""
        with self._db.write.begin() as tx:
            self._end(
                tx,
                claim,
                State.FAILED,
                error=json.dumps(error),
                provenance=json.dumps(provenance, sort_keys=True),
            )

    def stopped(self, claim: Claim) -> None:
        """End a record that was asked to stop and has stopped."""
        with self._db.write.begin() as tx:
            self._end(tx, claim, State.CANCELLED)

    def requeue(self, claim: Claim) -> None:
        """Put a record back because its worker goes away in order."""
        with self._db.write.begin() as tx:
            state = tx.execute(sa.select(records.c.state).where(*_fence(claim))).scalar()
            self._end(
                tx,
                claim,
                State.CANCELLED if state == State.CANCELLING else State.QUEUED,
                "requeued",
            )

    def cancel(self, record: str) -> None:
        """Ask to stop: a waiting record ends at once, a running one when its worker sees it."""
        with self._db.write.begin() as tx:
            ended = tx.execute(
                records.update()
                .where(records.c.id == record, records.c.state == State.QUEUED)
                .values(state=State.CANCELLED, finished=time.time())
            )
            if not ended.rowcount:
                tx.execute(
                    records.update()
                    .where(records.c.id == record, records.c.state == State.RUNNING)
                    .values(state=State.CANCELLING)
                )

    def owners(self) -> list[str]:
        """List who holds a record."""
        query = sa.select(records.c.owner).where(records.c.state.in_(HELD)).distinct()
        with self._db.read.begin() as tx:
            return [str(owner) for owner in tx.execute(query).scalars()]

    def expire(self, dead: Sequence[str]) -> int:
        """Take every record from owners that are ``dead``; return how many.

        A record whose worker died goes back into the queue, is lost after ``MAX_CRASHES``, and
        is cancelled if that was asked for.
        """
        query = sa.select(records).where(records.c.state.in_(HELD), records.c.owner.in_(list(dead)))
        with self._db.write.begin() as tx:
            rows = tx.execute(query.order_by(records.c.started)).mappings().all()
            # A worker computes what it took last; a long record that waits for a short one to end
            # is not to blame, and three bad short ones must not lose it.
            computed = {row["owner"]: row["id"] for row in rows}
            for row in rows:
                claim = Claim(row["id"], row["owner"], row["attempt"])
                crashes = row["crashes"] + (computed[row["owner"]] == row["id"])
                if row["state"] == State.CANCELLING:
                    to = State.CANCELLED
                else:
                    to = State.LOST if crashes >= MAX_CRASHES else State.QUEUED
                self._end(tx, claim, to, "worker died", crashes=crashes)
        return len(rows)

    def counts(self) -> dict[str, int]:
        """Count records by state, unfinished ones only."""
        query = (
            sa.select(records.c.state, sa.func.count())
            .where(records.c.state.in_((State.QUEUED, *HELD)), records.c.deleted.is_(None))
            .group_by(records.c.state)
        )
        with self._db.read.begin() as tx:
            return {state: n for state, n in tx.execute(query)}

    def place(self, record: str) -> int:
        """Count the waiting records that come before this one."""
        mine = sa.select(records.c.lane, records.c.created).where(records.c.id == record)
        with self._db.read.begin() as tx:
            row = tx.execute(mine).first()
            if row is None:
                return 0
            before = sa.or_(
                records.c.lane < row.lane,
                sa.and_(records.c.lane == row.lane, records.c.created < row.created),
            )
            query = sa.select(sa.func.count()).select_from(records)
            return tx.execute(query.where(records.c.state == State.QUEUED, before)).scalar_one()

    def cancelling(self) -> list[tuple[str, str]]:
        """List (record, owner) of records that were asked to stop and have not stopped."""
        query = sa.select(records.c.id, records.c.owner).where(records.c.state == State.CANCELLING)
        with self._db.read.begin() as tx:
            return [(row.id, row.owner) for row in tx.execute(query)]

    def _update(self, tx: sa.Connection, claim: Claim, **values: Any) -> None:
        done = tx.execute(records.update().where(*_fence(claim)).values(**values))
        if not done.rowcount:
            raise Fenced(claim.record)

    def _end(
        self, tx: sa.Connection, claim: Claim, to: State, outcome: str = "", **values: Any
    ) -> State:
        """Leave the held states, in the transaction ``tx``."""
        ended = None if to == State.QUEUED else time.time()
        self._update(tx, claim, state=to, owner=None, eta_s=None, finished=ended, **values)
        tx.execute(
            attempts.update()
            .where(attempts.c.record == claim.record, attempts.c.attempt == claim.attempt)
            .values(ended=time.time(), outcome=outcome or str(to))
        )
        _note(tx, claim, f"attempt {claim.attempt}: {outcome or to}")
        return to


def _fence(claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        records.c.id == claim.record,
        records.c.owner == claim.owner,
        records.c.attempt == claim.attempt,
        records.c.state.in_(HELD),
    )


def _note(tx: sa.Connection, claim: Claim, text: str) -> None:
    tx.execute(
        events.insert().values(
            record=claim.record, attempt=claim.attempt, at=time.time(), text=text
        )
    )
