"""Workers that do not come back by themselves, under a real supervisor."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from interp.jobs import supervisor as module
from interp.jobs.submit import submit
from interp.jobs.supervisor import Supervisor
from interp.store import State, Store
from tests.faults._help import alive, start, sweep, wait_final, wait_for, worker

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def watch(store: Store) -> Iterator[Callable[[], Supervisor]]:
    """Start a supervisor of slot "cpu" that adopts the worker that is there."""
    started: list[Supervisor] = []

    def begin() -> Supervisor:
        started.append(Supervisor(store, ["cpu"]))
        started[0].start()
        return started[0]

    yield begin
    for one in started:
        one.stop(ask_workers=False)


def test_a_worker_stuck_in_native_code_is_killed_once_cancel_is_pressed(
    store: Store, watch: Callable[[], Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CANCEL_GRACE_S", 1.0)
    process = start(store.home, ["-m", "tests.faults._stuck_worker", "--slot", "cpu"])
    row = worker(store)
    assert row.pid == process.pid
    watch()
    record = submit(store, sweep(1000))
    wait_for("the stuck step", (store.home / "stuck").exists)
    found, beat = store.records.get(record), worker(store).beat
    # It beats on, so no lease would ever end it.
    wait_for("heartbeats", lambda: worker(store).beat > beat + 2)
    assert alive(process.pid)
    store.queue.cancel(record)
    assert store.records.get(record).state == State.CANCELLING
    ended = wait_final(store, record)
    assert ended.state == State.CANCELLED
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert store.records.partial(record) is not None
    assert ended.fraction == found.fraction
    assert store.records.attempts(record) == [(1, "worker died")]


LOCKER = """
import os, sys, time
from pathlib import Path
from interp.jobs.locks import FileLock, owner_lock
from tests.faults._help import open_at
store = open_at(Path(os.environ["BECAUSE_HOME"]))
slot, owner = FileLock(store.home, "slot-cpu"), owner_lock(store.home, "stopped")
assert slot.take() and owner.take()
store.workers.register("stopped", "cpu")
store.workers.beat("stopped")
with store.db.write.begin():
    Path(store.home, "locked").touch()
    time.sleep(3600)
"""


def test_a_worker_that_stopped_inside_a_transaction_does_not_lock_everybody_out(
    store: Store, watch: Callable[[], Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor can write nothing before it has killed it, so it must kill first."""
    record = submit(store, sweep(20))
    process = start(store.home, ["-c", LOCKER])
    wait_for("the lock", (store.home / "locked").exists)
    monkeypatch.setenv("BECAUSE_LEASE_S", "1")
    # What replaces it is no matter here.
    monkeypatch.setattr(Supervisor, "_start", lambda *_: None)
    os.kill(process.pid, signal.SIGSTOP)
    watch()
    assert process.wait(timeout=60) == -signal.SIGKILL
    wait_for("the row's end", lambda: not store.workers.alive())
    store.queue.cancel(record)
    assert store.records.get(record).state == State.CANCELLED
