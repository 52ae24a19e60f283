"""Pages through ``app.py`` without a browser: they open, and every state has its own face."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from interp import analyses
from interp.figures.named import NamedFigure
from interp.jobs.inline import run
from interp.jobs.submit import submit
from interp.store import State, open_store
from interp.store.queue import Claim

ROOT = Path(__file__).resolve().parents[2]
TITLES = {
    "home": "Because",
    "models": "Models",
    "logit_lens": "Explore",
    "attention": "Attention",
    "direct_logit_attribution": "Why A, not B",
    "generate": "Generate",
    "activation_patching": "Patching",
    "attribution_patching": "Attribution patching",
    "ablation": "Ablation",
    "path_patching": "Path patching",
    "analyses": "Analyses",
    "about": "About",
    "record": "Record",
}
KINDS = analyses.kinds()


def open_page(name: str, **params: str) -> AppTest:
    """Open a page through the app, with query parameters."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.run()
    for key, value in params.items():
        app.query_params[key] = value
    app.switch_page(f"pages/{name}.py").run()
    return app


def words(app: AppTest) -> str:
    """All text of a page."""
    parts: list[str] = []
    for kind in ("title", "header", "subheader", "markdown", "caption", "info", "warning", "error"):
        parts += [str(element.value) for element in getattr(app, kind)]
    return "\n".join(parts).replace("\\", "")


def assert_calm(app: AppTest) -> None:
    """Nothing broke: no exception, no fault."""
    assert not app.exception, app.exception
    assert "broke on our side" not in words(app)


def claimed(record: str) -> Claim:
    """Hold a record as a worker does."""
    claim = open_store().queue.claim("test-owner", record=record)
    assert claim is not None
    return claim


@pytest.mark.parametrize("name", TITLES)
def test_page_opens_through_the_app(name: str) -> None:
    app = open_page(name)
    assert_calm(app)
    assert app.title[0].value == TITLES[name]


@pytest.mark.parametrize("kind", KINDS)
def test_page_opens_alone(kind: str) -> None:
    app = AppTest.from_file(str(ROOT / "pages" / f"{kind}.py"), default_timeout=60)
    app.run()
    assert_calm(app)


@pytest.mark.parametrize("kind", KINDS)
def test_page_opens_on_its_answered_example(kind: str) -> None:
    app = open_page(kind)
    spec = analyses.get(kind).example
    said = words(app)
    assert analyses.get(kind).question(spec) in said
    assert len(app.get("plotly_chart")) >= 2
    assert "What to ask next" in said
    assert app.button(key=f"run/{kind}").disabled


def test_home_shows_three_records() -> None:
    app = open_page("home")
    assert len(app.get("plotly_chart")) == 3


def test_empty_state_says_what_to_do() -> None:
    app = open_page("logit_lens", prompt="zyxwz")
    assert "has not been asked yet" in words(app)
    assert not app.button(key="run/logit_lens").disabled


def test_run_from_the_form_queues_one_job_however_often() -> None:
    app = open_page("logit_lens", prompt="zyxwz")
    app.button(key="run/logit_lens").click().run()
    assert_calm(app)
    again = open_page("logit_lens", prompt="zyxwz")
    assert again.button(key="run/logit_lens").disabled
    waiting = [r for r in open_store().records.list() if r.state == State.QUEUED]
    assert len(waiting) == 1
    assert json.loads(waiting[0].spec)["prompt"] == "zyxwz"


def test_waiting_and_running_show_progress_and_cancel() -> None:
    spec = {"kind": "logit_lens", "prompt": "zyxwz", "model": "induction-handmade"}
    store = open_store()
    record = submit(store, spec)
    app = open_page("logit_lens", prompt="zyxwz")
    assert_calm(app)
    app.button(key=f"cancel/{record}").click().run()
    assert store.records.get(record).state == State.CANCELLED
    ended = open_page("logit_lens", prompt="zyxwz")
    assert "Stopped by a person" in words(ended)
    assert ended.button(key="run/logit_lens").label == "Retry"


def test_failed_question_is_advice_and_a_fault_has_a_number() -> None:
    store = open_store()
    spec = {"kind": "logit_lens", "prompt": "zyxwz", "model": "induction-handmade"}
    record = submit(store, spec)
    error = {"type": "NothingToRecover", "asked": "ASKED", "found": "FOUND", "works": "WORKS"}
    store.queue.fail(claimed(record), error, {})
    assert "ASKED" in words(open_page("logit_lens", prompt="zyxwz"))
    second = submit(store, spec)
    fault = {"type": "ValueError", "asked": "boom", "fault": "abcd1234", "traceback": "Trace"}
    store.queue.fail(claimed(second), fault, {})
    said = words(open_page("logit_lens", prompt="zyxwz"))
    assert "fault abcd1234" in said


