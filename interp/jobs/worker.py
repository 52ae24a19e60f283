"""The worker process: owns one device, keeps models loaded, takes records from the queue.

    python -m interp.jobs.worker --slot cpu

It holds an exclusive lock on its slot for as long as it lives, so that there is never a second
one, and one on its owner's name, by which others see that it lives. It beats from a thread of
its own, so that a long step does not look like death. On SIGTERM it finishes its step, puts its
record back and exits; without a server it finishes its record and exits after a while.
"""

from __future__ import annotations

import argparse
import logging
import secrets
import signal
import sys
import threading
import time
from types import FrameType

from interp.config import settings
from interp.jobs.locks import FileLock, owner_lock
from interp.store import Store, open_store

BEAT_S = 1.0
_IDLE_POLL_S = 0.1
# So long may short jobs hold up a long one before it makes a step and hears of a cancel.
_SHORT_TURN_S = 2.0
ALREADY_RUNNING = 3
_LOG = logging.getLogger(__name__)


class Worker:
    """The loop of one worker."""

    def __init__(self, store: Store, slot: str) -> None:
        from interp.jobs.residents import Residents

        self.store, self.slot = store, slot
        self.owner = secrets.token_hex(16)
        self.residents = Residents(slot)
        self._leave = threading.Event()
        self._idle_s = settings().idle_s
        self._lock = owner_lock(store.home, self.owner)
        self._lock.take()
        store.workers.register(self.owner, slot)

    def leave(self, *_: int | FrameType | None) -> None:
        """Ask the loop to stop at its next step (also the handler of SIGTERM)."""
        self._leave.set()

    def run(self) -> None:
        """Work until asked to leave or until no server has been there for a while."""
        from interp.jobs.execute import Hooks, execute
        from interp.models.load import warm_up

        threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()
        warm_up()
        hooks = Hooks(leaving=self._leave.is_set, between=self._short_jobs)
        server = FileLock(self.store.home, "server")
        seen = time.monotonic()
        while not self._leave.is_set():
            self._orders()
            claim = self.store.queue.claim(self.owner)
            if claim is not None:
                execute(self.store, claim, self.residents, hooks)
            if not server.is_free():
                seen = time.monotonic()
            elif time.monotonic() - seen > self._idle_s:
                break
            if claim is None:
                self._leave.wait(_IDLE_POLL_S)
        self.store.workers.end(self.owner)
        self._lock.remove()

    def _short_jobs(self) -> None:
        """Run the short jobs that wait, between two steps of a long one."""
        from interp.jobs.execute import execute

        self._orders()
        until = time.monotonic() + _SHORT_TURN_S
        while not self._leave.is_set() and time.monotonic() < until:
            claim = self.store.queue.claim(self.owner, lane=0)
            if claim is None:
                break
            execute(self.store, claim, self.residents)

    def _orders(self) -> None:
        """Carry out what is asked about models."""
        from interp.jobs.orders import carry_out

        while not self._leave.is_set():
            order = self.store.orders.take(self.owner, self.slot)
            if order is None:
                break
            carry_out(self.store, order, self.residents)

    def _beat(self) -> None:
        from interp.jobs.device import describe

        told = False
        while True:
            try:
                about = describe(self.residents.device, memory_only=told)
                self.store.workers.beat(self.owner, **about, models=self.residents.sizes())
                told = True
            except Exception:
                # A locked database or a full disk may pass within the lease; a device that no
                # longer answers does not, and then the supervisor ends this process.
                _LOG.exception("heartbeat")
            time.sleep(BEAT_S)


def main() -> int:
    """Start a worker on the slot given by ``--slot``."""
    parser = argparse.ArgumentParser(prog="interp.jobs.worker")
    parser.add_argument("--slot", required=True)
    slot = parser.parse_args().slot
    now = settings()
    now.home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(now.home, f"slot-{slot}")
    if not lock.take():
        return ALREADY_RUNNING
    import torch

    torch.set_num_threads(now.threads)
    worker = Worker(open_store(), slot)
    signal.signal(signal.SIGTERM, worker.leave)
    # Ctrl-C in the server's terminal is the server's business; it then asks with SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
