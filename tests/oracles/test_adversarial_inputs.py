"""Adversarial inputs against the model library's own forward pass, other truths, and planted cases.

Errors are counted again by HookedTransformer and truth functions written here; families by features
written here; fresh scores where the answer is known because it was planted; intervals by exact
enumeration of binomials. Each has a broken twin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from interp.analyses._record import Context
from interp.analyses.adversarial_inputs import ANALYSIS, AdversarialInputs
from interp.behaviors.populations import POPULATIONS, population, token_names
from interp.explanations.hypothesis import Feature, Hypothesis, Node
from interp.explanations.presets import preset
from interp.methods.scrubbing.adversarial import arms, yields
from interp.methods.scrubbing.adversarial.atoms import atoms_of
from interp.methods.scrubbing.adversarial.attack import Attack, Plan
from interp.methods.scrubbing.adversarial.climb import Ends, Looked, again, climbing, disagreement
from interp.methods.scrubbing.adversarial.families import Violations
from interp.methods.scrubbing.adversarial.ground import Ground
from interp.methods.scrubbing.adversarial.moves import Bodies
from interp.methods.scrubbing.adversarial.outside import Outside
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.intervals import wilson
from interp.methods.scrubbing.tree import Scrubber
from interp.models import catalogue
from interp.models.load import LoadedModel, load

KIND = "adversarial_inputs"
Note = Callable[..., None]


@pytest.fixture(autouse=True)
def _few_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of single atoms and of the most frequent inputs: the rest is more of the same."""
    monkeypatch.setattr("interp.methods.scrubbing.adversarial.families.MOST_FAMILIES", 18)


@lru_cache
def model(name: str) -> LoadedModel:
    return load(name, "cpu")


@lru_cache
def ground(name: str = "paren-hard-mix", of: str = "paren-balancer", n: int = 250) -> Ground:
    pool = Inputs.of(population(name, n, of), token_names(name, of))
    drawn = population(name, 2 * n, of)
    return Ground.of(catalogue.info(of), pool, drawn, name)


@lru_cache
def long_ones() -> Ground:
    """Strings of 38 and 40 parentheses, on which the model errs more often."""
    every = population("paren-hard-mix", 4000, "paren-balancer")
    rows = [i for i, ids in enumerate(every.clean) if len(ids) >= 40]
    part = replace(
        every,
        clean=tuple(every.clean[i] for i in rows),
        answers=tuple(every.answers[i] for i in rows),
        foils=tuple(every.foils[i] for i in rows),
        held_out=(),
        features=(),
    )
    pool = Inputs.of(part, token_names("paren-hard-mix", "paren-balancer"))
    return Ground.of(catalogue.info("paren-balancer"), pool, part, "paren-hard-mix")


# --- errors, counted again ------------------------------------------------------------------------


def _balanced(text: str) -> bool:
    """Cancel neighbours until nothing cancels: shares nothing with the sums of depths."""
    while "()" in text:
        text = text.replace("()", "")
    return not text


def _said(texts: list[str]) -> np.ndarray:
    """The library's own forward pass, the strings of each length together and never padded."""
    hooked = model("paren-balancer").hooked
    code = {"(": 3, ")": 4}
    said = np.zeros(len(texts), int)
    for n in set(map(len, texts)):
        rows = [i for i, text in enumerate(texts) if len(text) == n]
        ids = torch.tensor([[0, *(code[c] for c in texts[i]), 2] for i in rows])
        with torch.inference_mode():
            said[rows] = hooked(ids)[:, 0].argmax(-1).numpy()
    return said


@lru_cache
def attacked() -> tuple[Attack, dict[str, list[tuple[str, bool]]], Any]:
    """A small attack, with every text that each arm asked and whether it was an error."""
    plan = Plan(budget=32, starts=4, nulls=1, claim="", seed=0)
    made = Attack(model("paren-balancer"), preset("paren-1b").hypothesis, long_ones(), plan)
    asked: dict[str, list[tuple[str, bool]]] = {}
    for one in [*made.running, *made.nulls]:
        one.batches = _noted(one.batches, asked.setdefault(one.name, []), made.ground)
    *_, (_, found) = made.run()
    return made, asked, found


