"""The store when the disk is full, the schema newer, a record deleted; the engine out of memory."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from starlette.applications import Starlette
from starlette.testclient import TestClient

from interp import answers
from interp.__main__ import main
from interp.analyses.activation_patching import Result
from interp.engine import hook_count, patch
from interp.errors import BadInput, Gone, NotFound, StoreTooNew
from interp.jobs import inline
from interp.jobs.execute import execute
from interp.jobs.inline import run
from interp.jobs.residents import Residents
from interp.jobs.submit import submit
from interp.store import State, Store, artifacts, database, open_store
from interp.store.codec import unpack
from tests.faults._help import LENS, open_at, sweep
from ui.routes import ROUTES


def _claim(store: Store, spec: dict[str, Any], owner: str = "worker") -> Any:
    claim = store.queue.claim(owner, record=submit(store, spec))
    assert claim is not None
    return claim


# --- schema ---------------------------------------------------------------------------------


def test_a_newer_schema_is_refused_and_left_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_at(home).close()
    with closing(sqlite3.connect(home / "store.sqlite")) as base:
        base.execute("UPDATE alembic_version SET version_num = '9999'")
        base.commit()
    with pytest.raises(StoreTooNew, match="Its schema is 9999"):
        open_at(home)
    assert main(["list"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Start the version that wrote it" in err
    assert err.count("\n") == 1
    with closing(sqlite3.connect(home / "store.sqlite")) as base:
        assert base.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


def test_the_copy_before_a_migration_has_what_was_committed_last(store: Store) -> None:
    """The last writes lie in the file beside the database, where a copy of files misses them."""
    record = submit(store, LENS)
    copy = store.home / "copy.sqlite"
    database._copy(str(store.home / "store.sqlite"), str(copy))
    with closing(sqlite3.connect(copy)) as base:
        assert base.execute("SELECT id FROM records").fetchall() == [(record,)]


# --- deleting -------------------------------------------------------------------------------


def test_deleting_leaves_a_tombstone(home: Path) -> None:
    store = open_store()
    record = run(store, LENS)
    client = TestClient(Starlette(routes=ROUTES), follow_redirects=False)
    assert client.get(f"/a/{record.id}").status_code == 200
    store.records.delete(record.id)
    with pytest.raises(Gone, match="was deleted"):
        store.records.get(record.id)
    with pytest.raises(Gone):
        answers.get(store, record.id)
    with pytest.raises(Gone):
        store.records.delete(record.id)
    for path in (f"/a/{record.id}", f"/a/{record.id}.json"):
        said = client.get(path)
        assert said.status_code == 410
        assert "was deleted" in said.text
    # Its bytes are gone from the row, its id is not free, and the question can be asked anew.
    with closing(sqlite3.connect(home / "store.sqlite")) as base:
        row = base.execute("SELECT result_row FROM records WHERE id = ?", (record.id,)).fetchone()
        assert row == (None,)
    row = {"id": record.id, "key": record.key}
    store.records.add_finished(row, b"{}", b"")
    with pytest.raises(Gone):
        store.records.get(record.id)
    again = run(store, LENS)
    assert again.id != record.id
    assert store.records.find(record.key) == again
    store.close()


def test_what_still_runs_is_not_deleted(store: Store) -> None:
    queued = submit(store, LENS)
    with pytest.raises(BadInput, match="It is queued"):
        store.records.delete(queued)
    claim = store.queue.claim("worker", record=queued)
    assert claim is not None
    with pytest.raises(BadInput, match="It is running"):
        store.records.delete(queued)
    store.queue.cancel(queued)
    with pytest.raises(BadInput, match="It is cancelling"):
        store.records.delete(queued)
    store.queue.stopped(claim)
    store.records.delete(queued)


# --- full disk ------------------------------------------------------------------------------


class _Full(io.BufferedWriter):
    """A file on a full disk: half of what is written arrives."""

    def write(self, data: Any) -> int:
        super().write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every artifact write fail in the middle."""
    opened = Path.open

    def full(path: Path, mode: str = "r", *args: Any, **named: Any) -> Any:
        if path.suffix == ".part" and "w" in mode:
            return _Full(io.FileIO(path, "w"))
        return opened(path, mode, *args, **named)

    monkeypatch.setattr(Path, "open", full)


def test_no_space_in_an_artifact_write_leaves_no_row_and_no_file(
    store: Store, full_disk: None
) -> None:
    with pytest.raises(OSError, match="No space"):
        store.artifacts.put(b"x" * 100_000)
    assert store.artifacts.count() == 0
    assert [p for p in (store.home / "artifacts").rglob("*") if p.is_file()] == []


