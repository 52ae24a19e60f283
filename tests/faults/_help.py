"""What the fault tests share: questions of several sizes, polling, and real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from interp.behaviors import parens
from interp.store import Store

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0
"""How long anything is polled for: far above what it takes, since the machine may be busy."""

LENS = {"kind": "logit_lens", "model": "paren-balancer", "prompt": "(())()"}

T = TypeVar("T")


def sweep(n_pairs: int) -> dict[str, Any]:
    """Patch every head at every position: a pass for about 40 pairs, so many steps."""
    return {
        "kind": "activation_patching",
        "model": "paren-balancer",
        "behavior": "paren-near-misses",
        "n_pairs": n_pairs,
    }


def long_sweep(n_pairs: int) -> dict[str, Any]:
    """Do the same on strings of 40: about a minute for 600 pairs beside another busy process."""
    rng = np.random.default_rng(5)
    pairs: list[dict[str, str]] = []
    for clean in parens.to_strings(parens.dyck_words(rng, 40, n_pairs)):
        at = int(rng.integers(40))
        turned = ")" if clean[at] == "(" else "("
        corrupted = clean[:at] + turned + clean[at + 1 :]
        pairs.append(
            {"clean": clean, "corrupted": corrupted, "answer": "balanced", "foil": "unbalanced"}
        )
    return {"kind": "activation_patching", "model": "paren-balancer", "pairs": pairs}


def finer() -> None:
    """Cut sweeps of this process into many passes, as long ones are: steps to stop or die at."""
    from interp.engine import patch

    patch._PASS_TOKENS["cpu"] = 1.2e4


def open_at(home: Path) -> Store:
    """Open a store of the test's own, beside those that the library keeps open."""
    return Store(f"sqlite:///{home / 'store.sqlite'}", home)


def wait_for(what: str, ready: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """Poll until ``ready`` gives something true, and return it."""
    until = time.monotonic() + patience_s
    while not (found := ready()):
        if time.monotonic() > until:
            raise AssertionError(f"waited {patience_s:.0f} s in vain for {what}")
        time.sleep(0.02)
    return found


def wait_final(store: Store, record: str) -> Any:
    """Poll until a record is final, and return it."""

    def final() -> Any:
        found = store.records.get(record)
        return found if found.state.is_final else None

    return wait_for(f"the end of {record}", final)


def wait_fraction(store: Store, record: str, fraction: float) -> Any:
    """Poll until a worker computes a record and has kept so much of it."""

    def far_enough() -> Any:
        found = store.records.get(record)
        assert not found.state.is_final, f"{found.state} too early: {found.error}"
        return found if found.owner and found.fraction >= fraction else None

    return wait_for(f"{record} at {fraction:.0%}", far_enough)


def worker(store: Store, *, other_than: str = "") -> Any:
    """Poll until a worker is there that beats, and return its row."""

    def row() -> Any:
        rows = [w for w in store.workers.alive() if w.beat and w.owner != other_than]
        return rows[0] if rows else None

    return wait_for("a worker", row)


def environment(home: Path, **more: str) -> dict[str, str]:
    """Make the environment of a process on ``home``, on the processor."""
    return {**os.environ, "BECAUSE_HOME": str(home), "BECAUSE_DEVICE": "cpu", **more}


def start(home: Path, arguments: list[str], **more: str) -> subprocess.Popen[bytes]:
    """Start a Python process in a session of its own, with its output in ``home``."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "process.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment(home, **more),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def processes(home: Path, command: str = "") -> list[int]:
    """List the living processes whose data folder is ``home`` and whose command has ``command``."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            variables = (folder / "environ").read_bytes().split(b"\0")
            said = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if f"BECAUSE_HOME={home}".encode() in variables and command in said:
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid() and alive(pid)]


def alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return "\nState:\tZ" not in (Path("/proc") / str(pid) / "status").read_text()
    except OSError:
        return False


def end_all(home: Path) -> None:
    """Kill every process that was started on ``home``; its name is this test's alone."""
    for pid in processes(home):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