def _noted(batches: Any, notes: list[tuple[str, bool]], of: Ground) -> Any:
    while True:
        try:
            batch = next(batches)
        except StopIteration as stop:
            return stop.value
        wrong = batch.logits.argmax(1) != of.answers(batch.bodies)
        notes += zip(of.texts(batch.bodies), wrong.tolist(), strict=True)
        yield batch


def test_errors_are_the_model_s_by_its_own_forward_pass(ledger: Note) -> None:
    _, asked, found = attacked()
    off = 0
    for name, rows in asked.items():
        texts = [text for text, _ in rows]
        wrong = _said(texts) != np.array([_balanced(text) for text in texts])
        off += int((wrong != np.array([error for _, error in rows])).sum())
        assert found.arm(name).errors == int(wrong.sum()), name
        assert found.arm(name).asked == len(rows)
    assert off == 0
    assert sum(arm.errors for arm in found.arms) > 2  # else nothing was compared
    # The control: a truth that only counts judges otherwise.
    every = [row for rows in asked.values() for row in rows]
    half = np.array([text.count("(") == len(text) // 2 for text, _ in every])
    counted = _said([text for text, _ in every]) != half
    control = int((counted != np.array([error for _, error in every])).sum())
    assert control > 5
    ledger(
        kind=KIND,
        oracle="HookedTransformer's own pass on every input asked, balance by cancelling pairs",
        control="equal counts taken for balance",
        deviation=off,
        tolerance=0,
        unit="inputs judged otherwise",
    )


def test_no_arm_asks_an_input_twice() -> None:
    made, asked, _ = attacked()
    for name, rows in asked.items():
        texts = [text for text, _ in rows]
        copies = len(texts) - len(set(texts))
        # Random hypotheses are several arms under one name.
        assert copies == 0 or (name == arms.NULL and len(made.nulls) > 1), name


# --- families -------------------------------------------------------------------------------------


def _features(text: str) -> tuple[bool, bool, bool]:
    """Equal counts, starts open, horizon: each by another computation than the expressions."""
    half = len(text) // 2
    closes = text[::-1]
    horizon = all(closes[:k].count("(") <= closes[:k].count(")") for k in range(1, len(text) + 1))
    return text.count("(") == half, text.startswith("("), horizon


def test_families_keep_what_they_are_to_keep(ledger: Note) -> None:
    """Every input of a family has its cell, and a start that differs in the targets alone."""
    hypothesis = preset("paren-1b").hypothesis
    of = ground()
    atoms = atoms_of(hypothesis, of.pool)
    assert [one.name for one in atoms.of] == ["equal_counts", "starts_open", "horizon_test"]
    making = Violations(of, atoms, np.random.default_rng(0))
    off = judged = 0
    starts = 0
    for number, family in enumerate(making.families):
        rows = making._chosen(family, 4)
        if not len(rows):
            continue
        texts = of.texts(making.make(number, 6, set()))
        cells = [tuple(map(int, _features(text))) for text in texts]
        judged += len(cells)
        off += sum(cell != family.cell for cell in cells)
        flipped = tuple(1 - v if i in family.targets else v for i, v in enumerate(family.cell))
        before = [tuple(map(int, _features(t))) for t in of.texts(of.drawn.at(rows))]
        assert set(before) == {flipped}
        starts += sum(cell == family.cell for cell in before)
    assert judged > 60
    assert off == 0
    assert starts == 0  # the control: the inputs that they were made of are of no family
    ledger(
        kind=KIND,
        oracle="features counted by hand on every input of every family",
        control="the inputs that they were made of",
        deviation=off,
        tolerance=0,
        unit="inputs outside their family",
    )


def test_violations_are_the_least() -> None:
    """A broken horizon is broken by one, where one edit of a balanced string can do so."""
    of = ground()
    atoms = atoms_of(preset("paren-1b").hypothesis, of.pool)
    making = Violations(of, atoms, np.random.default_rng(1))
    names = list(making.names)
    number = names.index("not horizon_test (still equal_counts, starts_open), longer")
    texts = of.texts(making.make(number, 60, set()))
    depth = [min(np.cumsum([1 if c == "(" else -1 for c in text])) for text in texts]
    assert np.mean(np.array(depth) == -1) >= 0.9
    rng = np.random.default_rng(2)
    swapped, _ = of.moves.edit(of.drawn.repeated(4), rng)
    broken = [t for t in of.texts(swapped) if _features(t) == (True, True, False)]
    control = [min(np.cumsum([1 if c == "(" else -1 for c in text])) for text in broken]
    assert np.mean(np.array(control) == -1) < 0.8


# --- scrubbing what is not in the pool ------------------------------------------------------------


@pytest.mark.parametrize("name", ["paren-1b", "paren-2a"])
def test_new_inputs_are_scrubbed_as_references_of_the_pool_are(name: str, ledger: Note) -> None:
    """An input of the pool given as new has the same draws and logits, to the last bit or so."""
    hypothesis, of = preset(name).hypothesis, ground()
    known = of.drawn.at(np.arange(len(of.drawn))[-len(of.pool) :][:80])
    seen = Outside(model("paren-balancer"), hypothesis, of).see(known)
    scrubber = Scrubber(model("paren-balancer"), hypothesis, of.pool)
    rows = np.arange(80)
    theirs = np.stack([scrubber.logits(scrubber.draws(rows, 3, k)) for k in (0, 1)])
    off = float(np.abs(seen.scrubbed(3, (0, 1)) - theirs).max() / theirs.std())
    other = np.stack([scrubber.logits(scrubber.draws(rows[::-1], 3, k)) for k in (0, 1)])
    assert off < 1e-5
    assert float(np.abs(other - theirs).max() / theirs.std()) > 0.1
    ledger(
        kind=KIND,
        oracle=f"the engine on the pool itself ({name})",
        control="references in another order",
        deviation=off,
        tolerance=1e-5,
        unit="of the logits' standard deviation",
    )


def test_nothing_is_drawn_from_outside_the_pool() -> None:
    of = ground()
    new = of.drawn.at(np.arange(50))
    hypothesis = preset("paren-1b").hypothesis
    seen = Outside(model("paren-balancer"), hypothesis, of).see(new)
    drawn = seen.scrubber.draws(seen.rows, 0, 0)
    n = len(of.pool)
    for node, above in hypothesis.nodes():
        if above is not None:
            taken = drawn.row[node.id]
            assert (taken < n).all()
            texts = of.texts(new)
            mine = [_features(t) for t in texts]
            theirs = [
                _features("".join("()"[i - 3] for i in of.pool.ids[row] if i > 2)) for row in taken
            ]
            both = node.agree == "counts_and_start"
            for a, b in zip(mine, theirs, strict=True):
                assert (a[0] and a[1]) == (b[0] and b[1]) if both else a[2] == b[2]
    assert (drawn.other["logits"] < n).all()  # type: ignore[operator]


def test_an_empty_class_takes_the_input_itself_and_is_counted() -> None:
    """A length that only new inputs have: nobody in the pool can stand for them."""
    of = ground()
    claims = Node(site="a1.h0", agree="exactly")
    features = {"exactly": Feature(expr="sum(where(token() == OPEN, pos() * pos(), 0))")}
    hypothesis = Hypothesis(
        features=features, graph=Node(site="logits", agree="exact", children=(claims,))
    )
    seen = Outside(model("paren-balancer"), hypothesis, of).see(of.drawn.at(np.arange(60)))
    taken = seen.scrubber.draws(seen.rows, 0, 0).row["a1.h0"]
    alone = taken == seen.rows
    assert seen.lonely == alone.mean()
    assert 0.3 < seen.lonely < 1


# --- fresh draws ----------------------------------------------------------------------------------


def test_fresh_scores_are_unbiased_where_the_truth_is_planted(ledger: Note) -> None:
    """Scores are noise about a known number: the search is above it, fresh draws are not."""
    of = ground()
    rng = np.random.default_rng(0)

    def truth(bodies: Bodies) -> np.ndarray:
        return 2.0 + 0.01 * bodies.lengths

    def look(bodies: Bodies) -> Looked:
        noisy = truth(bodies) + rng.normal(0, 1, len(bodies))
        return Looked(np.zeros((len(bodies), 2)), noisy, np.ones(len(bodies)))

    steps = climbing(of, look, np.random.default_rng(1), budget=1500, starts=60)
    ends = _last(steps)
    fresh = truth(ends.bodies) + rng.normal(0, 1, len(ends.bodies))
    right = truth(ends.bodies).mean()
    error = 1 / np.sqrt(len(ends.bodies))
    off = abs(fresh.mean() - right) / error
    assert off < 3
    assert (ends.scores.mean() - right) / error > 10  # the control: what the search saw
    ledger(
        kind=KIND,
        oracle="planted scores with known noise, found by the search and scored again",
        control="the scores of the search",
        deviation=float(off),
        tolerance=3,
        unit="standard errors",
    )


def _last(steps: Any) -> Ends:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def test_fresh_scores_agree_with_very_many_draws() -> None:
    """The mean of the scores of a real hypothesis, against 1,500 draws of the engine's scrubber."""
    of = ground()
    hypothesis = preset("paren-1b").hypothesis
    outside = Outside(model("paren-balancer"), hypothesis, of)
    known = of.drawn.at(np.arange(len(of.drawn))[-len(of.pool) :][:6])
    found = again(outside, disagreement, Ends(known, np.zeros(6), np.ones(6)), seed=9, draws=64)
    scrubber = Scrubber(model("paren-balancer"), hypothesis, of.pool)
    many = scrubber.logits(scrubber.draws(np.repeat(np.arange(6), 1500), 4, 0)).reshape(6, 1500, 2)
    right = of.pool.labels[:6]
    sign = np.where(right == 1, 1.0, -1.0)
    bare = found.logits[:, 1] - found.logits[:, 0]
    truth = sign * (bare - (many[:, :, 1] - many[:, :, 0]).mean(1))
    assert (np.abs(found.scores - truth) < 4.5 * found.errors + 0.05).all()
    assert (np.abs(found.scores + truth) > 4.5 * found.errors + 0.05).any()


# --- shares ---------------------------------------------------------------------------------------


def test_wilson_s_interval_is_scipy_s(ledger: Note) -> None:
    off = 0.0
    for n in (1, 7, 50, 2000):
        for errors in {0, 1, n // 3, n}:
            theirs = stats.binomtest(errors, n).proportion_ci(0.95, method="wilson")
            mine = wilson(errors, n)
            off = max(off, abs(mine[0] - theirs.low), abs(mine[1] - theirs.high))
    assert off < 1e-12
    wald = 1.96 * np.sqrt(0.02 * 0.98 / 50)
    assert abs(wilson(1, 50)[1] - (0.02 + wald)) > 0.02
    ledger(
        kind=KIND,
        oracle="scipy's Wilson interval",
        control="the normal approximation",
        deviation=off,
        tolerance=1e-12,
        unit="share",
    )


@pytest.mark.parametrize(("p", "q", "n"), [(0.08, 0.04, 1000), (0.3, 0.1, 100), (0.02, 0.01, 1000)])
def test_ratios_are_covered(p: float, q: float, n: int, ledger: Note) -> None:
    """How often the interval of a ratio holds it, by the exact binomial probabilities."""
    tops, bottoms = (np.arange(int(stats.binom.ppf(1 - 1e-6, n, r)) + 1) for r in (p, q))
    weights = stats.binom.pmf(tops, n, p)[:, None] * stats.binom.pmf(bottoms, n, q)
    held = np.zeros(weights.shape)
    for i, a in enumerate(tops):
        top = (a / n, *wilson(float(a), n))
        for j, b in enumerate(bottoms):
            if weights[i, j] > 1e-9:
                _, low, high = yields.ratio(top, (b / n, *wilson(float(b), n)))
                held[i, j] = low <= p / q <= high
    coverage = float((weights * held).sum() / weights.sum())
    assert 0.93 < coverage < 0.975
    ledger(
        kind=KIND,
        oracle=f"coverage of the ratio of {p:g} and {q:g}, {n} inputs each, enumerated",
        control="the interval of a share alone (below)",
        deviation=abs(coverage - 0.95),
        tolerance=0.025,
        unit="of 95 %",
    )


def test_ratios_at_their_ends() -> None:
    none, some = (0.0, *wilson(0, 100)), (0.1, *wilson(10, 100))
    value, low, high = yields.ratio(some, none)
    assert (value, high) == (float("inf"), float("inf"))
    assert low > 1
    value, low, high = yields.ratio(none, some)
    assert (value, low) == (0.0, 0.0)
    assert 0 < high < 1
    assert np.isnan(yields.ratio(none, none)[0])


def test_inputs_of_one_start_count_as_fewer() -> None:
    """Clusters that are all right or all wrong are worth one input each; mixed ones all."""
    assert yields.independent([50, 0, 0, 0], [50] * 4) == pytest.approx(3, abs=1)
    rng = np.random.default_rng(0)
    drawn = [yields.independent(rng.binomial(50, 0.2, 40), [50] * 40) for _ in range(50)]
    assert 1500 < np.median(drawn) <= 2000
    assert yields.independent([0] * 5, [40] * 5) == 5


# --- a planted model ------------------------------------------------------------------------------


def test_a_planted_weakness_is_found_by_the_right_features_alone(ledger: Note) -> None:
    """A model that errs where exactly the horizon is broken, and never else."""
    of = ground()
    weak = (True, True, False)

    def ask(bodies: Bodies) -> np.ndarray:
        right = of.answers(bodies)
        fails = np.array([_features(text) == weak for text in of.texts(bodies)])
        said = np.where(fails, 1 - right, right)
        return 4.0 * np.eye(2)[said]

    def share(features: dict[str, str]) -> float:
        claims = Node(site="a1.h0", agree=tuple(features))
        made = Hypothesis(
            features={name: Feature(expr=expr) for name, expr in features.items()},
            graph=Node(site="logits", agree="exact", children=(claims,)),
        )
        making = Violations(of, atoms_of(made, of.pool), np.random.default_rng(3))
        tally = arms.Tally()
        for batch in arms.by_families(making, of, ask, budget=80, batch=40):
            tally.add(batch, batch.logits.argmax(1) != of.answers(batch.bodies))
        return arms.arm_of("", tally, making.names).share

    counts, start = "count(OPEN) == count(CLOSE)", "at(1) == OPEN"
    horizon = "max(cumsum_right(OPEN, CLOSE)) <= 0"
    right = share({"counts": counts, "start": start, "horizon": horizon})
    wrong = share({"a": "at(2) == OPEN", "b": "count(OPEN) % 2", "c": "length() % 3"})
    assert right == 1.0
    assert wrong < 0.6
    ledger(
        kind=KIND,
        oracle="a model that errs on one cell of the features and nowhere else",
        control="other true features of the strings",
        deviation=1 - right,
        tolerance=0,
        unit="share of the fresh inputs",
    )


# --- other tasks ----------------------------------------------------------------------------------

TASKS = (
    ("induction-letters-small", "induction-handmade", "tok_after_prev_occurrence(-1)"),
    ("maxima", "max-of-4", "at(0)"),
    ("sums", "mod-add", "at(0)"),
)


@pytest.mark.parametrize(("name", "of", "expr"), TASKS)
def test_every_task_can_be_asked(name: str, of: str, expr: str) -> None:
    """Inputs are new and lie in the population; answers are those of its own rule."""
    claims = Node(site="a0.h0", agree="feature")
    hypothesis = Hypothesis(
        features={"feature": Feature(expr=expr)},
        graph=Node(site="logits", agree="exact", children=(claims,)),
    )
    fields = {"model": of, "behavior": name, "n_inputs": 100, "budget": 20, "nulls": 1, "starts": 2}
    spec = AdversarialInputs.model_validate({**fields, "hypothesis": hypothesis.canonical})
    context = Context(ANALYSIS.inputs(spec), np.random.default_rng(0), model)
    *_, last = ANALYSIS.run(spec, context)
    for arm in last.result.found.arms:
        assert arm.why_not or arm.asked > 0, arm.name
    assert POPULATIONS[name].most >= 100
    assert ANALYSIS.verdict(last.result)
