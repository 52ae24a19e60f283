"""kill -9 at random steps: the record goes on from its checkpoint and gives the same bits.

Two more kills, of real workers under a real supervisor, are in ``test_workers``.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interp.engine import patch
from interp.jobs.inline import run
from interp.jobs.submit import submit
from interp.store import State, Store
from interp.store.states import MAX_CRASHES
from tests.faults._help import LENS, ROOT, finer, open_at, sweep

SWEEP = sweep(80)
STEPS = 18
"""``SWEEP`` makes some more steps than this."""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(autouse=True)
def _finer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut sweeps here as the process that dies cuts them: bits depend on it."""
    monkeypatch.setattr(patch, "_PASS_TOKENS", dict(patch._PASS_TOKENS))
    finer()


Crash = Callable[..., int]


@pytest.fixture(scope="module")
def crash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crash]:
    """Run a record of a store in a process that dies at a step, and say how it ended."""
    log = tmp_path_factory.mktemp("crash") / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults._crash"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            bufsize=1,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def run_it(
        store: Store, record: str, step: int = 0, when: str = "after", every: int = 0
    ) -> int:
        print(store.home, record, step, when, every, file=stdin)
        said = stdout.readline()
        assert said.strip().lstrip("-").isdigit(), log.read_text()
        return int(said)

    try:
        assert stdout.readline() == "ready\n", log.read_text()
        yield run_it
    finally:
        process.kill()
        process.wait()
        stdin.close()
        stdout.close()


@pytest.mark.parametrize("records", [3, pytest.param(9, marks=pytest.mark.slow)])
def test_killed_at_random_steps(store: Store, crash: Crash, tmp_path: Path, records: int) -> None:
    alone = open_at(tmp_path / "alone")
    unbroken = run(alone, SWEEP).result
    alone.close()
    rng, kills = random.Random(7), 0
    for i in range(records):
        record = submit(store, SWEEP, again=True)
        steps = sorted(rng.sample(range(1, STEPS), 2))
        kept: list[float] = []
        # The second attempt counts its steps from where it goes on.
        for step in (steps[0], steps[1] - steps[0]):
            # Every third record keeps a partial result at each second only, as workers do.
            ended = crash(store, record, step, rng.choice(["before", "after"]), int(i % 3 == 2))
            assert ended == -signal.SIGKILL
            assert store.records.get(record).state == State.RUNNING
            kept.append(store.records.get(record).fraction)
            kills += 1
        # From the checkpoint: an attempt from zero would fall back behind the first one.
        assert kept == sorted(kept)
        assert crash(store, record) == 0
        done = store.records.get(record)
        assert done.state == State.DONE
        assert done.result == unbroken
        assert (done.attempt, done.crashes) == (3, 2)
        outcomes = ["worker died", "worker died", "done"]
        assert [outcome for _, outcome in store.records.attempts(record)] == outcomes
        assert store.records.partial(record) is None
    assert kills == 2 * records


def test_after_three_crashes_a_record_is_lost_and_the_others_go_on(
    store: Store, crash: Crash
) -> None:
    bad, good = submit(store, SWEEP), submit(store, LENS)
    for _ in range(MAX_CRASHES):
        assert crash(store, bad, 3) == -signal.SIGKILL
    # This one notices the third death before it takes its own record.
    assert crash(store, good) == 0
    found = store.records.get(bad)
    assert (found.state, found.crashes, found.attempt) == (State.LOST, 3, 3)
    assert store.records.partial(bad) is not None
    assert found.result is None
    assert store.records.get(good).state == State.DONE
    # Asked again it is another record: nothing brings a lost one back.
    other = submit(store, SWEEP)
    assert other != bad
    assert crash(store, other) == 0
    assert store.records.get(other).state == State.DONE
    assert store.records.get(bad) == found


def test_the_library_takes_over_what_a_killed_process_held(store: Store, crash: Crash) -> None:
    """Without any server: a command that was killed, and the same command again."""
    record = submit(store, SWEEP)
    assert crash(store, record, 3) == -signal.SIGKILL
    assert store.records.get(record).state == State.RUNNING
    found = run(store, SWEEP)
    assert found.id == record
    assert (found.state, found.attempt, found.crashes) == (State.DONE, 2, 1)
    # Nobody left a lock behind.
    assert list((store.home / "locks").glob("owner-*")) == []
