"""The editor of hypotheses: built by clicking, in step with its text, and kept by the address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from interp.behaviors.populations import population
from interp.explanations.hypothesis import Feature, Hypothesis, Near, Node
from interp.explanations.presets import PRESETS, preset, presets
from interp.explanations.text import write
from interp.jobs.inline import run
from interp.store import open_store
from ui import hypothesis_text as edits

ROOT = Path(__file__).resolve().parents[2]
KIND = "causal_scrubbing"
pytestmark = pytest.mark.usefixtures("shared_home")


def open_page(**params: str) -> AppTest:
    """Open the page through the app, with query parameters."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for key, value in params.items():
        app.query_params[key] = value
    app.switch_page(f"pages/{KIND}.py").run()
    calm(app)
    return app


def calm(app: AppTest) -> None:
    """Nothing broke."""
    assert not app.exception, app.exception
    assert "broke on our side" not in words(app)


def words(app: AppTest) -> str:
    """All text of a page."""
    kinds = ("title", "markdown", "caption", "info", "warning", "error")
    parts = [str(element.value) for kind in kinds for element in getattr(app, kind)]
    return "\n".join(parts).replace("\\", "")


def press(app: AppTest, key: str) -> AppTest:
    """Press a button of the editor."""
    app.button(key=f"{KIND}/{key}").click().run()
    calm(app)
    return app


def group(app: AppTest, key: str) -> Any:
    """A row of buttons of the open panel."""
    return next(one for one in app.button_group if one.key == f"{KIND}/claim/{key}")


def given(app: AppTest) -> Hypothesis:
    """The hypothesis that the form asks about."""
    return edits.of(app.session_state[f"{KIND}/hypothesis"])


def address(app: AppTest) -> dict[str, str]:
    """The query parameters of the page that is open."""
    found = dict(app.query_params)
    return {name: v if isinstance(v, str) else v[0] for name, v in found.items()}


def start(app: AppTest, option: str) -> AppTest:
    """Choose where to start from."""
    app.selectbox(key=f"{KIND}/start").select(option).run()
    calm(app)
    return app


def write_feature(app: AppTest, name: str, expression: str) -> AppTest:
    """Write a feature as a person does."""
    press(app, "feature/new")
    app.text_input(key=f"{KIND}/feature/name").set_value(name)
    app.text_input(key=f"{KIND}/feature/expr").set_value(expression).run()
    calm(app)
    return press(app, "feature/done")


def claim(app: AppTest, below: str, layer: str, site: str, *features: str) -> AppTest:
    """Add a claim as a person does: a part of the map, and what it matters through."""
    press(app, f"add/{below}")
    group(app, f"row/{layer}").select(site).run()
    for one in features:
        group(app, "features").select(one).run()
    calm(app)
    return press(app, "claim/done")


def test_experiment_1a_is_built_by_clicking() -> None:
    app = start(open_page(), "empty")
    assert "add the first claim" in words(app)
    assert not given(app).graph.children
    write_feature(app, "horizon_test", "max(cumsum_right(OPEN, CLOSE)) <= 0")
    press(app, "add/root")
    group(app, "row/L1").select("a1.h0").run()
    write_feature(app, "equal_counts", "count(OPEN) == count(CLOSE)")
    # The claim that is being filled in is as it was, and through what was written for it.
    assert group(app, "row/L1").value == ["a1.h0"]
    assert group(app, "features").value == ["equal_counts"]
    press(app, "claim/done")
    claim(app, "root", "L2", "a2.h0", "equal_counts")
    claim(app, "root", "L2", "a2.h1", "horizon_test")
    made, published = given(app), preset("paren-1a").hypothesis
    assert made.graph == published.graph
    assert made.features == published.features
    said = words(app)
    assert "L2H1, direct to the logits, matters only through horizon_test." in said
    assert "2 classes, smallest" in said
    assert "together they determine the label" in said
    assert not app.button(key=f"run/{KIND}").disabled
    assert given(open_page(**address(app))) == made


