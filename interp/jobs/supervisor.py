"""The supervisor: a thread of the server that keeps one worker alive on every device.

It never trusts a clock that can be set, a process id that can be used again, or its own memory:
a worker is alive while it holds its slot's lock, and well while its heartbeat counter moves by
the supervisor's own monotonic clock. A server that restarts therefore finds the worker of the one
before it and starts no second one.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from interp.config import settings
from interp.jobs.locks import FileLock, owner_lock, take_from_dead
from interp.store import Store
from interp.store.workers import WorkerRow

POLL_S = 0.5
CANCEL_GRACE_S = 8.0
_START_GRACE_S = 120.0
_RESTART_S = 5.0
_LOG = logging.getLogger(__name__)
_ROOT = Path(__file__).resolve().parents[2]


def slots() -> list[str]:
    """List the devices to run a worker on: every NVIDIA card, else Apple's, else the processor.

    This runs in the server, which must not import torch. A worker whose torch cannot use its card
    falls back to the processor and says so in its row.
    """
    wanted = settings().device
    if wanted:
        return [wanted]
    tool = shutil.which("nvidia-smi")
    if tool:
        listed = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, timeout=20, check=False
        )
        cards = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
        if cards:
            return [f"cuda:{i}" for i in range(len(cards))]
    return ["mps"] if sys.platform == "darwin" and os.uname().machine == "arm64" else ["cpu"]


@dataclass
class _Watched:
    """What the supervisor remembers of a slot: its last heartbeat and when it saw it move."""

    child: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    beat: tuple[str, int] = ("", -1)
    moved: float = 0.0


@dataclass
class Supervisor:
    """Starts, watches and replaces workers until ``stop``."""

    store: Store
    names: list[str] = field(default_factory=slots)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._slots = {name: _Watched() for name in self.names}
        self._cancelling: dict[str, float] = {}
        self._lease_s = settings().lease_s
        self._server = FileLock(self.store.home, "server")
        self._thread = threading.Thread(target=self._run, daemon=True, name="supervisor")

    def start(self) -> None:
        """Begin to look after workers; while this runs, workers know that a server is there."""
        self._server.take(shared=True)
        self._thread.start()

    def stop(self, *, ask_workers: bool = True) -> None:
        """Stop looking, and ask own workers to put their records back and exit."""
        self._stop.set()
        self._thread.join(timeout=10)
        self._server.release()
        if ask_workers:
            for row in self.store.workers.alive():
                if row.slot in self._slots and not owner_lock(self.store.home, row.owner).is_free():
                    _signal(row.pid, signal.SIGTERM)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception:
                # A full disk or a locked database must not leave the queue without a supervisor.
                _LOG.exception("supervisor")
            self._stop.wait(POLL_S)

    def look(self) -> None:
        """Look once: end what will not stop, take records from the dead, replace them."""
        now = time.monotonic()
        home = self.store.home
        rows = [row for row in self.store.workers.alive() if row.slot in self._slots]
        gone = [row for row in rows if owner_lock(home, row.owner).is_free()]
        living = [row for row in rows if row not in gone]
        # Only reads until here and in these two: a worker that was stopped inside a transaction
        # keeps everybody from writing until it is killed.
        for row in living:
            self._check_beat(self._slots[row.slot], row, now)
        self._end_stuck(living, now)
        take_from_dead(self.store)
        for row in gone:
            self.store.workers.end(row.owner)
            self.store.orders.lost(row.owner)
            owner_lock(home, row.owner).remove()
        for slot, watched in self._slots.items():
            child = watched.child
            starting = child is not None and child.poll() is None
            # One on its way has not taken its lock yet; one that hangs there is ended.
            late = now - watched.started > _START_GRACE_S and not watched.beat[0]
            if child is not None and starting and late:
                child.kill()
            # One that dies at its start, of a broken import, say, is not started again at once.
            rested = child is None or now - watched.started > _RESTART_S
            if not starting and rested and self._lock(slot).is_free():
                self._start(slot, watched, now)

    def _check_beat(self, watched: _Watched, row: WorkerRow, now: float) -> None:
        if (row.owner, row.beat) != watched.beat:
            watched.beat, watched.moved = (row.owner, row.beat), now
        elif now - watched.moved > self._lease_s:
            _signal(row.pid, signal.SIGKILL)

    def _end_stuck(self, rows: list[WorkerRow], now: float) -> None:
        """Kill a worker that does not stop though a person cancelled: it is stuck in a step."""
        waiting = dict(self.store.queue.cancelling())
        self._cancelling = {r: self._cancelling.get(r, now) for r in waiting}
        for record, since in self._cancelling.items():
            for row in rows:
                if now - since > CANCEL_GRACE_S and row.owner == waiting[record]:
                    _signal(row.pid, signal.SIGKILL)

    def _start(self, slot: str, watched: _Watched, now: float) -> None:
        logs = self.store.home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / f"worker-{slot.replace(':', '-')}.log").open("ab") as log:
            watched.child = subprocess.Popen(
                [sys.executable, "-m", "interp.jobs.worker", "--slot", slot],
                cwd=_ROOT,
                env={**os.environ, **_QUIET, "BECAUSE_HOME": str(self.store.home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # Its own first heartbeat is waited for, not the one of its predecessor.
        watched.started, watched.beat = now, ("", -1)

    def _lock(self, slot: str) -> FileLock:
        return FileLock(self.store.home, f"slot-{slot}")


_QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "WANDB_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
