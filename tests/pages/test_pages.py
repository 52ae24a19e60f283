"""Pages through ``app.py`` without a browser: they open, and every state has its own face."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model
from streamlit.testing.v1 import AppTest

from interp import analyses
from interp.analyses._fields import Seed
from interp.answers import get
from interp.figures.named import NamedFigure
from interp.figures.ruler import in_words
from interp.jobs.inline import run
from interp.jobs.submit import submit
from interp.store import State, Store, open_store
from interp.store.queue import Claim
from ui.form import _rows

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
    "component_roles": "Roles",
    "causal_scrubbing": "Causal scrubbing",
    "adversarial_inputs": "Adversarial inputs",
    "mechanism_distinction": "Mechanisms",
    "does_the_number_matter": "Does the number matter?",
    "hypothesis_search": "Hypotheses",
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
    main = kind.figures(get(record, found[-1].id).result)[0]
    rows = [line.split(",") for line in main.csv.splitlines()]
    assert rows[0] == ["row", "column", "effect"]
    assert ["L0H0", "b  4", "1.0"] in rows


def test_points_come_with_names_and_intervals_and_without_lines_that_guide_the_eye() -> None:
    open_page("home")
    store = open_store()
    check = drawn_by(store, "attribution_patching", "induction-handmade", "check")
    assert check[0] == [
        "series",
        "point",
        "estimate (share of the gap)",
        "exact (share of the gap)",
    ]
    assert not any("estimate = exact" in row[0] for row in check)
    assert all(row[1] for row in check[1:])
    ways = drawn_by(store, "ablation", "paren-balancer", "differences")
    assert ways[0][1:] == ["change of the logit difference (logits)", "component", "low", "high"]
    assert all(float(low) <= float(x) <= float(high) for _, x, _, low, high in ways[1:])


def drawn_by(store: Store, kind: str, model: str, name: str) -> list[list[str]]:
    """The rows of the CSV of a figure of the first worked record of a kind."""
    record = store.records.list(kind=kind, model=model)[-1].id
    figures = analyses.get(kind).figures(get(store, record).result)
    return list(csv.reader(next(f.csv for f in figures if f.name == name).splitlines()))


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
    assert address(app) == {"receivers": "L0H0.v", "from": f"{first},{second}"}


def test_the_chain_is_the_walk_of_this_person_whoever_asked_first() -> None:
    open_page("home")
    store = open_store()
    first = store.records.list(kind="path_patching")[0]
    spec = json.loads(first.spec)
    queries = run(store, spec | {"receivers": "L1H0.q"}).id
    for reads in ("L1H0.k", "L0H0.v"):  # asked by somebody who came from the queries
        submit(store, spec | {"receivers": reads}, parent=queries)
    keys, values = (run(store, spec | {"receivers": one}).id for one in ("L1H0.k", "L0H0.v"))
    assert store.records.get(values).parent == queries
    walk = {"receivers": "L0H0.v", "from": f"{first.id},{keys}"}
    mine = open_page("path_patching", **walk)
    assert address(mine) == walk
    assert chain(mine) == ["L1H0", "L0H0"]
    click(mine, f"back/{values}")
    assert address(mine) == {"receivers": "L1H0.k", "from": first.id}
    assert chain(mine) == ["L1H0"]
    other = open_page("path_patching", receivers="L0H0.v", **{"from": f"{first.id},{queries}"})
    click(other, f"back/{values}")
    assert address(other) == {"receivers": "L1H0.q", "from": first.id}
    begun = open_page("path_patching", **{"from": f"{first.id},{keys}"})
    assert not chain(begun)  # back at the first step of the walk
    long = open_page("path_patching", receivers="L0H0.v", **{"from": ",".join([queries] * 30)})
    assert len(address(long)["from"].split(",")) < 12


def chain(app: AppTest) -> list[str]:
    """Senders that read from others in the chain that is drawn, from the logits down."""
    if not any("The chain so far" in str(m.value) for m in app.markdown):
        return []
    figures = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    graph = next(f for f in figures if f["data"][-1].get("name") == "components")
    senders = [trace["name"].split(" to ") for trace in graph["data"][:-1]]
    reading = {receiver for _, receiver in senders}
    return sorted({s for s, _ in senders if s in reading}, reverse=True)


@pytest.mark.parametrize(
    "changed",
    [
        {"clean": "qtnwzeut", "corrupted": "qfnwzeut", "answer": "n", "foil": "w"},
        {"behavior": "induction-first-cue"},
        {"model": "paren-balancer"},
    ],
)
def test_a_question_about_other_inputs_follows_nothing(changed: dict[str, str]) -> None:
    open_page("home")
    first = open_store().records.list(kind="path_patching")[0].id
    app = open_page("path_patching", receivers="L1H0.k", **{"from": first})
    assert address(app)["from"] == first
    fresh = open_page("path_patching", **{**changed, "from": first})
    assert_calm(fresh)
    assert "from" not in address(fresh)
    fresh.button(key="run/path_patching").click().run()
    asked = open_store().records.list(kind="path_patching", state=State.QUEUED)[0]
    assert asked.parent is None


def test_an_unknown_walk_is_dropped() -> None:
    app = open_page("path_patching", receivers="L1H0.k", **{"from": "<script>,nobody"})
    assert_calm(app)
    assert "from" not in address(app)


@pytest.mark.parametrize(
    ("kind", "field", "typed", "sentence"),
    [
        ("attribution_patching", "recheck", -3, "greater than or equal to 0"),
        ("attribution_patching", "recheck", 99999, "less than or equal to 200"),
        ("generate", "temperature", -2.0, "greater than or equal to 0"),
        ("activation_patching", "seed", -1, "greater than or equal to 0"),
        ("activation_patching", "n_pairs", 0, "greater than or equal to 1"),
    ],
)
def test_a_number_out_of_range_is_told_and_not_run(
    kind: str, field: str, typed: float, sentence: str
) -> None:
    behavior = {"behavior": "induction-first-cue"} if field == "n_pairs" else {}
    app = open_page(kind, **behavior)
    app.number_input(key=f"{kind}/{field}").set_value(typed).run()
    assert_calm(app)
    assert sentence in words(app)
    assert app.button(key=f"run/{kind}").disabled
    assert app.number_input(key=f"{kind}/{field}").value == typed
    assert sentence in words(open_page(kind, **behavior, **{field: str(typed)}))


def test_a_number_that_is_none_gives_the_usual_one() -> None:
    for given in ("many", "nan", "1e400", "9" * 30):
        app = open_page("generate", temperature=given, n_tokens=given)
        assert_calm(app)
        assert "It must be a number from" in words(app) or given == "many"
        assert app.number_input(key="generate/n_tokens").value == 20


def test_more_stays_open_from_the_run_on_that_something_unusual_is_in_it() -> None:
    app = open_page("activation_patching")
    more = next(e for e in app.expander if e.label == "More")
    assert not more.proto.expanded
    app.text_input(key="activation_patching/layers").set_value("nonsense").run()
    assert_calm(app)
    more = next(e for e in app.expander if e.label == "More")
    assert more.proto.expanded
    assert app.button(key="run/activation_patching").disabled


def test_a_record_of_an_older_version_can_be_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store()
    old = run(store, {"kind": "logit_lens", "prompt": "zyxwz", "model": "induction-handmade"}).id
    newer = replace(analyses.get("logit_lens"), version=99)
    given = analyses.get
    monkeypatch.setattr(analyses, "get", lambda k: newer if k == "logit_lens" else given(k))
    app = open_page("record", id=old)
    assert "Run it again to compare" in words(app)
    assert [b.label for b in app.button].count("Run again here") == 1
    click(app, f"again/{old}")
    assert store.records.list(state=State.QUEUED)[0].parent == old


@pytest.mark.parametrize(("n", "rows"), [(1, [1]), (4, [2, 2]), (5, [3, 2]), (7, [3, 2, 2])])
def test_no_narrow_field_is_left_over(n: int, rows: list[int]) -> None:
    fields: Any = {f"f{i}": (Seed, 0) for i in range(n)}
    spec = create_model("Many", **fields)
    assert [len(row) for row in _rows(list(spec.model_fields), spec)] == rows


def test_what_a_scale_lacks_stands_in_one_line() -> None:
    open_page("home")
    store = open_store()
    record = store.records.list(kind="activation_patching", model="induction-handmade")[0].id
    score = analyses.get("activation_patching").scores(get(store, record).result)[0]
    said = dict(in_words(score))
    assert "constant guess" not in said
    assert said["absent"].startswith("constant guess (an effect is a difference of two runs")
    assert said["absent"].count("fewer than 4") <= 1


def address(app: AppTest) -> dict[str, str]:
    """The query parameters of the page that is open."""
    given = dict(app.query_params)
    return {name: v if isinstance(v, str) else v[0] for name, v in given.items()}
