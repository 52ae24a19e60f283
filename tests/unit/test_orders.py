"""Orders about models: given once, taken by one worker, carried out, and never left hanging."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from interp.errors import CannotLoad, DoesNotFit
from interp.jobs import orders as carrying
from interp.jobs.locks import owner_lock
from interp.jobs.orders import carry_out
from interp.jobs.residents import Residents
from interp.jobs.supervisor import Supervisor
from interp.jobs.worker import Worker
from interp.models import catalogue, deviation, registry
from interp.store import Store
from interp.store import orders as stored
from interp.store.orders import Order
from tests.unit._checkpoints import WEIGHTS, checkpoint

WHAT = {"name": "org/model", "revision": "", "processing": "raw", "dtype": "float32"}


@pytest.fixture
def store(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("BECAUSE_DEVICE", "cpu")
    home.mkdir()
    opened = Store(f"sqlite:///{home / 'store.sqlite'}", home)
    yield opened
    opened.close()


def adding(folder: Path, **changed: str) -> dict[str, str]:
    return {**WHAT, "name": str(folder), **changed}


def carried_out(store: Store, action: str, what: dict[str, Any], held: Residents) -> Order:
    number = store.orders.give(action, what)
    order = store.orders.take("me", "cpu")
    assert order is not None
    assert order.id == number
    carry_out(store, order, held)
    done = store.orders.get(number)
    assert done is not None
    assert done.is_final
    return done


# --- the rows -------------------------------------------------------------------------------------


def test_from_given_to_done(store: Store) -> None:
    number = store.orders.give("add", WHAT)
    waiting = store.orders.get(number)
    assert waiting == Order(number, "add", "", WHAT, "waiting", "", 0, 0, None, None)
    assert not waiting.is_final
    running = store.orders.take("me", "cpu")
    assert running == Order(number, "add", "cpu", WHAT, "running", "", 0, 0, None, None)
    assert store.orders.take("me", "cpu") is None
    store.orders.progress(number, "Downloading", 5, 2**40)
    found = store.orders.get(number)
    assert found is not None
    assert (found.said, found.done_bytes, found.total_bytes) == ("Downloading", 5, 2**40)
    assert [order.id for order in store.orders.open()] == [number]
    store.orders.finish(number, "org/model")
    done = store.orders.get(number)
    assert done is not None
    assert (done.state, done.made, done.error, done.is_final) == ("done", "org/model", None, True)
    assert store.orders.open() == []
    assert [order.id for order in store.orders.recent()] == [number]


def test_failed(store: Store) -> None:
    number = store.orders.give("add", WHAT)
    store.orders.take("me", "cpu")
    said = {"asked": "A \ud800 <b>", "found": "ü\n", "works": ""}
    store.orders.fail(number, said)
    found = store.orders.get(number)
    assert found is not None
    assert (found.state, found.error, found.made) == ("failed", said, None)
    assert store.orders.get(number + 1) is None


def test_a_double_click_is_one_order(store: Store) -> None:
    first = store.orders.give("add", WHAT)
    assert store.orders.give("add", dict(reversed(WHAT.items()))) == first
    store.orders.take("me", "cpu")
    assert store.orders.give("add", WHAT) == first
    # Others are others.
    different = {
        store.orders.give("add", {**WHAT, "dtype": "bfloat16"}),
        store.orders.give("load", WHAT),
        store.orders.give("add", WHAT, "cuda:0"),
    }
    assert len(different | {first}) == 4
    # What has ended may be asked for again.
    store.orders.finish(first, "m")
    again = store.orders.give("add", WHAT)
    assert again > first
    store.orders.take("me", "cpu")
    store.orders.fail(again, {})
    assert store.orders.give("add", WHAT) > again


def test_many_clicks_at_once_are_one_order(store: Store) -> None:
    given: list[int] = []
    threads = [
        threading.Thread(target=lambda: given.append(store.orders.give("add", WHAT)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 8
    assert len(set(given)) == 1


def test_an_order_is_taken_once_and_in_turn(store: Store) -> None:
    given = [store.orders.give("load", {"model": str(i)}) for i in range(20)]
    taken: list[int] = []

    def work(owner: str) -> None:
        while (order := store.orders.take(owner, "cpu")) is not None:
            taken.append(order.id)

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == given


def test_an_order_for_one_device(store: Store) -> None:
    there = store.orders.give("unload", {"model": "a"}, "cuda:1")
    anywhere = store.orders.give("load", {"model": "a"})
    first = store.orders.take("me", "cpu")
    assert first is not None
    assert (first.id, first.slot) == (anywhere, "cpu")
    assert store.orders.take("me", "cpu") is None
    other = store.orders.take("you", "cuda:1")
    assert other is not None
    assert other.id == there


def test_old_orders_are_not_kept_but_none_that_waits_is_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "_KEPT", 5)
    waits = store.orders.give("load", {"model": "slow"}, "cuda:9")
    runs = store.orders.give("load", {"model": "running"})
    store.orders.take("me", "cpu")
    for i in range(10):
        number = store.orders.give("load", {"model": str(i)})
        store.orders.take("me", "cpu")
        store.orders.finish(number, str(i))
    assert [order.id for order in store.orders.open()] == [waits, runs]
    assert len(store.orders.recent()) == 2 + 5


def test_what_a_dead_worker_was_at_has_failed(store: Store) -> None:
    mine, yours, done = (store.orders.give("load", {"model": m}) for m in "abc")
    for owner in ("dead", "alive", "dead"):
        store.orders.take(owner, "cpu")
    store.orders.finish(done, "c")
    waits = store.orders.give("load", {"model": "d"})
    store.orders.lost("dead")
    store.orders.lost("nobody")
    found = {n: store.orders.get(n) for n in (mine, yours, done, waits)}
    assert {n: o.state for n, o in found.items() if o is not None} == {
        mine: "failed",
        yours: "running",
        done: "done",
        waits: "waiting",
    }
    lost = found[mine]
    assert lost is not None
    assert lost.error == {
        "asked": "A model was being loaded.",
        "found": "The worker died over it; it may have run out of memory.",
        "works": "Check the fit again, or choose a smaller precision.",
    }


def test_the_supervisor_notices_who_died_over_an_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Supervisor, "_start", lambda *args: None)
    watching = Supervisor(store, ["cpu"])
    worker = Worker(store, "cpu")
    number = store.orders.give("load", {"model": "a"})
    assert store.orders.take(worker.owner, "cpu") is not None
    watching.look()
    assert [order.id for order in store.orders.open()] == [number]
    # The lock of an owner is free once its process is gone.
    owner_lock(store.home, worker.owner)
    worker._lock.release()
    watching.look()
    found = store.orders.get(number)
    assert found is not None
    assert found.state == "failed"
    assert store.workers.alive() == []


# --- carrying them out ----------------------------------------------------------------------------


def test_a_worker_adds_and_loads_a_folder(store: Store, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")
    worker = Worker(store, "cpu")
    number = store.orders.give("add", adding(folder))
    thread = threading.Thread(target=worker._orders)
    thread.start()
    thread.join()
    done = store.orders.get(number)
    assert done is not None
    assert (done.state, done.made, done.error) == ("done", "local/model", None)
    # The last byte was told.
    assert done.said == "Loading model"
    assert done.done_bytes == done.total_bytes == 4 * catalogue.info("local/model").n_parameters
    assert list(worker.residents.sizes()) == ["local/model"]
    assert catalogue.names()[-1] == "local/model"
    store.orders.give("unload", {"model": "local/model"}, "cpu")
    worker._orders()
    assert worker.residents.sizes() == {}
    assert store.orders.open() == []
    worker._lock.release()


def test_load_and_unload(store: Store, tmp_path: Path) -> None:
    held = Residents("cpu")
    assert carried_out(store, "load", {"model": "paren-balancer"}, held).made == "paren-balancer"
    assert list(held.sizes()) == ["paren-balancer"]
    for _ in range(2):  # what is not loaded is none to unload
        done = carried_out(store, "unload", {"model": "paren-balancer"}, held)
        assert (done.state, held.sizes()) == ("done", {})


def test_what_cannot_be_is_said(store: Store, tmp_path: Path) -> None:
    held = Residents("cpu")
    failed = carried_out(store, "load", {"model": "paren-balancr"}, held)
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error["asked"] == "There is no model called 'paren-balancr'."
    assert failed.error["works"].startswith("Did you mean 'paren-balancer'?")
    folder = checkpoint(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    assert carried_out(store, "add", adding(folder), held).error == {
        "asked": "model was to be read.",
        "found": "It has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt.",
        "works": "Save the tokenizer of its base model into the folder: "
        "AutoTokenizer.from_pretrained(base).save_pretrained(folder).",
    }
    assert held.sizes() == {}


def test_what_cannot_be_loaded_is_not_left_in_the_table(store: Store, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    held, folder = Residents("cpu"), checkpoint(tmp_path / "model")
    whole = load_file(folder / WEIGHTS)
    save_file({n: t for n, t in whole.items() if "layers.1" not in n}, folder / WEIGHTS)
    failed = carried_out(store, "add", adding(folder), held)
    assert failed.error is not None
    assert "missing" in failed.error["found"]
    assert registry.entries() == {}
    # One that was there before stays, to be put right.
    save_file(whole, folder / WEIGHTS)
    assert carried_out(store, "add", adding(folder), held).state == "done"
    save_file({n: t for n, t in whole.items() if "layers.1" not in n}, folder / WEIGHTS)
    assert carried_out(store, "add", adding(folder), held).state == "failed"
    assert list(registry.entries()) == ["local/model"]


def test_what_does_not_fit_stays_in_the_table(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be asked for in another precision, or on another device."""
    held = Residents("cpu")

    def none(*args: object, **kwargs: object) -> None:
        raise DoesNotFit("a.", "b.", "c.")

    monkeypatch.setattr(held, "get", none)
    failed = carried_out(store, "add", adding(checkpoint(tmp_path / "model")), held)
    assert failed.error == {"asked": "a.", "found": "b.", "works": "c."}
    assert list(registry.entries()) == ["local/model"]


