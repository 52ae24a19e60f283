"""One bit turned over on disk: an error that says so, everywhere, and never a result."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from starlette.applications import Starlette
from starlette.testclient import TestClient

from interp import analyses, answers
from interp.__main__ import main
from interp.errors import Corrupt, NotFound
from interp.jobs.inline import run
from interp.store import Record, Store, open_store, pack, unpack
from tests.faults._help import LENS, sweep
from ui.routes import ROUTES

SAID = "Its bytes have changed"
IN_ROW, IN_FILE = LENS, sweep(100)


@pytest.fixture
def kept(home: Path) -> Iterator[Store]:
    """The store as routes and commands open it."""
    opened = open_store()
    yield opened
    opened.close()


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=ROUTES), follow_redirects=False)


def turn_over(data: bytes, bit: int) -> bytes:
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    bits[bit % len(bits)] ^= 1
    return np.packbits(bits).tobytes()


def damage(store: Store, record: Record, bit: int) -> None:
    """Turn one bit of a record's stored result over, in its row or in its file."""
    assert record.result is not None
    with closing(sqlite3.connect(store.home / "store.sqlite")) as base:
        row = base.execute("SELECT result_row FROM records WHERE id = ?", (record.id,)).fetchone()
        if row[0] is None:
            file = store.artifacts.path(record.result)
            file.write_bytes(turn_over(file.read_bytes(), bit))
            return
        changed = turn_over(row[0], bit)
        base.execute("UPDATE records SET result_row = ? WHERE id = ?", (changed, record.id))
        base.commit()


@pytest.mark.parametrize(("spec", "rows"), [(IN_ROW, 1), (IN_FILE, 0)], ids=["row", "file"])
@pytest.mark.parametrize("bit", [0, 70, 9_999, -1])
def test_a_turned_bit_is_never_shown(
    kept: Store,
    client: TestClient,
    capsys: pytest.CaptureFixture[str],
    spec: dict[str, Any],
    rows: int,
    bit: int,
) -> None:
    record = run(kept, spec)
    with closing(sqlite3.connect(kept.home / "store.sqlite")) as base:
        query = "SELECT count(*) FROM records WHERE result_row IS NOT NULL AND id = ?"
        assert base.execute(query, (record.id,)).fetchone() == (rows,)
    assert client.get(f"/a/{record.id}.json").status_code == 200
    damage(kept, record, bit)
    with pytest.raises(Corrupt, match=SAID):
        answers.get(kept, record.id)
    for path in (f"/a/{record.id}", f"/a/{record.id}.json"):
        said = client.get(path)
        assert said.status_code == 500
        assert SAID in said.text
        assert "effect" not in said.text
        assert "answer_p" not in said.text
    assert main(["show", record.id]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert SAID in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("spec", [IN_ROW, IN_FILE], ids=["row", "file"])
def test_run_again_is_what_the_message_says_it_is(kept: Store, spec: dict[str, Any]) -> None:
    """The same question gives the same bytes: they must land although the name is taken."""
    record = run(kept, spec)
    damage(kept, record, 4_321)
    again = run(kept, spec, again=True)
    assert again.result == record.result
    assert answers.get(kept, again.id).result is not None


def test_a_missing_file_is_said_to_be_missing(kept: Store, client: TestClient) -> None:
    record = run(kept, IN_FILE)
    assert record.result is not None
    kept.artifacts.path(record.result).unlink()
    with pytest.raises(NotFound, match="missing"):
        answers.get(kept, record.id)
    assert client.get(f"/a/{record.id}").status_code == 404


def test_turned_inputs_stop_the_run_and_the_twin(kept: Store, client: TestClient) -> None:
    done = run(kept, IN_ROW)
    file = kept.artifacts.path(done.inputs)
    whole = file.read_bytes()
    file.write_bytes(turn_over(whole, 100))
    with pytest.raises(Corrupt, match=SAID):
        kept.records.inputs(done)
    # Asking again writes the inputs anew, so that neither question is lost.
    assert run(kept, IN_ROW, again=True).state == "done"
    assert file.read_bytes() == whole


def test_a_turned_input_is_a_sentence_on_the_twin(kept: Store, client: TestClient) -> None:
    done = run(kept, IN_ROW)
    file = kept.artifacts.path(done.inputs)
    file.write_bytes(turn_over(file.read_bytes(), 100))
    said = client.get(f"/a/{done.id}.json")
    assert said.status_code == 500
    assert SAID in said.text


def _packed() -> bytes:
    cells = np.arange(6, dtype=np.float64).reshape(2, 3)
    kind = analyses.get("logit_lens").result
    words = (("a", "b"),) * 3
    return pack(
        kind(
            tokens=("a", "b", "c"),
            depths=("embed", "L0"),
            read=2,
            space="tokens",
            n_outputs=2,
            answer="a",
            top=(words, words),
            top_p=np.zeros((2, 3, 2)),
            answer_p=cells,
            answer_rank=cells,
            entropy_nats=cells,
            kl_nats=cells,
        )
    )


PACKED = _packed()


@settings(deadline=None, max_examples=200, database=None)
@given(data=st.data())
def test_changed_bytes_without_a_hash_are_refused_or_read_but_never_a_fault(
    data: st.DataObject,
) -> None:
    """Partial results have no hash: whatever is there, reading gives a result or ``Corrupt``."""
    how = data.draw(st.sampled_from(["turn", "cut", "random", "header"]))
    if how == "turn":
        changed = turn_over(PACKED, data.draw(st.integers(0, 8 * len(PACKED) - 1)))
    elif how == "cut":
        changed = PACKED[: data.draw(st.integers(0, len(PACKED) - 1))]
    elif how == "random":
        changed = data.draw(st.binary(max_size=200))
    else:
        start = data.draw(st.integers(8, 500))
        changed = PACKED[:start] + data.draw(st.binary(min_size=1, max_size=4)) + PACKED[start:]
    with suppress(Corrupt):
        unpack(analyses.get("logit_lens").result, changed)


def _with_tree(tree: str) -> bytes:
    return save({"": np.zeros(0, np.uint8)}, metadata={"result": tree})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        b"\xff" * 100,
        _with_tree("null")[:-1],
        _with_tree("{}"),
        _with_tree('{"type": "Result", "fields": []}'),
        _with_tree('{"type": "Result", "fields": {"tokens": 1}}'),
        _with_tree('{"type": "Score", "fields": {}}'),
        _with_tree('{"array": "nothing"}'),
        _with_tree('{"array": []}'),
        _with_tree('{"type": "Result", "fields": null}'),
        _with_tree("[" * 100_000),
        save({"": np.zeros(0, np.uint8)}),
    ],
    ids=range(13),
)
def test_made_up_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Corrupt, match="not in a form that this version reads"):
        unpack(analyses.get("logit_lens").result, data)
