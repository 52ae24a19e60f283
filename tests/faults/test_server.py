"""The whole server, killed and ended: its worker outlives it, and the next server finds it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from interp.jobs.locks import FileLock
from interp.jobs.submit import submit
from interp.store import State, Store
from tests.faults._help import processes, start, wait_final, wait_for, wait_fraction, worker
from tests.faults.conftest import MEDIUM

pytestmark = pytest.mark.timeout(900)


class Server:
    """The app, started as a user starts it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://localhost:{port}"
        arguments = ["-m", "streamlit", "run", "app.py", "--server.port", str(port)]
        self.process = start(self.home, arguments)
        wait_for("the server", self.answers)

    def answers(self) -> bool:
        with suppress(OSError):
            return self.get("/healthz")["status"] == "ok"
        return False

    def get(self, path: str) -> Any:
        # A proxy of the surroundings must not be asked for this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        os.kill(self.process.pid, number)
        return self.process.wait(timeout=60)


@pytest.fixture
def server(store: Store) -> Iterator[Server]:
    built = Server(store.home)
    built.start()
    try:
        yield built
    finally:
        if built.process is not None:
            built.process.kill()
            built.process.wait()


def test_a_job_outlives_its_server_and_the_next_one_adopts_the_worker(
    server: Server, store: Store, unbroken: str
) -> None:
    before = worker(store)
    record = submit(store, MEDIUM)
    wait_fraction(store, record, 1e-6)
    assert server.end(signal.SIGKILL) == -signal.SIGKILL
    assert store.records.get(record).state == State.RUNNING

    server.start()
    done = wait_final(store, record)
    assert (done.state, done.attempt, done.crashes) == (State.DONE, 1, 0)
    assert done.result == unbroken
    after = worker(store)
    assert (after.owner, after.pid) == (before.owner, before.pid)
    assert processes(server.home, "interp.jobs.worker") == [before.pid]
    assert not FileLock(server.home, "slot-cpu").is_free()
    served = server.get(f"/a/{record}.json")
    assert (served["state"], served["result_sha256"]) == ("done", unbroken)
    assert served["result"]["effect"]

    # In order this time: the worker puts its record back and goes. One start serves both faults.
    other = submit(store, MEDIUM, again=True)
    at = wait_fraction(store, other, 1e-6).fraction
    server.end(signal.SIGTERM)
    wait_for("the worker's exit", lambda: not processes(server.home))
    put_back = store.records.get(other)
    assert (put_back.state, put_back.crashes, put_back.owner) == (State.QUEUED, 0, None)
    assert put_back.fraction >= at
    assert store.workers.alive() == []

    # The next worker finds no server: it completes what waits, then leaves by itself.
    alone = start(server.home, ["-m", "interp.jobs.worker", "--slot", "cpu"], BECAUSE_IDLE_S="0.5")
    done = wait_final(store, other)
    assert (done.state, done.attempt, done.crashes) == (State.DONE, 2, 0)
    assert done.result == unbroken
    assert [o for _, o in store.records.attempts(other)] == ["requeued", "done"]
    assert alone.wait(timeout=60) == 0
    assert store.workers.alive() == []