def test_columns_and_groups_are_chosen_in_the_panel() -> None:
    app = start(open_page(), "empty")
    press(app, "add/root")
    assert app.button(key=f"{KIND}/claim/done").disabled
    group(app, "row/L1").select("a1.h0").run()
    group(app, "row/L2").select("a2.h0").run()
    assert app.button(key=f"{KIND}/claim/done").disabled
    group(app, "features").select("column:count").run()
    assert "L1H0 and L2H0 together, direct to the logits, matter only through" in words(app)
    equal = sum(dict(population("paren-strings", 1000, "paren-balancer").features)["count"])
    assert f"**count** (as many ( as )): true on {equal} of 1,000 inputs, as on" in words(app)
    press(app, "claim/done")
    made = given(app)
    assert made.graph.children[0].site == "a1.h0+a2.h0"
    assert made.features == {"count": Feature(expr='column("count")', dtype="bool")}


def test_only_what_comes_before_is_offered_and_slots_only_below_heads() -> None:
    app = open_page(hypothesis="preset:paren-1a")
    press(app, "add/0")
    rows = [one.key.rpartition("/")[2] for one in app.button_group if "/row/" in str(one.key)]
    assert rows == ["L0", "in", "whole"]
    group(app, "into").set_value("v").run()
    group(app, "row/L0").select("a0.h0").run()
    group(app, "row/whole").select("resid").run()
    calm(app)
    assert group(app, "row/L0").value == []
    group(app, "features").select("equal_counts").run()
    group(app, "at").set_value("listed").run()
    app.text_input(key=f"{KIND}/claim/positions").set_value("1").run()
    press(app, "claim/done")
    child = given(app).graph.children[0].children[0]
    assert (child.site, child.into, child.pos) == ("resid", "v", (1,))
    press(app, "add/root")
    assert not any(one.key == f"{KIND}/claim/into" for one in app.button_group)
    press(app, "add/0/0")
    claim_row = [one.key for one in app.button_group if "/row/" in str(one.key)]
    assert claim_row == [f"{KIND}/claim/row/L0", f"{KIND}/claim/row/in"]


def test_a_change_in_the_panel_is_made_at_once_or_refused_with_advice() -> None:
    app = open_page(hypothesis="preset:paren-1a")
    press(app, "edit/0")
    group(app, "how").set_value("exact").run()
    calm(app)
    assert given(app).graph.children[0].agree == "exact"
    before = given(app)
    group(app, "at").set_value("listed").run()
    app.text_input(key=f"{KIND}/claim/positions").set_value("99").run()
    calm(app)
    assert "counts at position 99" in words(app)
    assert "The tree is as it was before." in words(app)
    assert given(app) == before
    app.text_input(key=f"{KIND}/claim/positions").set_value("one").run()
    assert "Write numbers from 0" in words(app)
    app.text_input(key=f"{KIND}/claim/positions").set_value("0-2, 5").run()
    assert given(app).graph.children[0].pos == (0, 1, 2, 5)
    assert "as it was before" not in words(app)


def test_a_part_that_two_claims_cover_is_refused() -> None:
    app = open_page(hypothesis="preset:paren-1a")
    before = given(app)
    press(app, "add/root")
    group(app, "row/L2").select("a2.h1").run()
    group(app, "features").select("equal_counts").run()
    assert "They cover the same term" in words(app)
    assert app.button(key=f"{KIND}/claim/done").disabled
    press(app, "remove/2")
    assert not app.button(key=f"{KIND}/claim/done").disabled
    press(app, "back")
    assert app.button(key=f"{KIND}/claim/done").disabled
    press(app, "claim/cancel")
    assert given(app) == before
    press(app, "add/root")
    assert (group(app, "row/L2").value, group(app, "features").value) == ([], [])


