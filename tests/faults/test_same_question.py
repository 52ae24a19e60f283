"""A double click, two tabs, two processes: one question is one record and one job."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interp.jobs.inline import run
from interp.jobs.submit import submit
from interp.store import State, Store
from tests.faults._help import LENS, ROOT, environment, open_at, sweep


def at_once(n: int, call: Callable[[], Any]) -> list[Any]:
    """Call from ``n`` threads that start together; return what they got, errors too."""
    gate, got = threading.Barrier(n), []

    def one() -> None:
        gate.wait()
        try:
            got.append(call())
        except Exception as error:
            got.append(error)

    threads = [threading.Thread(target=one) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


@pytest.mark.parametrize("n_pairs", range(1, 7))
def test_two_tabs_of_one_server(store: Store, n_pairs: int) -> None:
    ids = at_once(8, lambda: submit(store, sweep(n_pairs)))
    assert len(set(ids)) == 1, ids
    assert [record.id for record in store.records.list()] == [ids[0]]
    assert store.queue.counts() == {"queued": 1}
    assert not list(store.home.rglob("*.part"))


def test_two_that_write_the_same_bytes_do_not_meet(store: Store) -> None:
    for i in range(30):
        data = bytes([i]) * 300_000
        names = at_once(6, lambda data=data: store.artifacts.put(data))
        assert len(set(names)) == 1, names
        assert store.artifacts.get(names[0]) == data
    assert store.artifacts.count() == 30


SUBMIT = f"""
import interp, sys
spec = interp.parse({LENS!r})
print("ready", flush=True)
sys.stdin.readline()
print(interp.submit(spec))
"""


def test_two_processes(home: Path) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SUBMIT],
            cwd=ROOT,
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in both:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        ids = [process.communicate(timeout=120)[0].strip() for process in both]
    finally:
        for process in both:
            process.kill()
    store = open_at(home)
    assert len(set(ids)) == 1
    assert [record.id for record in store.records.list()] == ids[:1]
    store.close()


def test_asked_again_stands_beside_the_first(store: Store) -> None:
    first = submit(store, LENS)
    second = submit(store, LENS, again=True)
    third = submit(store, LENS, again=True)
    assert len({first, second, third}) == 3
    assert submit(store, LENS) == first
    assert store.queue.counts() == {"queued": 3}
    # One key, and it names the first of them.
    keys = {record.key for record in store.records.list()}
    assert len(keys) == 1
    found = store.records.find(keys.pop())
    assert found is not None
    assert found.id == first


def test_a_done_record_answers_the_same_question(store: Store) -> None:
    done = run(store, LENS)
    assert run(store, LENS) == done
    rerun = run(store, LENS, again=True)
    assert rerun.id != done.id
    assert rerun.result == done.result
    assert store.records.get(done.id) == done


@pytest.mark.parametrize("end", ["cancelled", "failed", "deleted"])
def test_what_ended_without_an_answer_does_not_stand_in_the_way(store: Store, end: str) -> None:
    first = submit(store, LENS)
    claim = store.queue.claim("worker", record=first)
    assert claim is not None
    if end == "cancelled":
        store.queue.cancel(first)
        store.queue.stopped(claim)
    else:
        store.queue.fail(claim, {"asked": "It broke."}, {})
    if end == "deleted":
        store.records.delete(first)
    second = submit(store, LENS)
    assert second != first
    assert store.records.get(second).state == State.QUEUED