def test_a_fault_has_an_id(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held = Residents("cpu")

    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("x" * 1000)

    monkeypatch.setattr(held, "get", broken)
    failed = carried_out(store, "load", {"model": "paren-balancer"}, held)
    assert failed.error is not None
    assert failed.error["type"] == "ZeroDivisionError"
    assert failed.error["asked"] == "x" * 300
    assert caplog.records[0].message == f"fault {failed.error['fault']}"
    # An order without what it needs is a fault, too, and does not stop the worker.
    assert "fault" in (carried_out(store, "add", {"name": "x"}, held).error or {})


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_smaller_precision_is_measured(
    store: Store, tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deviation, "sample", lambda model: [(345, 5, 6, 7), (345, 8, 9, 10)])
    held, folder = Residents("cpu"), checkpoint(tmp_path / "model")
    done = carried_out(store, "add", adding(folder, dtype=dtype), held)
    assert (done.state, done.made) == ("done", f"local/model:{dtype}")
    found = deviation.measured(catalogue.info(f"local/model:{dtype}"))
    assert found is not None
    assert 1e-5 < found.rms < 0.1
    # Only what was asked for stays loaded.
    assert list(held.sizes()) == [f"local/model:{dtype}"]
    whole = deviation.compare(*[carrying._logits(held.get("local/model"), [(5, 6, 7)])] * 2)
    assert whole.rms == 0


def test_a_measurement_unloads_nobodys_model(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, folder = Residents("cpu"), checkpoint(tmp_path / "model")
    held.get("paren-balancer")
    from interp.models import fit

    monkeypatch.setattr(fit.Fit, "unloads", property(lambda self: self.weights > 150_000))
    monkeypatch.setattr(held, "_make_room", lambda info: None)
    done = carried_out(store, "add", adding(folder, dtype="bfloat16"), held)
    assert done.state == "done"
    assert deviation.measured(catalogue.info("local/model:bfloat16")) is None
    assert list(held.sizes()) == ["paren-balancer", "local/model:bfloat16"]


@pytest.mark.parametrize("error", [CannotLoad("a."), torch.OutOfMemoryError("b")])
def test_a_measurement_that_fails_is_not_the_orders_failure(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*args: object) -> None:
        raise error

    monkeypatch.setattr(carrying, "_logits", fails)
    held, folder = Residents("cpu"), checkpoint(tmp_path / "model")
    done = carried_out(store, "add", adding(folder, dtype="bfloat16"), held)
    assert done.state == "done"
    assert list(held.sizes()) == ["local/model:bfloat16"]


def test_a_model_is_called_as_asked(store: Store, tmp_path: Path) -> None:
    what = {**adding(checkpoint(tmp_path / "model")), "called": "local/mine"}
    assert carried_out(store, "add", what, Residents("cpu")).made == "local/mine"
    assert "local/model" not in catalogue.names()  # the control: its own name


def test_only_the_variant_that_cannot_be_loaded_goes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "model")
    assert carried_out(store, "add", adding(folder), Residents("cpu")).made == "local/model"

    def refuse(*_: object) -> None:
        raise CannotLoad("It was to be loaded.")

    monkeypatch.setattr(Residents, "get", refuse)
    what = {**adding(folder), "dtype": "bfloat16"}
    assert carried_out(store, "add", what, Residents("cpu")).state == "failed"
    assert [n for n in catalogue.names() if n.startswith("local/")] == ["local/model"]