def test_lost_record_says_so() -> None:
    store = open_store()
    record = submit(store, {"kind": "logit_lens", "prompt": "zy", "model": "induction-handmade"})
    for _ in range(3):
        claimed(record)
        store.queue.expire(["test-owner"])
    assert store.records.get(record).state == State.LOST
    assert "died three times" in words(open_page("logit_lens", prompt="zy"))


def test_record_page_tells_rerun_from_original() -> None:
    store = open_store()
    spec = {"kind": "logit_lens", "prompt": "zyxwz", "model": "induction-handmade"}
    first = run(store, spec)
    again = submit(store, spec, parent=first.id, again=True)
    from interp.jobs.execute import execute
    from interp.jobs.residents import Residents

    execute(store, claimed(again), Residents("cpu"))
    app = open_page("record", id=again)
    assert_calm(app)
    assert "bit for bit" in "\n".join(str(s.value) for s in app.success)


@pytest.mark.parametrize("record", ["0" * 32, "<script>alert(1)</script>"])
def test_unknown_record_is_advice(record: str) -> None:
    app = open_page("record", id=record)
    assert_calm(app)
    assert "There is no record" in words(app)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"prompt": "<script>"}, "has no token for it"),
        ({"prompt": "a" * 40}, "has 32 positions"),
        ({"prompt": ""}, "The prompt is empty"),
        ({"model": "gpt-9"}, "There is no model called"),
    ],
)
def test_bad_input_is_advice_beside_the_form(params: dict[str, Any], sentence: str) -> None:
    app = open_page("logit_lens", **params)
    assert_calm(app)
    assert sentence in words(app)


def test_pairs_survive_the_address() -> None:
    app = open_page(
        "activation_patching",
        clean="qtnwzeut",
        corrupted="qfnwzeut",
        answer="n",
        foil="w",
        pairs="rhjoslpe | rhxoslpe | o | s",
    )
    assert_calm(app)
    assert "and 1 more pair" in words(app)


def test_numbers_of_a_figure_come_as_csv() -> None:
    kind = analyses.get("activation_patching")
    record = open_store()
    open_page("home")
    found = record.records.list(kind="activation_patching", model="induction-handmade")
    from interp.answers import get

    main = kind.figures(get(record, found[-1].id).result)[0]
    rows = [line.split(",") for line in main.csv.splitlines()]
    assert rows[0] == ["row", "column", "value"]
    assert ["L0H0", "b  4", "1.0"] in rows


def click(app: AppTest, start: str) -> AppTest:
    """Press the first button whose key begins so, and open the page that it leads to."""
    button = next(b for b in app.button if str(b.key).startswith(start))
    button.click().run()
    assert_calm(app)
    return app


def test_a_walk_goes_on_from_a_clicked_sender_and_draws_its_chain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Logits, then the induction head's keys, then the previous-token head's values."""
    clicked = {"0": 1, "1": 0}

    def figure(named: NamedFigure, key: str) -> dict[str, Any] | None:
        drawn.append(named.name)
        return clicked if named.name == "effects" else None

    monkeypatch.setattr("ui.parts.figure", figure)
    drawn: list[str] = []
    app = open_page("path_patching")
    first = open_store().records.list(kind="path_patching")[0].id
    assert "chain" not in drawn
    assert any("Add L1H0.v to the receivers" in b.label for b in app.button)
    click(app, f"cell-next/{first}/Who writes into L1H0's keys")
    assert address(app) == {"receivers": "L1H0.k", "from": first}
    assert "has not been asked yet" in words(app)
    app.button(key="run/path_patching").click().run()
    store = open_store()
    asked = store.records.list(kind="path_patching", state=State.QUEUED)[0]
    assert asked.parent == first
    second = run(store, asked.spec).id
    app.run()
    assert_calm(app)
    assert "chain" in drawn
    clicked["0"] = 0
    app.run()
    click(app, f"next/{second}/Who writes into L0H0's values")
    assert address(app) == {"receivers": "L0H0.v", "from": second}


def address(app: AppTest) -> dict[str, str]:
    """The query parameters of the page that is open."""
    given = dict(app.query_params)
    return {name: v if isinstance(v, str) else v[0] for name, v in given.items()}
