"""A circuit that path patching found, tested as a hypothesis in one click."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from interp import analyses
from interp.answers import get
from interp.explanations.hypothesis import Hypothesis
from interp.jobs.inline import run
from interp.jobs.submit import prepare, submit
from interp.store import open_store
from ui.circuits import follow_up

ROOT = Path(__file__).resolve().parents[2]
MODEL = "induction-handmade"


def test_a_walk_becomes_a_hypothesis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The button below the answer opens the form with it, and the editor offers it by itself."""
    monkeypatch.setenv("BECAUSE_HOME", str(tmp_path))
    store, parent = open_store(), None
    asked_ids: list[str] = []
    fields = {"kind": "path_patching", "model": MODEL, "behavior": "induction-first-cue"}
    for receivers in ("logits", "L1H0.k"):
        asked = analyses.parse({**fields, "n_pairs": 4, "receivers": receivers})
        submit(store, asked, parent=parent)
        parent = run(store, asked).id
        asked_ids.append(parent)
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.query_params["id"] = str(parent)
    app.switch_page("pages/record.py").run()
    assert not app.exception
    (button,) = [b for b in app.button if b.label.startswith("Test this circuit as a hypothesis")]
    assert button.label.endswith("(2 edges)")
    offered = follow_up([get(store, name) for name in asked_ids])
    assert offered is not None
    ready = prepare(offered.fields)  # with as many inputs as there are
    assert ready.spec.n_inputs == 1000

    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.query_params["model"] = MODEL
    app.switch_page("pages/causal_scrubbing.py").run()
    start = next(box for box in app.selectbox if box.label == "Start from")
    (found,) = [one for one in start.options if one.startswith("circuit of Path patching")
                and "2 levels deep" in one]  # fmt: skip
    start.select(found).run()
    assert not app.exception
    claimed = Hypothesis.model_validate_json("".join(app.query_params["hypothesis"]))
    tree = [(node.site, node.into) for node, _ in claimed.nodes()]
    assert tree == [("logits", None), ("a1.h0", None), ("a0.h0", "k")]
    assert claimed.behavior == "induction-first-cue"
