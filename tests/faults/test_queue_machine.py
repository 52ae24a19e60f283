"""The queue as a state machine: any order of what pages, workers and supervisors do.

A trigger in the database notes every change of state, also those inside one transaction.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from interp.errors import BadInput, Gone
from interp.store import State, Store
from interp.store.queue import HELD, Claim, Fenced
from interp.store.records import LIVE, New
from interp.store.states import MAX_CRASHES, NEXT

TRIGGER = """
CREATE TABLE changes (record TEXT, before TEXT, after TEXT);
CREATE TRIGGER note AFTER UPDATE OF state ON records WHEN OLD.state <> NEW.state
BEGIN INSERT INTO changes VALUES (OLD.id, OLD.state, NEW.state); END;
CREATE TRIGGER born AFTER INSERT ON records WHEN NEW.state <> 'queued'
BEGIN INSERT INTO changes VALUES (NEW.id, 'nothing', NEW.state); END;
"""
FINAL = {state for state in State if state.is_final}


class QueueMachine(RuleBasedStateMachine):
    """Records of three keys, three owners; a claim stays in hand after it went stale."""

    records: Bundle[str] = Bundle("records")
    claims: Bundle[Claim] = Bundle("claims")

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store, self.queue = store, store.queue
        # One store serves all runs; what belongs to this one carries its mark.
        self.mark = secrets.token_hex(8)
        self.base = sqlite3.connect(store.home / "store.sqlite")
        self.base.row_factory = sqlite3.Row
        self.seen: dict[str, dict[str, Any]] = {}
        self.results: dict[str, bytes] = {}

    # --- what a run can see ---

    def row(self, record: str) -> sqlite3.Row:
        return self.base.execute("SELECT * FROM records WHERE id = ?", (record,)).fetchone()

    def held(self, claim: Claim) -> bool:
        row = self.row(claim.record)
        same = (row["owner"], row["attempt"]) == (claim.owner, claim.attempt)
        return same and row["state"] in HELD

    # --- what pages do ---

    @rule(target=records, key=st.sampled_from("abc"), again=st.booleans(), lane=st.integers(0, 1))
    def submit(self, key: str, again: bool, lane: int) -> str:
        name = f"{self.mark}{key}"
        new = New(name, "kind", 1, "title", "model", "{}", lane)
        query = (
            "SELECT id FROM records WHERE key = ? AND rerun = '' AND deleted IS NULL "
            f"AND state IN {tuple(map(str, LIVE))}"
        )
        live = [row["id"] for row in self.base.execute(query, (name,))]
        record = self.store.records.submit(new, b"{}", again=again)
        if live and not again:
            assert [record] == live
        else:
            assert record not in self.seen
            assert self.row(record)["state"] == State.QUEUED
        return record

    @rule(record=records)
    def cancel(self, record: str) -> None:
        before = self.row(record)["state"]
        self.queue.cancel(record)
        to = {State.QUEUED: State.CANCELLED, State.RUNNING: State.CANCELLING}
        assert self.row(record)["state"] == to.get(State(before), before)

    @rule(record=records)
    def delete(self, record: str) -> None:
        row = self.row(record)
        if row["deleted"] is None and row["state"] in FINAL:
            self.store.records.delete(record)
        else:
            with pytest.raises(Gone if row["deleted"] else BadInput):
                self.store.records.delete(record)

    # --- what workers do ---

    @rule(
        target=claims,
        owner=st.sampled_from("xyz"),
        lane=st.sampled_from([None, 0, 1]),
    )
    def claim(self, owner: str, lane: int | None) -> Any:
        claim = self.queue.claim(f"{self.mark}{owner}", lane=lane)
        if claim is None:
            waiting = [r for r in self.mine() if r["state"] == State.QUEUED]
            assert [r for r in waiting if lane in (None, r["lane"])] == []
            return multiple()
        row = self.row(claim.record)
        assert (row["state"], row["owner"], row["attempt"]) == (
            State.RUNNING,
            claim.owner,
            claim.attempt,
        )
        # Short ones first.
        waiting = [r["lane"] for r in self.mine() if r["state"] == State.QUEUED]
        assert lane is not None or row["lane"] <= min(waiting, default=1)
        return claim

    @rule(claim=claims, fraction=st.floats(0, 0.99), checkpoint=st.none() | st.binary(max_size=4))
    def progress(self, claim: Claim, fraction: float, checkpoint: bytes | None) -> None:
        if self.fenced(claim, lambda: self.queue.progress(claim, fraction, 1.0, b"p", checkpoint)):
            return
        assert self.store.records.partial(claim.record) == b"p"
        assert self.queue.checkpoint(claim.record) == checkpoint

    @rule(claim=claims)
    def wants_stop(self, claim: Claim) -> None:
        if not self.fenced(claim, lambda: self.queue.wants_stop(claim)):
            asked = self.row(claim.record)["state"] == State.CANCELLING
            assert self.queue.wants_stop(claim) == asked

    @rule(claim=claims, size=st.sampled_from([3, 70_000]))
    def finish(self, claim: Claim, size: int) -> None:
        packed = secrets.token_bytes(4) * size
        asked = self.row(claim.record)["state"] == State.CANCELLING
        if self.fenced(claim, lambda: self.queue.finish(claim, packed, {"seed": 0})):
            return
        assert self.row(claim.record)["state"] == (State.CANCELLED if asked else State.DONE)
        if not asked:
            assert claim.record not in self.results
            self.results[claim.record] = packed

    @rule(claim=claims)
    def fail(self, claim: Claim) -> None:
        if not self.fenced(claim, lambda: self.queue.fail(claim, {"asked": "No."}, {})):
            assert self.row(claim.record)["state"] == State.FAILED

    @rule(claim=claims)
    def requeue(self, claim: Claim) -> None:
        crashes = self.row(claim.record)["crashes"]
        asked = self.row(claim.record)["state"] == State.CANCELLING
        if not self.fenced(claim, lambda: self.queue.requeue(claim)):
            to = State.CANCELLED if asked else State.QUEUED
            assert (self.row(claim.record)["state"], crashes) == (
                to,
                self.row(claim.record)["crashes"],
            )

    @rule(claim=claims)
    def stopped(self, claim: Claim) -> None:
        # A worker says so only where it was asked to stop, or too late.
        if self.row(claim.record)["state"] == State.RUNNING and self.held(claim):
            return
        if not self.fenced(claim, lambda: self.queue.stopped(claim)):
            assert self.row(claim.record)["state"] == State.CANCELLED

    # --- what supervisors do ---

    @precondition(lambda self: self.mine())
    @rule(owners=st.sets(st.sampled_from("xyz"), max_size=3))
    def crash(self, owners: set[str]) -> None:
        dead = [f"{self.mark}{owner}" for owner in owners]
        held = [r["id"] for r in self.mine() if r["state"] in HELD and r["owner"] in dead]
        assert self.queue.expire(dead) == len(held)
        assert not [r for r in self.mine() if r["owner"] in dead]
        assert not set(self.queue.owners()) & set(dead)

    # --- what always holds ---

    def fenced(self, claim: Claim, write: Any) -> bool:
        """Write; a stale claim must find itself fenced, and must have changed nothing."""
        if self.held(claim):
            write()
            return False
        before = self.everything(claim.record)
        with pytest.raises(Fenced):
            write()
        assert self.everything(claim.record) == before
        return True

    def everything(self, record: str) -> list[Any]:
        names = {"records": "id", "attempts": "record", "partials": "record", "events": "record"}
        return [
            [tuple(row) for row in self.base.execute(f"SELECT * FROM {t} WHERE {c} = ?", (record,))]
            for t, c in names.items()
        ]

    def mine(self) -> list[sqlite3.Row]:
        query = "SELECT * FROM records WHERE key LIKE ?"
        return self.base.execute(query, (f"{self.mark}%",)).fetchall()

    @invariant()
    def every_change_of_state_is_in_the_table(self) -> None:
        query = (
            "SELECT DISTINCT before, after FROM changes, records "
            "WHERE record = records.id AND key LIKE ?"
        )
        for change in self.base.execute(query, (f"{self.mark}%",)):
            assert change["after"] in NEXT[State(change["before"])], tuple(change)

    @invariant()
    def rows_make_sense(self) -> None:
        for row in map(dict, self.mine()):
            before = self.seen.get(row["id"])
            if before is not None:
                self.compare(before, row)
            self.seen[row["id"]] = row
            assert row["crashes"] <= MAX_CRASHES
            assert (row["state"] == State.LOST) == (row["crashes"] == MAX_CRASHES)
            assert (row["owner"] is not None) == (row["state"] in HELD)
            assert (row["finished"] is not None) == (row["state"] in FINAL)
            assert (row["result"] is not None) == (row["state"] == State.DONE)
            self.attempts_make_sense(row)
            if row["state"] == State.DONE and row["deleted"] is None:
                packed = self.store.records.result(self.store.records.get(row["id"]))
                assert packed == self.results[row["id"]]
                assert hashlib.sha256(packed).hexdigest() == row["result"]
                assert self.store.records.partial(row["id"]) is None

    def compare(self, before: dict[str, Any], row: dict[str, Any]) -> None:
        assert row["attempt"] >= before["attempt"]
        assert row["crashes"] >= before["crashes"]
        if before["state"] in FINAL:
            # Deleting takes the bytes away and says when; nothing else ever changes.
            may = {"deleted", "result_row"} if before["deleted"] is None else set()
            assert {k for k in row if row[k] != before[k]} <= may

    def attempts_make_sense(self, row: dict[str, Any]) -> None:
        query = "SELECT attempt, outcome, ended FROM attempts WHERE record = ? ORDER BY attempt"
        rows = self.base.execute(query, (row["id"],)).fetchall()
        assert [r["attempt"] for r in rows] == list(range(1, row["attempt"] + 1))
        open_ones = [r["attempt"] for r in rows if r["ended"] is None]
        assert open_ones == ([row["attempt"]] if row["state"] in HELD else [])
        assert sum(r["outcome"] == "done" for r in rows) == (row["state"] == State.DONE)

    @invariant()
    def at_most_one_live_record_a_key(self) -> None:
        live = [
            r["key"]
            for r in self.mine()
            if r["rerun"] == "" and r["deleted"] is None and r["state"] in LIVE
        ]
        assert len(live) == len(set(live))

    def teardown(self) -> None:
        for row in self.mine():
            self.queue.cancel(row["id"])
        self.queue.expire([f"{self.mark}{owner}" for owner in "xyz"])
        assert not [r for r in self.mine() if r["state"] not in FINAL]
        self.base.close()


def test_any_order_of_calls(store: Store) -> None:
    with closing(sqlite3.connect(store.home / "store.sqlite")) as base:
        base.executescript(TRIGGER)
    run_state_machine_as_test(
        lambda: QueueMachine(store),
        settings=settings(
            deadline=None,
            max_examples=100,
            stateful_step_count=40,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_every_way_of_the_table_is_there_to_be_taken(store: Store) -> None:
    """The machine shows that no other way is taken; this, that none in the table is dead."""
    with closing(sqlite3.connect(store.home / "store.sqlite")) as base:
        base.executescript(TRIGGER)
    queue = store.queue

    def claimed(*, cancel: bool = False) -> Claim:
        record = store.records.submit(New("k", "kind", 1, "t", "m", "{}", 0), b"{}", again=True)
        claim = queue.claim("x", record=record)
        assert claim is not None
        if cancel:
            queue.cancel(record)
        return claim

    queue.finish(claimed(), b"done", {})
    queue.fail(claimed(), {}, {})
    queue.fail(claimed(cancel=True), {}, {})
    queue.stopped(claimed(cancel=True))
    back = claimed()
    queue.requeue(back)
    queue.cancel(back.record)
    poison = claimed()
    for _ in range(MAX_CRASHES):
        queue.claim("x", record=poison.record)
        queue.expire(["x"])
    with closing(sqlite3.connect(store.home / "store.sqlite")) as base:
        made = set(base.execute("SELECT DISTINCT before, after FROM changes"))
    assert made == {(str(a), str(b)) for a, ways in NEXT.items() for b in ways}


def test_final_is_what_has_no_way_on() -> None:
    assert {State.DONE, State.FAILED, State.CANCELLED, State.LOST} == FINAL
    assert set(NEXT) == set(State)
    assert all(state.sentence.endswith(".") for state in State)
