"""Real workers under a real supervisor: shared, killed, stopped, cancelled, and looked at."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from interp.jobs.inline import run
from interp.jobs.submit import prepare, submit
from interp.jobs.supervisor import Supervisor
from interp.store import State
from tests.faults._help import (
    LENS,
    alive,
    end_all,
    long_sweep,
    open_at,
    processes,
    wait_final,
    wait_for,
    wait_fraction,
    worker,
)
from tests.faults.conftest import MEDIUM

MINUTE = long_sweep(600)
ANSWERED_S = 3.0

pytestmark = pytest.mark.timeout(900)


class House:
    """A data folder with a supervisor that keeps one worker."""

    def __init__(self, home: Path) -> None:
        self.home, self.store = home, open_at(home)
        self.supervisor = Supervisor(self.store, ["cpu"])
        self.supervisor.start()

    def ask(self, spec: dict[str, Any], *, again: bool = False) -> str:
        return submit(self.store, spec, again=again)

    def close(self) -> None:
        self.supervisor.stop(ask_workers=False)
        end_all(self.home)
        self.store.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    built = House(tmp_path_factory.mktemp("house") / "home")
    try:
        yield built
    finally:
        built.close()


@pytest.fixture(scope="module")
def minute(house: House) -> str:
    """A sweep of about a minute that the worker computes; the tests before its end share it."""
    worker(house.store)
    record = house.ask(MINUTE)
    wait_fraction(house.store, record, 0.001)
    return record


def test_ten_reloads_show_one_record_that_only_moves_on(house: House, minute: str) -> None:
    key = prepare(MINUTE).key
    seen: list[float] = []
    for reload in range(10):
        store = open_at(house.home)
        found = store.records.find(key)
        assert found is not None
        assert found.id == minute
        seen.append(found.fraction)
        store.close()
        if reload == 4:
            # So that there is something new to see.
            wait_for("progress", lambda: house.store.records.get(minute).fraction > seen[-1])
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]
    assert len(house.store.records.list()) == 1


def _answered_in(house: House) -> tuple[float, str]:
    start = time.monotonic()
    record = house.ask(LENS, again=True)
    wait_final(house.store, record)
    return time.monotonic() - start, record


def test_a_long_job_does_not_keep_a_short_one_on_the_same_model_waiting(
    house: House, minute: str, tmp_path: Path
) -> None:
    assert house.store.records.get(minute).state == State.RUNNING
    took, lens = _answered_in(house)
    if took > ANSWERED_S:
        took, lens = _answered_in(house)
    print(f"lens beside a long sweep: {took:.2f} s")
    assert took < ANSWERED_S
    sweep = house.store.records.get(minute)
    assert sweep.state == State.RUNNING
    assert 0 < sweep.fraction < 1
    for _ in range(5):
        _answered_in(house)

    # What each gives when nothing disturbs it, computed here meanwhile.
    alone = open_at(tmp_path / "alone")
    lens_alone, sweep_alone = run(alone, LENS), run(alone, MINUTE)
    assert wait_final(house.store, lens).result == lens_alone.result
    done = wait_final(house.store, minute)
    assert done.state == State.DONE
    assert done.attempt == 1
    assert done.result == sweep_alone.result
    alone.close()


def test_cancel_while_running_keeps_what_there_is(house: House) -> None:
    record = house.ask(MINUTE, again=True)
    wait_fraction(house.store, record, 0.001)
    house.store.queue.cancel(record)
    found = wait_final(house.store, record)
    assert found.state == State.CANCELLED
    assert 0 < found.fraction < 1
    assert found.result is None
    assert house.store.records.partial(record) is not None
    house.store.queue.cancel(record)
    assert house.store.records.get(record) == found
    assert house.store.records.attempts(record) == [(1, "cancelled")]


def _moved(house: House, record: str, was: float) -> float:
    now = house.store.records.get(record).fraction
    return now if now != was else 0.0


def test_a_killed_worker_is_replaced_and_its_record_goes_on(house: House, unbroken: str) -> None:
    record, kept = house.ask(MEDIUM), 0.0
    for _ in range(2):
        # The first partial result of an attempt goes on from the last of the one before.
        at = wait_for("progress", lambda was=kept: _moved(house, record, was))
        assert at > kept
        # Killed after the second, so that each attempt adds something.
        found = wait_fraction(house.store, record, at + 1e-6)
        kept = found.fraction
        row = next(w for w in house.store.workers.alive() if w.owner == found.owner)
        os.kill(row.pid, signal.SIGKILL)
        wait_for("the loss to be noticed", lambda: house.store.records.get(record).owner is None)
        assert house.store.records.get(record).state == State.QUEUED
        assert worker(house.store, other_than=row.owner).pid != row.pid
    done = wait_final(house.store, record)
    assert done.state == State.DONE
    assert done.result == unbroken
    assert (done.attempt, done.crashes) == (3, 2)
    outcomes = ["worker died", "worker died", "done"]
    assert [outcome for _, outcome in house.store.records.attempts(record)] == outcomes


def test_a_stopped_worker_is_killed_after_its_lease_and_replaced(
    house: House, unbroken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = house.ask(MEDIUM, again=True)
    found = wait_fraction(house.store, record, 1e-6)
    row = next(w for w in house.store.workers.alive() if w.owner == found.owner)
    os.kill(row.pid, signal.SIGSTOP)
    # Only now a short lease: a busy machine must not make a well worker look dead.
    monkeypatch.setattr(house.supervisor, "_lease_s", 2.0)
    wait_for("the stopped worker's end", lambda: not alive(row.pid))
    monkeypatch.undo()
    with suppress(ProcessLookupError):
        os.kill(row.pid, signal.SIGCONT)
    done = wait_final(house.store, record)
    assert done.result == unbroken
    assert (done.attempt, done.crashes) == (2, 1)
    assert [o for _, o in house.store.records.attempts(record)] == ["worker died", "done"]
    assert len(processes(house.home, "interp.jobs.worker")) == 1


def test_only_one_worker_was_there_at_a_time(house: House) -> None:
    assert len(house.store.workers.alive()) == 1
    assert len(processes(house.home, "interp.jobs.worker")) == 1
