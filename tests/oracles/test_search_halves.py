"""What is said of a search: each number and line beside the half of the inputs that it is of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from interp.analyses._search_result import Result, figures, scores, verdict
from interp.behaviors.populations import population, token_names
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.search import Plan, search
from interp.methods.scrubbing.searched import Searched
from interp.methods.scrubbing.space import Space, half
from interp.models import catalogue
from interp.models.load import load
from interp.scores import Absent, Anchor, Interval

MODEL, SMALL = "induction-handmade", "induction-letters-small"
PLAN = Plan(
    objective="loss", price=0.02, start="empty", restarts=0, evaluations=60, nulls=3, seed=0
)
FLOAT32 = 1e-4


def arrays() -> Inputs:
    return Inputs.of(population(SMALL, 360, MODEL), token_names(SMALL, MODEL))


def after(inputs: Inputs, plan: Plan) -> Searched:
    assert inputs.held_out is not None
    space = Space.of(catalogue.info(MODEL), half(inputs, ~inputs.held_out), {"second": "at(2)"})
    *_, (_, last) = search(load(MODEL, "cpu"), inputs, space, plan)
    return last


def answers(inputs: Inputs) -> NDArray[np.float64]:
    """Log probabilities of the model on each input, at the place read, [input, output]."""
    with torch.inference_mode():
        logits = load(MODEL, "cpu").hooked(torch.from_numpy(inputs.ids))[:, inputs.read].double()
    return np.asarray(logits.log_softmax(-1).numpy())


def answered(found: Searched) -> Result:
    return Result(
        inputs="letters.",
        objective=PLAN.objective,
        price=PLAN.price,
        depth=1,
        components=6,
        features=("second",),
        expressions=("at(2)",),
        told=(),
        exact=False,
        evaluations=PLAN.evaluations,
        found=found,
    )


def test_every_part_of_the_scale_is_of_the_half_held_out() -> None:
    """The best constant guess there is the entropy of the labels, shuffled answers a bare run."""
    whole = arrays()
    assert whole.held_out is not None
    # The halves differ: one answer is not among the inputs searched.
    kept = whole.held_out | (whole.labels != whole.labels[0])
    inputs = replace(half(whole, kept), held_out=whole.held_out[kept])
    assert inputs.held_out is not None
    tested = after(inputs, PLAN)
    result = answered(tested)
    score = scores(result)[0]

    def share(which: NDArray[np.bool_], loss: float) -> float:
        labels, log_p = inputs.labels[which], answers(inputs)[which]
        model = -log_p[np.arange(len(labels)), labels].mean()
        shuffled = -log_p.mean(0)[labels].mean()
        return float((shuffled - loss) / (shuffled - model))

    def entropy(which: NDArray[np.bool_]) -> float:
        p = np.unique(inputs.labels[which], return_counts=True)[1] / which.sum()
        return float(-(p * np.log(p)).sum())

    held, searched = inputs.held_out, ~inputs.held_out
    assert (score.n, int(searched.sum())) == (held.sum(), len(tested.search.model))
    best = result.best
    assert score.value == pytest.approx(share(held, best.held_out), rel=FLOAT32)
    assert isinstance(score.constant, Anchor)
    assert score.constant.value == pytest.approx(share(held, entropy(held)), rel=FLOAT32)
    assert isinstance(score.interval, Interval)
    assert score.interval.low < score.value < score.interval.high
    assert isinstance(score.held_out, Absent)
    assert "held out" in score.name
    # The control: the half searched has another scale and another value.
    other = share(searched, best.search)
    assert abs(share(searched, entropy(searched)) - score.constant.value) > 100 * FLOAT32
    assert abs(other - score.value) > 10 * FLOAT32
    assert f"{score.value:.3f} held out, and {other:.3f} on the inputs searched" in verdict(result)
    assert isinstance(score.null, Absent)  # of 3 draws there are no percentiles
    assert "with 3 draws" in score.null.reason


def test_lines_are_of_the_half_that_they_name() -> None:
    tested = after(arrays(), replace(PLAN, nulls=0))
    front, best, _ = figures(answered(tested))
    written = {str(note.text) for note in front.figure.layout.annotations}
    assert tested.held_out is not None
    assert written == {
        f"{name}, {half} {of.mean():.3g}"
        for half, levels in (("searched", tested.search), ("held out", tested.held_out))
        for name, of in (
            ("model", levels.model),
            ("constant", levels.constant),
            ("shuffled", levels.shuffled),
        )
    }
    nothing = float(tested.values[tested.bits == 0][0])
    floor = tested.search.shuffled
    assert abs(nothing - floor.mean()) < 5 * float(floor.std()) / len(floor) ** 0.5 + 0.5
    assert f"{nothing:.3g} and {floor.mean():.3g}" in front.caption
    # What all hypotheses have in common is said once.
    common = tested.front[0].said[0]
    assert common in best.caption
    assert not any(common in text for _, text in best.texts)
    assert all(text.strip() for _, text in best.texts)