def test_the_rest_of_the_root_and_what_it_agrees_on() -> None:
    app = open_page(hypothesis="preset:paren-1a")
    press(app, "edit/root")
    app.radio(key=f"{KIND}/claim/other").set_value("separate").run()
    calm(app)
    assert given(app).graph.other == "separate"
    assert len(given(app).graph.children) == 3
    assert not [one for one in app.button_group if "/row/" in str(one.key)]


def test_undo_goes_back_step_by_step() -> None:
    app = open_page(hypothesis="preset:paren-1a")
    steps = [given(app)]
    for place in ("2", "1", "0"):
        press(app, f"remove/{place}")
        steps.append(given(app))
    assert len(given(app).graph.children) == 0
    for before in reversed(steps[:-1]):
        press(app, "back")
        assert given(app) == before
    assert app.button(key=f"{KIND}/back").disabled
    assert app.text_area(key=f"{KIND}/yaml").value == write(steps[0])
    assert address(app)["hypothesis"] == "preset:paren-1a"


def test_an_edited_preset_is_no_longer_called_by_its_name() -> None:
    app = open_page(hypothesis="preset:paren-1a")
    press(app, "remove/0")
    made = given(app)
    assert (made.name, made.note) == ("paren-1a changed", "")
    assert app.selectbox(key=f"{KIND}/start").value == ""
    app.text_input(key=f"{KIND}/name").set_value("two heads").run()
    assert given(app).name == "two heads"


def test_tree_and_text_are_in_step() -> None:
    app = open_page(hypothesis="preset:paren-1a")
    press(app, "remove/0")
    text = app.text_area(key=f"{KIND}/yaml").value
    assert text == write(given(app))
    typed = "# mine\n" + text.replace("equal_counts", "same") + "options: {replicates: 7}\n"
    app.text_area(key=f"{KIND}/yaml").set_value(typed).run()
    calm(app)
    assert given(app).features.keys() == {"same", "horizon_test"}
    assert app.text_area(key=f"{KIND}/yaml").value == typed
    assert app.number_input(key=f"{KIND}/draws").value == 7
    assert "only through same." in words(app)


def test_text_that_cannot_be_read_is_kept_with_what_is_wrong() -> None:
    app = open_page(hypothesis="preset:paren-1a")
    before = given(app)
    for bad, said in (
        ("graph: [", "was to be read as YAML"),
        (write(before).replace("a2.h1", "a9.h1"), "There is no site in paren-balancer"),
        (write(before).replace("count(OPEN)", "count(OPNE)"), "OPNE"),
    ):
        app.text_area(key=f"{KIND}/yaml").set_value(bad).run()
        calm(app)
        assert said in words(app)
        assert app.text_area(key=f"{KIND}/yaml").value == bad
        assert given(app) == before
    press(app, "remove/0")
    assert app.text_area(key=f"{KIND}/yaml").value == bad
    assert len(given(app).graph.children) == 2
    press(app, "write-tree")
    assert app.text_area(key=f"{KIND}/yaml").value == write(given(app))
    assert "OPNE" not in words(app)


MANY = "graph: {site: logits, agree: exact, children: [" + "{site: a0.h0, agree: any}," * 900 + "]}"


@pytest.mark.parametrize(
    "bad", ["<script>alert(1)</script>", "preset:none", "{", "preset:induction-v", MANY]
)
def test_an_address_that_cannot_be_read_is_advice(bad: str) -> None:
    app = open_page(hypothesis=bad)
    assert app.text_area(key=f"{KIND}/yaml").value == bad
    assert "hypothesis" not in address(app)
    assert "is not applied" in words(app)
    assert given(app).name == "paren-1b"
    assert "<script>" not in "".join(str(m.value) for m in app.markdown)


def test_a_page_that_is_left_and_opened_anew_follows_its_address() -> None:
    app = open_page(hypothesis="preset:paren-1a")
    press(app, "remove/0")
    app.switch_page("pages/about.py").run()
    for name in list(app.query_params):
        del app.query_params[name]
    app.switch_page(f"pages/{KIND}.py").run()
    calm(app)
    assert given(app).name == "paren-1b"
    assert app.text_area(key=f"{KIND}/yaml").value == write(given(app))


