"""Rank correlations against scipy and planted truth; hypotheses' numbers against other kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from interp import analyses
from interp.analyses._record import Context
from interp.analyses._worth_result import ALL, MEASURES, WITHIN, Result, correlations
from interp.behaviors.built_in import built_in
from interp.behaviors.populations import token_names
from interp.errors import BadInput
from interp.explanations.hypothesis import Hypothesis, Node
from interp.methods.scrubbing.candidates import RIGHT, Candidate, effect, generate
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.worth import Compared, correlation, interval, permuted, score_of
from interp.models import catalogue
from interp.models.load import LoadedModel, load
from interp.scores import Absent, Interval, Score

MODEL = "two-mechanisms-induction"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@lru_cache(maxsize=1)
def model(name: str) -> LoadedModel:
    return load(name, "cpu")


def run(kind: str, **fields: Any) -> Any:
    analysis = analyses.get(kind)
    spec = analyses.parse(json.dumps({"kind": kind, **fields}))
    rng = np.random.default_rng(spec.seed)
    *_, last = analysis.run(spec, Context(analysis.inputs(spec), rng, model))
    return last.result


@lru_cache(maxsize=1)
def example() -> Result:
    fields = json.loads(analyses.get("does_the_number_matter").example.canonical)
    return run(**fields)


# --- correlations ---------------------------------------------------------------------------------


def planted(rng: np.random.Generator, n: int, rho: float) -> tuple[np.ndarray, np.ndarray]:
    """Normal pairs whose rank correlation in the population is ``rho``."""
    r = 2 * np.sin(np.pi * rho / 6)
    x = rng.normal(size=n)
    return x, r * x + np.sqrt(1 - r**2) * rng.normal(size=n)


def test_correlations_are_those_of_scipy(ledger: Any) -> None:
    rng, worst = np.random.default_rng(0), 0.0
    for n in (10, 60, 200):
        x, y = rng.integers(0, 12, n).astype(float), rng.normal(size=n)
        z = x + rng.integers(0, 5, n)
        plain = Compared(x, y + x / 4, np.arange(n))
        assert correlation(plain) == pytest.approx(spearmanr(x, y + x / 4).statistic, abs=1e-12)
        # Partial: residuals of ranks after a straight line in the ranks of the bits.
        held = Compared(x, y + x / 4, np.arange(n), bits=z)
        line = np.stack([np.ones(n), _midranks(z)], 1)
        left = [
            v - line @ np.linalg.lstsq(line, v, rcond=None)[0]
            for v in (_midranks(x), _midranks(y + x / 4))
        ]
        wanted = float(np.corrcoef(*left)[0, 1])
        worst = max(worst, abs(correlation(held) - wanted))
        assert correlation(held) == pytest.approx(wanted, abs=1e-10)
    control = abs(correlation(plain) - correlation(held))
    assert control > 1e-3  # the control: what is held constant makes a difference
    ledger(
        kind="does_the_number_matter",
        oracle="scipy's Spearman; partial: residuals of a least-squares line in ranks",
        control="bits not held constant",
        deviation=worst,
        tolerance=1e-10,
        unit="of the correlation",
    )


def _midranks(values: np.ndarray) -> np.ndarray:
    return (values[:, None] > values).sum(1) + 0.5 * (values[:, None] == values).sum(1)


def test_right_against_random_alone_does_not_count_within_kinds() -> None:
    rng = np.random.default_rng(1)
    kind = np.repeat([0, 1], 40)
    x, y = rng.normal(size=80) + 5 * kind, rng.normal(size=80) + 5 * kind
    of = Compared(x, y, np.arange(80))
    within = Compared(x, y, np.arange(80), stratum=kind)
    assert correlation(of) > 0.6
    found = interval(within, rng)
    assert isinstance(found, Interval)
    assert found.low < 0 < found.high
    x, y = np.sort(rng.normal(size=80)), np.arange(80.0)
    assert correlation(Compared(x, y, np.arange(80), stratum=kind)) == pytest.approx(1.0)


def test_intervals_cover_a_planted_correlation() -> None:
    rng, rho, held, n, wide = np.random.default_rng(2), 0.5, 0, 80, list[float]()
    for _ in range(n):
        x, y = planted(rng, 60, rho)
        found = interval(Compared(x, y, np.arange(60)), rng)
        assert isinstance(found, Interval)
        held += found.low <= rho <= found.high
        wide.append(found.high - found.low)
    assert 0.86 <= held / n < 1
    # Fieller, Hartley and Pearson (1957): standard error of Fisher's z of a rank correlation.
    error = np.sqrt(1.06 / 57) * (1 - rho**2)
    assert np.mean(wide) == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_intervals_take_shared_successes_as_one() -> None:
    """Ten hypotheses of each success: resampling them one by one gives far too narrow intervals."""
    rng, held, alone, n = np.random.default_rng(3), 0, 0, 50
    for _ in range(n):
        group = np.repeat(np.arange(12), 10)
        level = rng.normal(size=12)
        x = level[group] + 0.3 * rng.normal(size=120)
        y = rng.normal(size=12)[group]
        wide = interval(Compared(x, y, group), rng)
        narrow = interval(Compared(x, y, np.arange(120)), rng)
        assert isinstance(wide, Interval)
        assert isinstance(narrow, Interval)
        held += wide.low <= 0 <= wide.high
        alone += narrow.low <= 0 <= narrow.high
    assert held / n >= 0.82
    assert alone / n <= 0.6


def test_ranks_in_the_null_are_uniform() -> None:
    rng, places = np.random.default_rng(4), []
    group = np.repeat(np.arange(20), 2)
    for _ in range(150):
        x, y = rng.normal(size=40), rng.normal(size=20)[group]
        of = Compared(x, y, group)
        places.append((permuted(of, rng, 99) < correlation(of)).mean())
    counts = np.histogram(places, bins=5, range=(0, 1))[0]
    assert ((counts - 30) ** 2 / 30).sum() < 13.3  # χ² with 4 degrees of freedom, 1 %
    x = np.arange(40.0)
    of = Compared(x, group.astype(float), group)
    assert (permuted(of, rng, 99) < correlation(of)).all()  # the control: what is associated


def test_nothing_is_said_of_too_few_or_of_what_does_not_vary() -> None:
    rng = np.random.default_rng(5)
    few = Compared(np.arange(20.0), np.arange(20.0), np.arange(20) // 4)
    assert isinstance(score_of("few", few, rng), Absent)
    same = Compared(np.arange(20.0), np.ones(20), np.arange(20))
    assert isinstance(score_of("same", same, rng), Absent)
    missing = np.where(np.arange(20) < 10, np.nan, np.arange(20.0))
    some = score_of("some", Compared(np.arange(20.0), missing, np.arange(20)), rng)
    assert isinstance(some, Score)
    assert some.n == 10


# --- hypotheses -----------------------------------------------------------------------------------


def test_hypotheses_differ_in_effect_and_names_do_not_count() -> None:
    info = catalogue.info(MODEL)
    of = Inputs.of(built_in(f"{MODEL}-trusted", 100, MODEL), token_names(MODEL, MODEL))

    def named(name: str, expr: str, site: str = "a1.h0+a1.h1") -> Hypothesis:
        return Hypothesis.model_validate(
            {
                "features": {name: {"expr": expr}},
                "graph": Node(site="logits", agree="exact").model_dump()
                | {"children": [{"site": site, "agree": name}]},
            }
        )

    one = named("induced", "tok_after_prev_occurrence(-1)")
    assert effect(one, of) == effect(named("other", "1 + tok_after_prev_occurrence(-1)"), of)
    assert effect(one, of) != effect(named("induced", "last()"), of)
    assert effect(one, of) != effect(named("induced", "tok_after_prev_occurrence(-1)", "m0"), of)
    given = [
        Candidate(RIGHT, "", one),
        Candidate(RIGHT, "again", named("b", one.features["induced"].expr)),
    ]
    made = generate(given, of, info, 20, np.random.default_rng(0))
    assert len({effect(c.hypothesis, of) for c in made.candidates}) == len(made.candidates) == 20
    assert made.tried > 20
    again = generate(given, of, info, 20, np.random.default_rng(0))
    assert [c.hypothesis for c in again.candidates] == [c.hypothesis for c in made.candidates]


def test_numbers_are_those_that_the_other_kinds_give(ledger: Any) -> None:
    result, worst = example(), 0.0
    spec = analyses.get("does_the_number_matter").example
    fields = {"model": MODEL, "n_inputs": spec.n_inputs, "draws": spec.draws, "nulls": 0}
    for k in (0, 5):
        one = {**fields, "hypothesis": result.hypotheses[k]}
        scrubbed = run("causal_scrubbing", behavior=f"{MODEL}-trusted", **one)
        worst = max(worst, abs(scrubbed.loss - result.loss[k]))
        assert scrubbed.loss == pytest.approx(result.loss[k], abs=1e-6)
        assert scrubbed.found.measured.kl.mean() == pytest.approx(result.kl[k], abs=1e-6)
        assert scrubbed.shuffled == pytest.approx(result.shuffled_loss, abs=1e-9)
        judged = run("mechanism_distinction", behavior=MODEL, **one)
        assert judged.separates["reliance on it"][0] == pytest.approx(result.success[k], abs=2e-3)
    control = abs(scrubbed.loss - result.loss[0])
    assert control > 0.1  # the control: another hypothesis has other numbers
    ledger(
        kind="does_the_number_matter",
        oracle="causal_scrubbing and mechanism_distinction of single hypotheses",
        control="another hypothesis",
        deviation=worst,
        tolerance=1e-6,
        unit="nats",
    )


def test_shuffled_successes_have_no_correlation() -> None:
    result = example()
    rng, inside = np.random.default_rng(6), 0
    n, kinds = 40, tuple(result.kinds[i % len(result.kinds)] for i in range(40))
    many = {
        name: np.resize(getattr(result, name), n) + rng.normal(scale=1e-3, size=n)
        for name in ("loss", "kl", "bits")
    }
    for _ in range(6):
        success = rng.permutation(np.resize(result.success, n) + rng.normal(scale=1e-3, size=n))
        shuffled = _replaced(result, kinds, many, success)
        found = correlations(shuffled, rng).correlation(MEASURES[0], ALL)
        assert isinstance(found, Score)
        assert isinstance(found.interval, Interval)
        inside += found.interval.low <= 0 <= found.interval.high
    assert inside >= 5
    ordered = _replaced(result, kinds, many, -many["loss"])
    for subset in (ALL, WITHIN):
        found = correlations(ordered, rng).correlation(MEASURES[0], subset)
        assert isinstance(found, Score)
        assert found.value == pytest.approx(1.0)  # the control: what is ordered is found


def _replaced(
    result: Result, kinds: tuple[str, ...], many: dict[str, np.ndarray], success: np.ndarray
) -> Result:
    n = len(kinds)
    return replace(
        result,
        kinds=kinds,
        hows=("",) * n,
        hypotheses=result.hypotheses[:1] * n,
        leaks=np.zeros(n, bool),
        success=success,
        low=success,
        high=success,
        group=np.arange(n),
        **many,
    )


def test_hypotheses_made_alike_are_told_apart() -> None:
    result = example()
    names = [result.named(k).split(". ", 1)[1] for k in range(len(result.kinds))]
    made = list(zip(result.kinds, result.hows, strict=True))
    assert len(set(made)) < len(made)  # the control: without what they claim some are called alike
    assert len(set(names)) == len(names)
    assert "right: known of the first mechanism, L1H0 + L1H1 in full" in names


def test_the_best_constant_guess_has_its_place() -> None:
    result = example()
    layout = analyses.get("does_the_number_matter").figures(result)[0].figure.layout
    (line,) = layout.shapes
    assert line.x0 == line.x1
    way = result.shuffled_loss - result.model_loss
    assert line.x0 * way == pytest.approx(result.shuffled_loss - result.constant_loss)
    assert "best constant guess" in [one.text for one in layout.annotations]


def test_a_name_is_said_once() -> None:
    kind = analyses.get("does_the_number_matter")
    assert kind.question(kind.example).count(MODEL) == 1
    other = analyses.parse({"kind": kind.kind, "model": MODEL, "behavior": f"{MODEL}-trusted"})
    assert f"about {MODEL} on {MODEL}-trusted" in kind.question(other)


def test_what_cannot_be_asked_is_refused() -> None:
    analysis = analyses.get("does_the_number_matter")
    for fields, said in (
        ({"model": "paren-balancer", "behavior": "paren-strings"}, "which mechanism"),
        ({"model": MODEL, "behavior": MODEL, "downstream": "adversarial"}, "rule"),
    ):
        spec = analyses.parse({"kind": "does_the_number_matter", **fields})
        with pytest.raises(BadInput, match=said):
            analysis.inputs(spec)
