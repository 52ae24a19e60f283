"""Least gaps, and inputs split by a score: definitions, words, and the figure of a clicked cell."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.analyses._record import Context
from interp.analyses.activation_patching import ANALYSIS, Result
from interp.behaviors import Behavior, PromptPair, built_in, from_pairs, slices
from interp.engine import read_out
from interp.errors import BadInput, NothingToRecover
from interp.methods import effects
from interp.methods.grids import make_grid
from interp.methods.metrics import metric
from interp.methods.patching import sweep
from interp.models.info import BYTES
from interp.models.load import load
from interp.scores import Absent, Interval

RNG = np.random.default_rng(0)


# --- the least gap --------------------------------------------------------------------------------


def moved(name: str, change: float) -> float:
    """The metric's change when an even choice between two outputs moves by so many logits."""
    logits = torch.tensor([[0.0, 0.0], [change, 0.0]], dtype=torch.float64)
    clean, now = metric(name, logits, [0, 0], [1, 1], logits[:1].expand(2, 2)).tolist()
    return abs(now - clean)


@pytest.mark.parametrize("name", effects.METRICS)
def test_least_gaps_of_all_metrics_are_one_change_of_the_choice(name: str) -> None:
    """From 50 % to 51 %, by the metrics' own definitions; within what the quadratic leaves out."""
    least = effects.least_gap(name, 1.0)
    assert 1 / (1 + math.exp(-effects.LEAST_LOGITS)) == pytest.approx(0.51, abs=1e-4)
    assert moved(name, effects.LEAST_LOGITS) == pytest.approx(least, rel=0.02)
    assert moved(name, 2 * effects.LEAST_LOGITS) > 1.9 * least  # the control


def test_least_gap_is_no_less_than_rounding() -> None:
    assert set(effects._EPSILON) == set(BYTES)
    for dtype, epsilon in effects._EPSILON.items():
        assert epsilon == torch.finfo(getattr(torch, dtype)).eps
    found = {d: effects.least_gap("logit_diff", 300.0, d) for d in BYTES}
    assert found["float64"] == found["float32"] == effects.LEAST_LOGITS
    assert found["float16"] == 8 * 2**-10 * 300
    assert found["bfloat16"] == 8 * 2**-7 * 300
    assert effects.least_gap("logit_diff", 1e6) == pytest.approx(8 * 2**-23 * 1e6)


@pytest.mark.parametrize("name", effects.METRICS)
def test_one_rounding_step_of_large_logits_is_nothing_to_recover(name: str) -> None:
    """Logits near -100 stand 0.5 apart in bfloat16, however small their difference is."""
    near = torch.tensor([-100.0, -102.5, -101.0], dtype=torch.bfloat16)
    step = torch.nextafter(near[:1], torch.tensor([0.0], dtype=torch.bfloat16)) - near[:1]
    assert step.item() == 0.5
    other = near.clone()
    other[0] += step[0]
    logits = torch.stack([near, other]).double()
    runs = metric(name, logits, [0, 0], [1, 1], logits[:1].expand(2, 3)).numpy()
    least = effects.least_gap(name, 100.0, "bfloat16")
    assert not effects.has_gap(runs[:1], runs[1:], least)
    # The control: by the size of the metric, a step passes as something to recover.
    by_metric = effects.least_gap(name, float(np.abs(runs).mean()), "bfloat16")
    assert effects.has_gap(runs[:1], runs[1:], by_metric)


def test_the_least_gap_is_from_the_logits_of_the_bare_runs() -> None:
    behavior = built_in("paren-near-misses", 6, "paren-balancer")
    model = load("paren-balancer", "cpu")
    grid = make_grid(model.info, behavior, "z")
    state = next(sweep(model, behavior, grid, "denoising", "logit_diff"))
    runs = [
        read_out(model, torch.tensor(ids), 0).logits for ids in (behavior.clean, behavior.corrupted)
    ]
    # Answer and foil are all the classes that there are, so one of them is the likeliest.
    expected = float(torch.stack(runs).double().abs().amax(-1).mean())
    assert state.logits == pytest.approx(expected, rel=1e-5)
    assert state.logits != pytest.approx(float(np.abs(state.clean).mean()), rel=0.1)  # the control


