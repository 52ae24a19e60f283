"""Cancel at the moments that are hard to hit: one terminal state each, and then nothing changes.

Cancel of a real worker's job, and of one that is stuck, are in ``test_workers`` and ``test_stuck``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from interp import analyses
from interp.errors import InterpError
from interp.jobs import execute as module
from interp.jobs import inline
from interp.jobs.execute import Hooks, execute
from interp.jobs.residents import Residents
from interp.jobs.submit import submit
from interp.store import State, Store, unpack
from interp.store.queue import Claim, Fenced
from tests.faults._help import LENS, sweep

SWEEP = sweep(200)


def _claimed(store: Store, spec: dict[str, Any], owner: str = "owner") -> Claim:
    claim = store.queue.claim(owner, record=submit(store, spec))
    assert claim is not None
    return claim


def _assert_nothing_changes_it(store: Store, claim: Claim) -> None:
    """Whatever comes late, from a page or from the worker, is without effect."""
    before = store.records.get(claim.record), store.records.events(claim.record)
    store.queue.cancel(claim.record)
    assert store.queue.expire([claim.owner]) == 0
    assert store.queue.claim("another", record=claim.record) is None
    late: list[Callable[[], Any]] = [
        lambda: store.queue.progress(claim, 0.9, None, b"late", b"late"),
        lambda: store.queue.finish(claim, b"late", {}),
        lambda: store.queue.fail(claim, {"asked": "late"}, {}),
        lambda: store.queue.stopped(claim),
        lambda: store.queue.requeue(claim),
        lambda: store.queue.wants_stop(claim),
    ]
    for write in late:
        with pytest.raises(Fenced):
            write()
    assert (store.records.get(claim.record), store.records.events(claim.record)) == before


def _partial(store: Store, record: str) -> Any:
    packed = store.records.partial(record)
    kind = analyses.get("activation_patching")
    return None if packed is None else unpack(kind.result, packed)


def test_while_queued(store: Store) -> None:
    record = submit(store, SWEEP)
    store.queue.cancel(record)
    found = store.records.get(record)
    assert (found.state, found.attempt, found.result) == (State.CANCELLED, 0, None)
    assert found.finished is not None
    assert store.records.partial(record) is None
    assert store.queue.claim("worker") is None
    _assert_nothing_changes_it(store, Claim(record, "worker", 1))


def test_while_queued_again_keeps_what_an_earlier_attempt_left(store: Store) -> None:
    claim = _claimed(store, SWEEP)
    asked = iter((False, False, True))
    assert execute(store, claim, Residents("cpu"), Hooks(leaving=lambda: next(asked)))
    assert store.records.get(claim.record).state == State.QUEUED
    store.queue.cancel(claim.record)
    assert store.records.get(claim.record).state == State.CANCELLED
    assert _partial(store, claim.record) is not None
    _assert_nothing_changes_it(store, claim)


def test_between_two_steps(store: Store) -> None:
    claim = _claimed(store, SWEEP)
    hooks = Hooks(between=lambda: store.queue.cancel(claim.record))
    assert execute(store, claim, Residents("cpu"), hooks) == State.CANCELLED
    found = store.records.get(claim.record)
    assert (found.state, found.result) == (State.CANCELLED, None)
    assert 0 < found.fraction < 1
    assert _partial(store, claim.record).best is None
    _assert_nothing_changes_it(store, claim)


def test_after_the_last_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person pressed before the result was there: it is theirs as a partial one, no more."""
    claim = _claimed(store, SWEEP)
    pack = module.pack

    def pressed(result: Any) -> bytes:
        if result.best is not None:
            store.queue.cancel(claim.record)
        return pack(result)

    monkeypatch.setattr(module, "pack", pressed)
    assert execute(store, claim, Residents("cpu")) == State.CANCELLED
    found = store.records.get(claim.record)
    assert (found.state, found.result) == (State.CANCELLED, None)
    assert _partial(store, claim.record).best is not None
    _assert_nothing_changes_it(store, claim)


def test_at_the_very_write_of_the_result(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = _claimed(store, SWEEP)
    stamp = module.stamp

    def pressed(*args: Any) -> dict[str, Any]:
        store.queue.cancel(claim.record)
        return stamp(*args)

    monkeypatch.setattr(module, "stamp", pressed)
    assert execute(store, claim, Residents("cpu")) == State.CANCELLED
    found = store.records.get(claim.record)
    assert (found.state, found.result) == (State.CANCELLED, None)
    assert _partial(store, claim.record) is not None
    _assert_nothing_changes_it(store, claim)


def test_after_the_result_is_written_it_stays(store: Store) -> None:
    done = inline.run(store, LENS)
    store.queue.cancel(done.id)
    assert store.records.get(done.id) == done
    _assert_nothing_changes_it(store, Claim(done.id, "owner", done.attempt))


def test_a_failure_while_cancelling_is_one_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = _claimed(store, SWEEP)

    def breaks(result: Any) -> bytes:
        store.queue.cancel(claim.record)
        raise InterpError("It broke.", "At the worst moment.", "Try again.")

    monkeypatch.setattr(module, "pack", breaks)
    assert execute(store, claim, Residents("cpu")) == State.FAILED
    found = store.records.get(claim.record)
    assert found.error is not None
    assert found.error["asked"] == "It broke."
    _assert_nothing_changes_it(store, claim)


def test_an_interrupted_notebook_cell_is_a_cancel(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing goes on with it behind the person's back, and asking again starts anew."""
    patched, keep = [], module._Job.keep

    def interrupted(job: Any, step: Any) -> None:
        keep(job, step)
        if not patched:
            patched.append(True)
            raise KeyboardInterrupt

    monkeypatch.setattr(module._Job, "keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        inline.run(store, SWEEP)
    stopped = store.records.list()[0]
    assert stopped.state == State.CANCELLED
    assert store.records.partial(stopped.id) is not None
    assert inline.run(store, SWEEP).state == State.DONE
    assert store.records.get(stopped.id) == stopped


def test_a_record_that_another_took_over_is_left_alone(store: Store) -> None:
    """A worker that was thought dead comes back in the middle of its run: one result only."""
    claim = _claimed(store, SWEEP, "first")
    taken: list[Any] = []

    def thought_dead() -> None:
        if not taken:
            assert store.queue.expire(["first"]) == 1
            taken.append(inline.run(store, SWEEP))

    assert execute(store, claim, Residents("cpu"), Hooks(between=thought_dead)) == State.LOST
    found = store.records.get(claim.record)
    assert found == taken[0]
    assert (found.state, found.attempt, found.crashes) == (State.DONE, 2, 1)
    assert store.records.attempts(claim.record) == [(1, "worker died"), (2, "done")]
    _assert_nothing_changes_it(store, claim)