def test_a_feature_is_written_with_candidates_and_classes() -> None:
    app = start(open_page(), "empty")
    press(app, "feature/new")
    expr = app.text_input(key=f"{KIND}/feature/expr")
    expr.set_value("max(cumsum_r").run()
    inserts = [b for b in app.button if str(b.key).startswith(f"{KIND}/feature/insert/")]
    assert [b.label.replace("\\", "") for b in inserts] == ["cumsum_right(a, b)"]
    assert "how many tokens a minus how many tokens b stand" in words(app)
    inserts[0].click().run()
    calm(app)
    assert app.text_input(key=f"{KIND}/feature/expr").value == "max(cumsum_right("
    assert app.button(key=f"{KIND}/feature/done").disabled
    app.text_input(key=f"{KIND}/feature/expr").set_value("max(cumsum_right(OPEN, CLOSE))").run()
    calm(app)
    table = app.dataframe[0].value
    assert list(table.columns) == ["value", "inputs", "unbalanced", "balanced"]
    assert table["inputs"].sum() <= 1000
    assert (table["unbalanced"] + table["balanced"] == table["inputs"]).all()


def test_a_constant_feature_and_a_wrong_one_are_told() -> None:
    app = start(open_page(), "empty")
    press(app, "feature/new")
    app.text_input(key=f"{KIND}/feature/name").set_value("c")
    app.text_input(key=f"{KIND}/feature/expr").set_value("length() >= 0").run()
    assert "the same value on all of these inputs" in words(app)
    assert "1 class: it tells no inputs apart" in words(app)
    for bad, said in (
        ("token()", "one value a position"),
        ("count(OPNE)", "OPNE"),
        ("count(OPEN) / 0", "division by zero"),
        ("length() + ", "the expression ends"),
        ("1" * 100_000, "at most 2,000"),
    ):
        app.text_input(key=f"{KIND}/feature/expr").set_value(bad).run()
        calm(app)
        assert said in words(app), bad
        assert app.button(key=f"{KIND}/feature/done").disabled


def test_a_feature_is_renamed_wherever_it_is_used_and_kept_while_it_is() -> None:
    app = open_page(hypothesis="preset:paren-1b")
    assert app.button(key=f"{KIND}/feature/remove/equal_counts").disabled
    press(app, "feature/edit/equal_counts")
    app.text_input(key=f"{KIND}/feature/name").set_value("same").run()
    press(app, "feature/done")
    assert given(app).features["counts_and_start"].expr == "same & starts_open"
    press(app, "feature/edit/counts_and_start")
    app.text_input(key=f"{KIND}/feature/name").set_value("both").run()
    press(app, "feature/done")
    assert {n for node, _ in given(app).nodes() for n in node.features} == {"both", "horizon_test"}
    press(app, "feature/edit/same")
    app.text_input(key=f"{KIND}/feature/name").set_value("both").run()
    assert app.button(key=f"{KIND}/feature/done").disabled
    assert "Another feature has this name." in words(app)
    assert "same" in given(app).features


def test_another_model_has_its_own_hypothesis_and_inputs() -> None:
    app = open_page(hypothesis="preset:paren-1a")
    app.selectbox(key=f"{KIND}/model").select("induction-handmade").run()
    calm(app)
    assert given(app).model == "induction-handmade"
    assert app.selectbox(key=f"{KIND}/behavior").value == "induction-letters"
    assert address(app) == {"model": "induction-handmade"}
    app.selectbox(key=f"{KIND}/model").select("max-of-4").run()
    calm(app)
    assert not given(app).graph.children
    assert given(app).model == "max-of-4"
    app.selectbox(key=f"{KIND}/model").select("stdlib-lm").run()
    calm(app)
    # Templates of names are listed first, and this tokenizer splits their words.
    assert app.selectbox(key=f"{KIND}/behavior").value == "code-closing-bracket"