def test_a_mean_gap_below_the_least_is_refused_with_both_numbers() -> None:
    corrupted = np.array([1.0, 2.0, 3.0])
    for gap in (0.041, -0.041):
        effects.check_gap(corrupted + gap, corrupted, "logit_diff", 0.04)  # the control
    with pytest.raises(NothingToRecover) as near:
        effects.check_gap(corrupted + 0.0391, corrupted, "logit_diff", 0.04)
    assert str(near.value) == (
        "The logit difference was compared between clean and corrupted. On average over 3 pairs it "
        "is 2.039 and 2 logits: a gap below 0.04, which leaves nothing to share out. Choose a "
        "corrupted prompt that changes the answer, or another metric."
    )
    with pytest.raises(NothingToRecover) as same:
        effects.check_gap(corrupted[:1], corrupted[:1], "loss", 0.02)
    assert "On average over 1 pair it is 1 nats in both." in str(same.value)


def test_gaps_that_cancel_are_no_gap_though_each_pair_has_one() -> None:
    clean, corrupted = np.array([1.0, -1.0]), np.array([-1.0, 1.0])
    assert effects.small_gaps(clean, corrupted, 0.04, "logits") == ""
    with pytest.raises(NothingToRecover):
        effects.check_gap(clean, corrupted, "logit_diff", 0.04)


def test_pairs_below_the_least_are_counted() -> None:
    corrupted = np.zeros(20)
    clean = np.array([0.01, -0.039, 0.0, *[2.0] * 17])
    assert effects.small_gaps(clean, corrupted, 0.04, "logits") == (
        "3 of 20 pairs have a gap below 0.04 logits: there is nothing to recover in them."
    )
    assert effects.small_gaps(clean[2:], corrupted[2:], 0.04, "logits") == (
        "1 of 18 pairs has a gap below 0.04 logits: there is nothing to recover in it."
    )
    assert effects.small_gaps(clean[3:], corrupted[3:], 0.04, "logits") == ""


def test_a_pair_without_a_gap_hardly_moves_the_effect() -> None:
    """The ratio of means weighs it by its gap; a mean of ratios would be ruled by it."""
    corrupted, gap = np.zeros(5), np.array([4.0, 4.0, 4.0, 4.0, 1e-4])
    patched = 0.5 * gap + np.array([0, 0, 0, 0, 0.1])
    one, whole = patched[:, None, None], slice(None)
    ratio_of_means, kept = (
        float(effects.effect(one[part], gap[part], corrupted[part], "denoising")[0, 0])
        for part in (whole, slice(4))
    )
    assert abs(ratio_of_means - kept) < 0.01
    assert abs(float((patched / gap).mean()) - kept) > 100  # the control


# --- slices ---------------------------------------------------------------------------------------


def test_quantile_slices_have_about_equally_many() -> None:
    scores = RNG.permutation(12).astype(float)
    found = slices.by_quantile("gap", scores, 3)
    assert [len(s) for s in found] == [4, 4, 4]
    assert [s.label for s in found] == ["gap 0 to 3", "gap 4 to 7", "gap 8 to 11"]
    assert [(s.low, s.high) for s in found] == [(0, 3), (4, 7), (8, 11)]
    for part in found:
        assert sorted(scores[list(part.members)]) == list(range(int(part.low), int(part.high) + 1))


def test_equal_scores_stay_together() -> None:
    scores = np.array([1.0, 1, 1, 1, 1, 2, 3])
    assert [len(s) for s in slices.by_quantile("n", scores, 3)] == [5, 2]
    assert len(slices.by_quantile("n", np.ones(9), 3)) == 1
    assert len(slices.by_quantile("n", 11.25 + 1e-8 * RNG.random(9), 3)) == 1  # rounding
    assert len(slices.by_quantile("n", 11.25 + 1e-3 * np.arange(9.0), 3)) == 3  # the control
    assert [len(s) for s in slices.by_quantile("tokens", np.arange(6), 2)] == [3, 3]


