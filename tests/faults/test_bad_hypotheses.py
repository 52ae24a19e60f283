"""Hypotheses that cannot be tested are refused with what was asked, found and would work."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import interp
from interp.behaviors import built_in
from interp.behaviors.populations import population
from interp.errors import BadInput, InterpError
from interp.jobs.submit import prepare
from interp.methods.scrubbing.inputs import Inputs
from interp.models import catalogue
from interp.store import open_store

COUNTS = "count(OPEN) == count(CLOSE)"


def spec(features: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    node = {"site": "a1.h0", "agree": next(iter(features), "exact") if features else "exact"}
    hypothesis: dict[str, Any] = {
        "features": features or {},
        "graph": {"site": "logits", "agree": "exact", "children": [node]},
    }
    fields = {"kind": "causal_scrubbing", "n_inputs": 200, "draws": 2, "nulls": 2}
    model = changes.pop("model_of", None)
    if model:
        hypothesis["model"] = model
    site = changes.pop("site", None)
    if site:
        node["site"] = site
    return {**fields, "hypothesis": json.dumps(hypothesis), **changes}


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "cyclic features": (spec({"a": "b + 1", "b": "a + 1"}), "a → b → a|b → a → b", ""),
    "unknown site": (spec({"f": COUNTS}, site="a7.h0"), "a7.h0", "a[0-2].h[01]"),
    "constant feature": (spec({"f": "length() > 0"}), "'f'|f ", "On all 200 inputs it is True"),
    "an expression of 10^5 characters": (spec({"f": "1+" * 50_000 + "1"}), "", "100,000"),
    "an expression of 80,000 characters": (spec({"f": "1+" * 40_000 + "1"}), "", "2,000"),
    "no number": (spec({"f": "1 / (count(OPEN) - count(OPEN))"}), "", "zero|finite|number"),
    "another model": (spec({"f": COUNTS}, model_of="induction-2l"), "induction-2l", ""),
    "another model's weights": (
        spec({"f": COUNTS}, model_of="paren-balancer#00000000"),
        "00000000",
        "weights",
    ),
    "no such inputs": (spec({"f": COUNTS}, behavior="parens"), "parens", "paren-strings"),
    "too many inputs": (
        spec({"f": COUNTS}, behavior="paren-near-misses", n_inputs=1001),
        "",
        "1,?000",
    ),
    "neither YAML nor JSON": (spec(hypothesis="graph: [site"), "", ""),
    "no such preset": (spec(hypothesis="preset:paren-9"), "paren-9", "paren-1a"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_before_anything_is_stored(name: str) -> None:
    fields, found, works = BAD[name]
    with pytest.raises(InterpError) as refused:
        prepare(fields)
    error = refused.value
    assert isinstance(error, BadInput)
    assert error.asked
    assert error.found or error.works
    assert re.search(found, str(error)), str(error)
    assert re.search(works, str(error)), str(error)
    assert len(str(error)) < 4000
    assert not open_store().records.list()


def test_inputs_of_one_right_answer_are_refused() -> None:
    pairs = built_in("paren-near-misses", 30, "paren-balancer")
    with pytest.raises(BadInput, match="same right answer"):
        Inputs.of(pairs, {})
    assert len(Inputs.of(population("paren-near-misses", 30, "paren-balancer"), {})) == 60


def test_its_neighbour_is_not_refused() -> None:
    weights = catalogue.info("paren-balancer").weights
    ready = prepare(spec({"f": COUNTS}, model_of=f"paren-balancer#{weights[:12]}"))
    assert json.loads(ready.spec.hypothesis)["model"].endswith(weights[:12])


def test_small_classes_are_warned_of_and_tested_all_the_same() -> None:
    fields = spec({"f": "length()"}, draws=64)
    answer = interp.run({**fields, "n_inputs": 40, "nulls": 0})
    warnings = answer.result.found.budget.warnings
    assert any("draws" in said or "smallest" in said for said in warnings), warnings
    many = interp.run({**fields, "n_inputs": 2000, "draws": 1, "nulls": 0})
    assert not any("smallest" in said for said in many.result.found.budget.warnings)


def test_an_input_alone_in_its_class_stands_for_itself() -> None:
    fields = spec({"f": "100 * count(OPEN) + 7 * first(CLOSE) + length()"}, n_inputs=20, nulls=0)
    result = interp.run(fields).result
    node = result.found.budget.nodes[0]
    assert node.smallest == 1
    assert node.singletons > 0