def test_no_space_at_the_end_of_a_run_fails_it_cleanly(
    store: Store, request: pytest.FixtureRequest
) -> None:
    before = run(store, LENS)
    claim = _claim(store, sweep(100))
    request.getfixturevalue("full_disk")
    assert execute(store, claim, Residents("cpu")) == State.FAILED
    found = store.records.get(claim.record)
    assert found.error is not None
    assert "No space left" in found.error["asked"]
    assert found.error["fault"]
    assert found.result is None
    assert not list(store.home.rglob("*.part"))
    # The database opens and what was there is readable.
    other = open_at(store.home)
    assert answers.get(other, before.id).result is not None
    other.close()


def test_an_orphan_of_a_killed_write_is_never_taken_for_a_result(store: Store) -> None:
    data = b"y" * 1000
    name = store.artifacts.put(data)
    target = store.artifacts.path(name)
    target.unlink()
    orphan = target.with_name(f"{name}.0.part")
    orphan.write_bytes(data[:500])
    with pytest.raises(NotFound):
        store.artifacts.get(name)
    assert store.artifacts.put(data) == name
    assert store.artifacts.get(name) == data
    assert orphan.read_bytes() == data[:500]
    assert store.artifacts.count() == 1


def test_the_row_of_an_artifact_comes_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between file and row leaves a file that nothing names, not a name without a file."""

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(artifacts, "_sync_folder", killed)
    with pytest.raises(KeyboardInterrupt):
        store.artifacts.put(b"z" * 1000)
    assert store.artifacts.count() == 0
    monkeypatch.undo()
    name = store.artifacts.put(b"z" * 1000)
    assert store.artifacts.get(name) == b"z" * 1000
    assert store.artifacts.count() == 1


# --- crashes of a worker that holds two records ------------------------------------------------


def test_a_long_record_is_not_blamed_for_the_short_one_that_ran_inside_it(store: Store) -> None:
    long, short = submit(store, sweep(1000)), submit(store, LENS)
    for i in range(3):
        owner = f"worker {i}"
        assert store.queue.claim(owner, record=long)
        assert store.queue.claim(owner, record=short)
        assert store.queue.expire([owner]) == 2
    assert store.records.get(short).state == State.LOST
    found = store.records.get(long)
    assert (found.state, found.crashes, found.attempt) == (State.QUEUED, 0, 3)


def test_a_record_of_a_kind_that_is_not_installed_fails_with_advice(store: Store) -> None:
    record = submit(store, LENS)
    with closing(sqlite3.connect(store.home / "store.sqlite")) as base:
        base.execute("""UPDATE records SET kind = 'later', spec = '{"kind": "later"}'""")
        base.commit()
    claim = store.queue.claim("worker", record=record)
    assert claim is not None
    assert execute(store, claim, Residents("cpu")) == State.FAILED
    found = store.records.get(record)
    assert found.error is not None
    assert found.error["asked"] == "There is no kind of analysis called 'later'."
    assert "fault" not in found.error


# --- out of memory --------------------------------------------------------------------------


def _small_device(monkeypatch: pytest.MonkeyPatch, rows: int) -> list[int]:
    """Let no more than ``rows`` runs through at once; return the sizes that were tried."""
    tried: list[int] = []
    one_pass = patch._one_pass

    def limited(model: Any, trace: Any, runs: Any, which: torch.Tensor, outputs: Any) -> Any:
        tried.append(len(which))
        if len(which) > rows:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (pretended)")
        return one_pass(model, trace, runs, which, outputs)

    monkeypatch.setattr(patch, "_one_pass", limited)
    return tried


def test_out_of_memory_halves_the_batch_and_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(store, sweep(20))
    tried = _small_device(monkeypatch, 50)
    halved = run(store, sweep(20), again=True)
    assert max(tried) > 50
    assert any(20 < n <= 50 for n in tried)
    assert halved.state == State.DONE
    one, other = (_values(store, record.id) for record in (whole, halved))
    # Products of other sizes round differently; anything else would be a mistake.
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * one.std())
    assert np.abs(one[:, :, 1:] - other[:, :, :-1]).max() > one.std()  # the control
    assert hook_count(inline._residents().get("paren-balancer")) == 0


def _values(store: Store, record: str) -> np.ndarray:
    packed = store.records.result(store.records.get(record))
    assert packed is not None
    found: np.ndarray = unpack(Result, packed).values
    return found


def test_what_does_not_fit_at_one_row_is_said_plainly(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = _small_device(monkeypatch, 0)
    record = run(store, sweep(20))
    assert tried[-1] == 1
    assert record.state == State.FAILED
    assert record.error is not None
    assert record.error["type"] == "DoesNotFit"
    assert "out of memory" in record.error["found"]
    assert record.error["works"].startswith("Shorten the prompt")
    assert "fault" not in record.error
    assert hook_count(inline._residents().get("paren-balancer")) == 0
    monkeypatch.undo()
    monkeypatch.setenv("BECAUSE_HOME", str(store.home))
    assert run(store, sweep(20)).state == State.DONE
