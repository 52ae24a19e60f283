"""Parts of the worker and the supervisor that a whole process shows only by bad luck."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest

from interp.jobs import supervisor as supervising
from interp.jobs import worker as working
from interp.jobs.locks import owner_lock, take_from_dead
from interp.jobs.submit import submit
from interp.jobs.supervisor import Supervisor
from interp.jobs.worker import Worker
from interp.store import State, Store
from tests.faults._help import LENS, wait_for


def test_the_heart_beats_on_after_a_locked_database(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker, beat, calls = Worker(store, "cpu"), store.workers.beat, []

    def locked(owner: str, **about: Any) -> None:
        calls.append(about)
        if len(calls) < 4:
            raise OSError("database is locked")
        if len(calls) > 6:
            raise SystemExit
        beat(owner, **about)

    monkeypatch.setattr(working, "BEAT_S", 0.01)
    monkeypatch.setattr(store.workers, "beat", locked)
    with pytest.raises(SystemExit):
        worker._beat()
    (row,) = store.workers.alive()
    assert row.beat == 3
    # What is told once is told by the first that gets through.
    assert row.device == "cpu"
    assert row.versions["torch"]
    assert [record.message for record in caplog.records] == ["heartbeat"] * 3


def test_who_leaves_takes_no_more_short_jobs(store: Store) -> None:
    worker = Worker(store, "cpu")
    records = [submit(store, LENS, again=True) for _ in range(3)]
    worker.leave()
    worker._short_jobs()
    assert {store.records.get(record).state for record in records} == {State.QUEUED}


def test_short_jobs_end_their_turn(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait: between two turns the long one makes a step and hears of a cancel."""
    worker = Worker(store, "cpu")
    records = [submit(store, LENS, again=True) for _ in range(4)]
    now = iter(range(100))
    # A clock on which each look at it takes half a turn.
    monkeypatch.setattr(working.time, "monotonic", lambda: next(now) * working._SHORT_TURN_S / 2)
    worker._short_jobs()
    monkeypatch.undo()
    states = [store.records.get(record).state for record in records]
    assert states == [State.DONE, State.QUEUED, State.QUEUED, State.QUEUED]


def test_a_worker_that_hangs_before_its_first_heartbeat_is_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that replaces another, whose heartbeats were seen."""
    hangs = [sys.executable, "-c", "import time; time.sleep(3600)"]
    popen = subprocess.Popen
    monkeypatch.setattr(supervising, "_START_GRACE_S", 0.5)
    monkeypatch.setattr(subprocess, "Popen", lambda _, **named: popen(hangs, **named))
    supervisor = Supervisor(store, ["cpu"])
    watched = supervisor._slots["cpu"]
    watched.beat = ("its predecessor", 7)
    supervisor.look()
    first = watched.child
    assert first is not None

    def replaced() -> bool:
        supervisor.look()
        return watched.child is not first

    wait_for("another one", replaced)
    assert first.returncode == -signal.SIGKILL
    assert watched.child is not None
    watched.child.kill()
    watched.child.wait()


def test_nothing_is_taken_from_the_living(store: Store) -> None:
    record = submit(store, LENS)
    lock = owner_lock(store.home, "owner")
    assert lock.take()
    assert store.queue.claim("owner", record=record)
    take_from_dead(store)
    assert store.records.get(record).state == State.RUNNING
    lock.release()
    take_from_dead(store)
    assert store.records.get(record).state == State.QUEUED
    take_from_dead(store)
    assert store.records.get(record).crashes == 1
