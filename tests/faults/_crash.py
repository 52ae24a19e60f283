"""A process that runs records and kills itself with -9, many times for one import of torch.

    python -m tests.faults._crash

Reads lines ``HOME RECORD STEP WHEN EVERY`` and forks for each a child that claims the record as an
owner of its own and kills itself at its STEP-th step, WHEN = "before" or "after" the step's partial
result is kept, keeping one at most every EVERY seconds; STEP 0 lets it end. Prints how the child
ended, as ``os.waitstatus_to_exitcode`` gives it.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from itertools import count
from pathlib import Path

import torch

from interp.jobs import execute as module
from interp.jobs.locks import owner_lock, take_from_dead
from interp.jobs.residents import Residents
from tests.faults._help import finer, open_at


def child(residents: Residents, line: str) -> None:
    """Run a record, and die as told."""
    home, record, step, when, every = line.split()
    module.PARTIAL_EVERY_S = float(every)
    store = open_at(Path(home))
    take_from_dead(store)
    owner = secrets.token_hex(16)
    lock = owner_lock(store.home, owner)
    lock.take()
    steps = count(1)

    def reached() -> bool:
        if next(steps) == int(step):
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    # ``leaving`` is asked before a partial result is kept, ``between`` runs after.
    hooks = module.Hooks(leaving=reached) if when == "before" else module.Hooks(between=reached)
    claim = store.queue.claim(owner, record=record)
    assert claim is not None, store.records.get(record).state
    module.execute(store, claim, residents, hooks)


def main() -> None:
    torch.set_num_threads(1)
    finer()
    residents = Residents("cpu")
    residents.get("paren-balancer")
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                child(residents, line)
                os._exit(0)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