def test_inputs_without_a_score_are_a_slice_of_their_own() -> None:
    scores = np.array([np.nan, 1.0, np.inf, 2.0])
    for found in (slices.by_quantile("gap", scores, 2), slices.by_threshold("gap", scores, 1.5)):
        assert [(s.label, s.members) for s in found] == [
            ("gap 1 to 1", (1,)),
            ("gap 2 to 2", (3,)),
            ("no gap", (0, 2)),
        ]
        assert math.isnan(found[-1].low)


def test_a_threshold_splits_in_two_and_leaves_out_what_is_empty() -> None:
    scores = np.array([0.0, 1.0, 2.0, -0.0])
    assert [s.members for s in slices.by_threshold("x", scores, 1.0)] == [(0, 3), (1, 2)]
    assert [s.label for s in slices.by_threshold("x", scores, 5.0)] == ["x 0 to 2"]
    with pytest.raises(BadInput, match="0 slices were asked for"):
        slices.by_quantile("x", scores, 0)


def test_means_have_students_interval_from_three_inputs_on() -> None:
    values = np.array([1.0, 2.0, 3.0, 9.0])
    found = slices.measured(
        slices.by_threshold("x", values, 5.0), lambda m: effects.mean_with_interval(values[m])
    )
    assert found[0].value == 2
    assert isinstance(found[0].interval, Interval)
    # Closed form of Student's t with 2 degrees of freedom; the standard deviation is 1.
    half = 0.95 * math.sqrt(2 / (1 - 0.95**2)) / math.sqrt(3)
    assert found[0].interval.high - 2 == pytest.approx(half, rel=1e-9)
    assert found[0].interval.low - 2 == pytest.approx(-half, rel=1e-9)
    assert half != pytest.approx(1.96 / math.sqrt(3), rel=0.1)  # the control: the normal one
    assert (found[1].value, found[1].interval) == (9, Absent("1 input: an interval takes 3"))


def test_the_effect_on_all_pairs_is_that_of_slices_weighted_by_gap() -> None:
    n = 30
    corrupted, gap = RNG.normal(size=n), RNG.uniform(0.5, 4, n)
    clean, values = corrupted + gap, corrupted + gap * RNG.normal(size=n)
    for direction in ("denoising", "noising"):
        runs = (values, clean, corrupted, direction)
        found = slices.measured(
            slices.by_quantile("gap", gap, 3), effects.on_pairs(*runs, least=0.04, unit="logits")
        )
        weights = np.array([gap[list(m.slice.members)].sum() for m in found]) / gap.sum()
        whole = effects.one_effect(*runs, np.random.default_rng(0))[0]
        assert float(weights @ [m.value for m in found]) == pytest.approx(whole, abs=1e-12)
        # The control: weighted by their numbers of pairs they give another number.
        assert abs(float(np.mean([m.value for m in found])) - whole) > 1e-3


def test_a_slice_without_a_gap_has_no_effect_and_says_so() -> None:
    corrupted = np.zeros(6)
    clean = np.array([0.0, 0.01, -0.01, 3.0, 4.0, 5.0])
    measure = effects.on_pairs(clean / 2, clean, corrupted, "denoising", least=0.04, unit="logits")
    value, reason = measure(np.array([0, 1, 2]))
    assert math.isnan(value)
    assert reason == Absent("its mean gap is below 0.04 logits")
    value, interval = measure(np.array([3, 4, 5]))
    assert value == 0.5
    assert isinstance(interval, Interval)
    assert interval.method == "bootstrap over the 3 pairs"
    assert measure(np.array([3]))[1] == Absent("1 pair: an interval takes 3 with a steady gap")


# --- in the analysis ------------------------------------------------------------------------------

PARENS = {"kind": ANALYSIS.kind, "model": "paren-balancer", "behavior": "paren-near-misses"}


