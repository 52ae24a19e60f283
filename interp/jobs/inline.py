"""Run a question in this process and keep its record: notebooks, the command line, tests."""

from __future__ import annotations

import secrets
import time
from typing import Any

from interp.analyses._record import Spec
from interp.config import settings
from interp.jobs.execute import execute
from interp.jobs.locks import owner_lock
from interp.jobs.residents import Residents
from interp.jobs.submit import submit
from interp.store import Record, Store

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
        claim = store.queue.claim(owner, record=name)
        if claim is not None:
            execute(store, claim, _residents())
    finally:
        lock.remove()
    record = store.records.get(name)
    while not record.state.is_final:
        time.sleep(0.1)
        record = store.records.get(name)
    return record


def _residents() -> Residents:
    device = settings().device
    if device not in _RESIDENTS:
        _RESIDENTS[device] = Residents(device)
    return _RESIDENTS[device]