@pytest.mark.parametrize("model", ["paren-balancer", "induction-handmade", "induction-2l"])
def test_every_preset_is_drawn_with_its_inputs(model: str) -> None:
    app = open_page(model=model)
    for one in presets(model):
        start(app, f"preset:{one.name}")
        assert app.selectbox(key=f"{KIND}/behavior").value == one.behavior
        assert given(app) == one.hypothesis
        assert "is not applied" not in words(app)


def test_versions_that_were_asked_can_be_started_from_and_are_linked() -> None:
    app = open_page(hypothesis="preset:paren-1a", n_inputs="100")
    press(app, "remove/0")
    first = given(app)
    spec = {"kind": KIND, "hypothesis": first.canonical, "n_inputs": 100, "nulls": 0, "draws": 1}
    record = run(open_store(), spec).id
    press(app, "remove/0")
    second = given(app)
    assert second.before == first.hash
    press(app, "remove/0")
    assert given(app).before == first.hash
    start(app, f"asked:{record}")
    assert given(app) == first
    other = open_page(hypothesis=first.canonical, n_inputs="200")
    press(other, "remove/0")
    assert given(other).before == ""


def test_a_hypothesis_that_does_not_fit_its_inputs_can_still_be_mended() -> None:
    app = start(open_page(), "empty")
    press(app, "add/root")
    group(app, "row/L1").select("a1.h0").run()
    group(app, "features").select("column:depth").run()
    press(app, "claim/done")
    press(app, "add/root")
    group(app, "features").select("column:start").run()
    app.selectbox(key=f"{KIND}/behavior").select("paren-exchanges").run()
    calm(app)
    assert "depth" in words(app)
    assert group(app, "features").value == []
    press(app, "remove/0")
    assert not given(app).graph.children


NESTED = Hypothesis(
    features={"a": Feature(expr="length()"), "b": Feature(expr='a + column("a") + a_b')},
    graph=Node(
        site="logits",
        agree="exact",
        children=(
            Node(site="a1.h0", agree=("a", "b"), children=(Node(site="embed", agree="a"),)),
            Node(site="a2.h0", agree=Near(near="a", k=7)),
        ),
    ),
)


def test_edits_name_nodes_by_their_new_place() -> None:
    moved = edits.changed(NESTED, (0,), {"site": "a2.h1", "agree": "a"})
    assert [node.id for node, _ in moved.nodes()] == ["logits", "a2.h1", "a2.h1/embed", "a2.h0"]
    assert edits.removed(moved, (0, 0)).graph.children[0].children == ()
    named = edits.changed(moved, (1,), {"site": "a0.h0", "agree": "a"})
    assert [path for path, _, _ in edits.paths(named)] == [(), (0,), (0, 0), (1,)]
    assert edits.line(named, (1, 0)) is None


def test_a_new_name_of_a_feature_leaves_columns_and_longer_names_alone() -> None:
    made = edits.with_feature(NESTED, "c", Feature(expr="length()"), instead="a")
    assert made.features["b"].expr == 'c + column("a") + a_b'
    assert [node.agree for node, _ in made.nodes()] == [
        "exact",
        ("b", "c"),
        "c",
        Near(near="c", k=7),
    ]
    assert list(made.features) == ["c", "b"]
    assert edits.needs(NESTED, "a") == ["a1.h0", "a1.h0/embed", "a2.h0", "b"]
    assert edits.needs(NESTED, "b") == ["a1.h0"]


def test_an_address_has_the_name_of_a_preset_or_the_whole() -> None:
    for name, one in PRESETS.items():
        assert edits.asked(edits.in_address(one.hypothesis.canonical)) == one.hypothesis
        assert edits.in_address(one.hypothesis.canonical) == f"preset:{name}"
    assert edits.in_address(NESTED.canonical) == NESTED.canonical
    assert edits.asked(NESTED.canonical) == NESTED