@lru_cache(maxsize=1)
def _result(**fields: Any) -> Result:
    spec = interp.parse({**PARENS, "site": "resid_pre", **fields})
    inputs = ANALYSIS.inputs(spec)
    context = Context(inputs, np.random.default_rng(0), lambda name: load(name, "cpu"))
    *_, last = ANALYSIS.run(spec, context)
    return last.result


def test_a_clicked_cell_is_shown_by_gap() -> None:
    result = _result(n_pairs=24)
    said = ANALYSIS.inspect(result, {"0": 2, "1": 0})
    assert said is not None
    text, (_, drawn) = said
    assert "Not split" not in text
    assert drawn.name == "slices"
    assert drawn.title == "By gap"
    assert drawn.caption == (
        "Inputs split by gap (logits). Bars: 95 % interval of each slice by itself."
    )
    value = next(trace for trace in drawn.figure.data if trace.name == "value")
    gaps = result.clean - result.corrupted
    order = np.argsort(gaps)
    for shown, part in zip(value.x, np.split(order, 3), strict=True):
        at = [a[part].mean() for a in (result.values[:, 2, 0], result.clean, result.corrupted)]
        assert shown == pytest.approx((at[0] - at[2]) / (at[1] - at[2]), rel=1e-9)
    assert [name.rsplit("(", 1)[1] for name in value.y] == ["n = 8)"] * 3
    header, *rows = csv.reader(drawn.csv.splitlines())
    assert header == ["series", "effect", "gap", "low", "high"]
    assert [row[2] for row in rows] == list(value.y)
    assert all(float(low) < float(x) < float(high) for _, x, _, low, high in rows)


def test_few_pairs_or_equal_gaps_are_not_split_and_the_reason_is_said() -> None:
    whole = _result(n_pairs=24)
    cut = {name: getattr(whole, name)[:8] for name in ("values", "clean", "corrupted")}
    few = replace(whole, clean_tokens=whole.clean_tokens[:8], **cut)
    text, figures = ANALYSIS.inspect(few, {"0": 2, "1": 0}) or ("", [])
    assert text.endswith("Not split by gap: 3 slices of 3 take 9, and there are 8.")
    assert [named.name for named in figures] == ["cell"]
    flat = replace(whole, clean=whole.corrupted + 5.0)
    text, figures = ANALYSIS.inspect(flat, {"0": 2, "1": 0}) or ("", [])
    assert text.endswith("Not split by gap: it is the same in all 24.")
    assert len(figures) == 1


def test_small_gaps_are_said_in_the_sentence_and_under_the_runs() -> None:
    whole = _result(n_pairs=24)
    clean = whole.clean.copy()
    clean[:3] = whole.corrupted[:3] + 0.01
    said = "3 of 24 pairs have a gap below 0.04 logits: there is nothing to recover in them."
    some = replace(whole, clean=clean)
    assert said in ANALYSIS.verdict(some)
    assert ANALYSIS.figures(some)[1].caption.endswith(said)
    assert "nothing to recover" not in ANALYSIS.verdict(whole)  # the control
    assert whole.least_gap == effects.LEAST_LOGITS


def asked(behavior: Behavior) -> Result:
    spec = ANALYSIS.spec(model=behavior.model)
    context = Context(behavior, np.random.default_rng(0), lambda name: load(name, "cpu"))
    *_, last = ANALYSIS.run(spec, context)
    return last.result


def test_the_analysis_fails_where_the_mean_gap_is_below_the_least() -> None:
    """The last letter's cue is hidden in neither prompt, so both runs answer alike."""
    dull = [PromptPair("kmabcda", "kmabcea", "b", "m"), PromptPair("xyabcda", "xyabcea", "b", "x")]
    with pytest.raises(NothingToRecover, match="in both"):
        asked(from_pairs("induction-handmade", dull))
    live = [PromptPair("kmabcda", "kmebcda", "b", "m"), dull[1]]
    result = asked(from_pairs("induction-handmade", live))  # the control: one pair has a gap
    assert "1 of 2 pairs has a gap below 0.04 logits" in ANALYSIS.verdict(result)
