"""The records that ship with the app: computed anew, and opened and drawn as they are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

import interp
from interp import answers
from interp.behaviors import parens
from interp.models import catalogue
from interp.store import State, open_store
from interp.store.codec import unpack
from interp.worked import FOLDER, Worked, add_worked, worked
from tests.contract._checks import assert_close_tree, assert_draws, assert_paragraph

WORKED = worked()
TOLERANCE = 1e-5  # of each array's root mean square


@pytest.mark.parametrize("one", WORKED, ids=lambda one: one.name)
def test_recomputing_gives_the_stored_numbers(one: Worked, ledger: Callable[..., None]) -> None:
    analysis = interp.analyses.get(one.spec["kind"])
    stored = unpack(analysis.result, one.packed)
    assert not open_store().records.list()  # nothing to be found instead of computed
    answer = interp.run(one.spec)
    assert answer.state == State.DONE
    assert answer.record.attempt == 1
    deviation = assert_close_tree(answer.result, stored, TOLERANCE)
    assert answer.verdict == analysis.verdict(stored)
    # Negative control: another question of the same kind gives other numbers.
    other = {
        "ablation": {"pool": "clean"},
        "activation_patching": {"direction": "noising"},
        "attribution_patching": {"direction": "denoising"},
        "direct_logit_attribution": {"answer": "c"},
        "path_patching": {"direction": "denoising"},
        "mechanism_distinction": {"explains": 1},
        "causal_scrubbing": {"draws": 3, "seed": 1},
        "logit_lens": {"prompt": one.spec.get("prompt", "")[::-1]},
    }
    changed = interp.run({**one.spec, **other.get(one.spec["kind"], {"seed": 1})})
    with pytest.raises(AssertionError):
        assert_close_tree(changed.result, stored, TOLERANCE)
    ledger(
        kind=analysis.kind,
        oracle=f"the shipped record {one.name}, computed anew",
        control="another question of the same kind",
        deviation=deviation,
        tolerance=TOLERANCE,
        unit="root mean squares of each array",
    )


@pytest.mark.parametrize("one", WORKED, ids=lambda one: one.name)
def test_a_stored_record_opens_and_draws(one: Worked) -> None:
    store = open_store()
    add_worked(store)
    add_worked(store)  # again: nothing happens
    assert len(store.records.list()) == len(WORKED)
    answer = answers.get(store, one.id)
    assert answer.state == State.DONE
    assert not answer.outdated
    assert answer.analysis is not None
    assert answer.spec is not None
    assert answer.spec == interp.parse(one.spec)
    assert_draws(answer.analysis.figures(answer.result))
    assert_paragraph(answer.verdict)
    for score in answer.analysis.scores(answer.result):
        assert score.n > 0
    twin = answers.as_json(store, answer)
    assert twin["verdict"] == answer.verdict
    # It is what the page finds for the same question, so that it is not computed again.
    assert interp.run(one.spec).id == one.id


def test_the_folder_and_the_weights_are_those_it_was_computed_with() -> None:
    names = {path.parent.name for path in FOLDER.glob("*/record.json")}
    assert names == {one.name for one in WORKED}
    assert len({one.id for one in WORKED}) == len(WORKED)
    for one in WORKED:
        assert one.id == hashlib.sha256(f"worked {one.name}".encode()).hexdigest()[:32]
        assert one.provenance["weights_sha256"] == catalogue.info(one.spec["model"]).weights
    for kind in interp.kinds():
        assert f"example-{kind.replace('_', '-')}" in names
    assert len([one for one in WORKED if one.headline]) == 3


def test_what_home_says_is_in_the_numbers() -> None:
    """The sentences beside the worked records are claims too."""
    shown = {one.name: one for one in WORKED if one.headline}
    balancing = shown["2-what-88-percent-means"]
    result = unpack(interp.analyses.get(balancing.spec["kind"]).result, balancing.packed)
    assert balancing.spec["references"] == "held-out"
    assert result.recovered > 0.5
    assert result.of_constant > 0.5
    without = [w for w in result.found.without if w.node in result.found.budget.leaking_nodes]
    assert max(w.loss for w in without) > result.constant


def test_a_record_on_home_that_shows_an_error_says_so() -> None:
    for one in WORKED:
        if one.headline and one.spec["kind"] == "logit_lens":
            result = unpack(interp.analyses.get("logit_lens").result, one.packed)
            right = parens.is_balanced(one.spec["prompt"]) == (result.answer == "balanced")
            assert right or "wrong" in one.lead, f"{one.spec['prompt']} is called {result.answer}"
