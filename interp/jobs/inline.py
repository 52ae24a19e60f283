"""Run a question in this process and keep its record: notebooks, the command line, tests."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from typing import Any

from interp.analyses._record import Spec
from interp.config import settings
from interp.jobs.execute import execute
from interp.jobs.locks import owner_lock, take_from_dead
from interp.jobs.residents import Residents
from interp.jobs.submit import submit
from interp.store import Record, Store
from interp.store.queue import Claim, Fenced

_RESIDENTS: dict[str, Residents] = {}


def run(store: Store, spec: Spec | dict[str, Any] | str, *, again: bool = False) -> Record:
    """Ask a question here and wait for its record.

    If the same question was answered before, that record is returned; if a worker is computing
    it, its end is waited for.
    """
    name = submit(store, spec, again=again)
    owner = secrets.token_hex(16)
    lock = owner_lock(store.home, owner)
    lock.take()
    try:
        while not (record := store.records.get(name)).state.is_final:
            claim = store.queue.claim(owner, record=name)
            if claim is not None:
                _compute(store, claim)
            else:
                # Without a server nobody else notices that whoever computes it has died.
                take_from_dead(store)
                time.sleep(0.1)
    finally:
        lock.remove()
    return record


def _compute(store: Store, claim: Claim) -> None:
    try:
        execute(store, claim, _residents())
    except KeyboardInterrupt:
        # Whoever interrupts a notebook or a command does not want a worker to go on with it.
        store.queue.cancel(claim.record)
        with suppress(Fenced):
            store.queue.stopped(claim)
        raise


def _residents() -> Residents:
    device = settings().device
    if device not in _RESIDENTS:
        _RESIDENTS[device] = Residents(device)
    return _RESIDENTS[device]
