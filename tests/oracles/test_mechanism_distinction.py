"""Mechanism distinction against pair counting, hooks of the model class, and planted answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis as one_distance
from scipy.special import log_softmax

from interp import analyses
from interp.analyses import _mechanism_result as drawn
from interp.analyses._record import Context
from interp.behaviors import Behavior
from interp.behaviors.populations import token_names
from interp.errors import BadInput
from interp.explanations.hypothesis import Hypothesis
from interp.figures.detectors import spread
from interp.methods.scrubbing import reliance, separation
from interp.methods.scrubbing.classes import Classes
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.run import Amount
from interp.methods.scrubbing.tree import Scrubber
from interp.models.load import LoadedModel, load
from interp.scores import Absent, Interval

KIND = "mechanism_distinction"
STRINGS, LETTERS = "two-mechanisms-paren", "two-mechanisms-induction"
N_HOOKED = 40
FLOAT32 = 1e-4  # of the largest number: float32 logits of up to 20 in ratios of divergences
Note = Callable[..., None]


@lru_cache
def model(name: str) -> LoadedModel:
    return load(name, "cpu")


def spec(**fields: Any) -> Any:
    return analyses.parse({"kind": KIND, **fields})


@lru_cache
def pool(name: str, n: int) -> tuple[Behavior, Inputs]:
    behavior = analyses.get(KIND).inputs(
        spec(model=name, behavior=name, n_inputs=n, hypothesis=EMPTY)
    )
    return behavior, Inputs.of(behavior, token_names(name, name))


def claim(*children: dict[str, Any], **features: str) -> Hypothesis:
    graph = {"site": "logits", "agree": "exact", "children": list(children)}
    named = {name: {"expr": expr} for name, expr in features.items()}
    return Hypothesis.model_validate({"features": named, "graph": graph})


EMPTY = claim().canonical
BALANCED = "(count(OPEN) == count(CLOSE)) & (max(cumsum_right(OPEN, CLOSE)) <= 0)"


def labelled(of: Inputs, mechanism: np.ndarray, explains: int = 0) -> reliance.Labelled:
    rows = np.arange(len(mechanism))
    return reliance.Labelled(rows, mechanism == explains, explains == 0, rows % 2 == 1)


def measured(
    name: str, hypothesis: Hypothesis, n: int, *, draws: int = 4, **more: Any
) -> reliance.Reliances:
    _, of = pool(name, n)
    mechanism = more.pop("mechanism", of.columns["mechanism"][:n])
    amount = Amount(draws, more.pop("nulls", 0), 0)
    asked = labelled(of, mechanism, more.pop("explains", 0))
    *_, (_, last) = reliance.reliances(model(name), hypothesis, of, asked, amount, **more)
    return last


# --- AUROC ----------------------------------------------------------------------------------------


def counted(scores: np.ndarray, which: np.ndarray) -> float:
    pairs = list(product(scores[which], scores[~which]))
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


def test_auroc_is_the_share_of_pairs_in_order(ledger: Note) -> None:
    rng = np.random.default_rng(0)
    off = 0.0
    for case in range(40):
        which = rng.permutation(np.arange(30) < 11)
        scores = rng.normal(size=30) + 0.1 * case * which
        if case % 2:
            scores = scores.round()  # many ties
        scores[0] = np.inf if case % 3 else -np.inf
        off = max(off, abs(separation.auroc(scores, which) - counted(scores, which)))
        for x in np.flatnonzero(~which):
            against = which | (np.arange(30) == x)
            alone = counted(scores[against], which[against])
            off = max(off, abs(float(separation.won(scores, which)[x]) - alone))
        turned = separation.auroc(scores, ~which)
        off = max(off, abs(1 - turned - counted(scores, which)))
    assert off < 1e-12
    assert abs(separation.auroc(rng.normal(size=30), which) - counted(scores, which)) > 0.1
    assert np.isnan(separation.auroc(np.array([np.nan, 1.0]), np.array([True, False])))
    assert np.isnan(separation.auroc(np.ones(3), np.ones(3, bool)))
    ledger(
        kind=KIND,
        oracle="AUROC and what each input wins: all pairs counted, 40 cases with ties, infinities",
        control="scores of another case: off by more than 0.1",
        deviation=off,
        tolerance=1e-12,
        unit="share of pairs",
    )


@pytest.mark.parametrize(("apart", "n"), [(0.0, 50), (1.2, 50), (2.5, 100)])
def test_intervals_cover_the_truth(apart: float, n: int, ledger: Note) -> None:
    """Normal numbers of which one kind varies twice as much, so that the truth is known."""
    from scipy.stats import norm

    rng, which, runs = np.random.default_rng(1), np.arange(2 * n) < n, 400
    truth = float(norm.cdf(apart / np.sqrt(5)))
    covered = wrong = 0
    for _ in range(runs):
        scores = np.where(which, apart + rng.normal(size=2 * n), 2 * rng.normal(size=2 * n))
        found = separation.interval(scores, which)
        assert isinstance(found, Interval)
        covered += found.low <= truth <= found.high
        wrong += found.low <= min(truth + 0.1, 0.999) <= found.high
    share = covered / runs
    assert 0.92 <= share <= 0.98
    assert wrong / runs < 0.8
    ledger(
        kind=KIND,
        oracle=f"coverage of the AUROC's 95 % interval, truth {truth:.2f}, {n} inputs a kind, "
        f"{runs} runs: 0.95",
        control="a truth that is off by 0.1 is covered in less than 0.8",
        deviation=abs(share - 0.95),
        tolerance=0.03,
        unit="share of runs",
    )


def test_intervals_at_the_ends_are_no_points() -> None:
    which = np.arange(100) < 50
    best = separation.interval(which.astype(float), which)
    worst = separation.interval(-which.astype(float), which)
    assert isinstance(best, Interval)
    assert isinstance(worst, Interval)
    assert (best.high, worst.low) == (1.0, 0.0)
    assert best.low == pytest.approx(50 / (50 + 1.96**2), abs=1e-4)
    assert best.low == pytest.approx(1 - worst.high)
    tied = separation.interval(np.ones(100), which)
    assert isinstance(tied, Interval)
    assert (tied.low, tied.high) == (0.5, 0.5)
    assert isinstance(separation.interval(np.ones(12), np.arange(12) < 3), Absent)


# --- reliance -------------------------------------------------------------------------------------


class Hooked:
    """The model class, run input by input without padding."""

    def __init__(self, name: str, n: int) -> None:
        self.loaded, (self.behavior, self.of) = model(name), pool(name, n)
        self.read = self.behavior.read
        self.last = self.loaded.info.n_layers - 1

    @lru_cache  # noqa: B019
    def run(self, row: int) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
        ids = torch.tensor([self.behavior.clean[row]])
        logits, cache = self.loaded.hooked.run_with_cache(ids)
        acts = {name: cache[name][0, self.read] for name in cache if cache[name].ndim == 3}
        return logits[0, self.read].double().numpy(), acts

    def with_last(self, row: int, more: torch.Tensor) -> np.ndarray:
        """Run an input and add to the stream where it is read, behind the last layer."""

        def add(act: torch.Tensor, hook: Any) -> torch.Tensor:
            act[:, self.read] += more
            return act

        at = f"blocks.{self.last}.hook_resid_post"
        ids = torch.tensor([self.behavior.clean[row]])
        with torch.inference_mode():
            logits = self.loaded.hooked.run_with_hooks(ids, fwd_hooks=[(at, add)])
        return logits[0, self.read].double().numpy()

    def kl(self, row: int, others: list[np.ndarray]) -> float:
        own = log_softmax(self.run(row)[0])
        mean = np.log(np.mean([np.exp(log_softmax(one)) for one in others], axis=0))
        return float((np.exp(own) * (own - mean)).sum())


def by_hooks(hooked: Hooked, hypothesis: Hypothesis, out: str, n: int, draws: int) -> np.ndarray:
    """Reliance, sd and need of a claim about one MLP straight to the logits: ``[3, input]``.

    Only which inputs are drawn comes from the engine.
    """
    scrubber = Scrubber(hooked.loaded, hypothesis, hooked.of)
    (node,) = hypothesis.graph.children
    off = Hypothesis.model_validate(
        {"graph": {"site": "logits", "agree": "exact", "other": "exact",
                   "children": [{"id": node.id, "site": node.site, "agree": "any"}]}}
    )  # fmt: skip
    taken = Scrubber(hooked.loaded, off, hooked.of)
    rows, found = np.arange(N_HOOKED), np.zeros((3, n))
    drawn = [scrubber.draws(rows, 0, k) for k in range(draws)]
    gone = [taken.draws(rows, 0, k).row[node.id] for k in range(draws)]
    for x in range(n):
        scrubbed, empty, without = [], [], []
        for k in range(draws):
            mine, rest = int(drawn[k].row[node.id][x]), int(drawn[k].other["logits"][x])
            of = [hooked.run(row)[1][out] for row in (mine, rest, x, int(gone[k][x]))]
            scrubbed.append(hooked.with_last(rest, of[0] - of[1]))
            empty.append(hooked.run(rest)[0])
            without.append(hooked.with_last(x, of[3] - of[2]))
        floor = hooked.kl(x, empty)
        single = [hooked.kl(x, [one]) for one in scrubbed]
        found[:, x] = (
            1 - hooked.kl(x, scrubbed) / floor,
            np.std(single, ddof=1) / floor,
            hooked.kl(x, without) / floor,
        )
    return found


@pytest.mark.parametrize(
    ("name", "site", "out", "feature"),
    [
        (STRINGS, "m1", "blocks.1.hook_mlp_out", BALANCED),
        (LETTERS, "m0", "blocks.0.hook_mlp_out", "last()"),
    ],
)
def test_reliance_is_that_of_hooked_runs(
    name: str, site: str, out: str, feature: str, ledger: Note
) -> None:
    hypothesis, hooked = claim({"site": site, "agree": "one"}, one=feature), Hooked(name, N_HOOKED)
    found = measured(name, hypothesis, N_HOOKED, draws=3)
    ours = np.stack([found.reliance, found.sd, found.need])
    theirs = by_hooks(hooked, hypothesis, out, N_HOOKED, draws=3)
    scale = np.maximum(1, np.abs(theirs))
    off = float((np.abs(ours - theirs) / scale).max())
    assert off < FLOAT32
    other = "blocks.2.hook_mlp_out" if name == STRINGS else "blocks.1.hook_mlp_out"
    wrong = by_hooks(hooked, hypothesis, other, 10, draws=3)
    assert float(np.median(np.abs(wrong - theirs[:, :10])[0])) > 0.05
    ledger(
        kind=KIND,
        oracle=f"reliance, sd and need of {site} of {name}: hooks of the model class, 40 inputs",
        control="another MLP exchanged in its place: off by more than 0.05",
        deviation=off,
        tolerance=FLOAT32,
        unit="of the number, at least 1",
    )


def test_claiming_nothing_has_none_and_claiming_all_has_all(ledger: Note) -> None:
    nothing = measured(STRINGS, claim(), 40)
    terms = "embed+pos_embed+" + "+".join(f"a{layer}.h0+a{layer}.h1+m{layer}" for layer in range(3))
    everything = measured(STRINGS, claim({"site": terms, "agree": "exact"}), 40)
    off = max(float(np.abs(nothing.reliance).max()), float(np.abs(everything.reliance - 1).max()))
    assert off < FLOAT32
    assert np.isnan(nothing.need).all()
    part = measured(STRINGS, claim({"site": "m1", "agree": "exact"}), 40)
    assert float(np.abs(part.reliance).max()) > 0.1
    ledger(
        kind=KIND,
        oracle="reliance of the empty hypothesis is 0, of one that names everything 1",
        control="one that names the L1 MLP has neither",
        deviation=off,
        tolerance=FLOAT32,
        unit="reliance",
    )


def test_distances_are_those_of_cached_activations(ledger: Note) -> None:
    n = 30
    hooked = Hooked(STRINGS, n)
    names = ("blocks.1.hook_mlp_out", "hook_embed")
    acts = np.stack(
        [np.concatenate([hooked.run(x)[1][at].double().numpy() for at in names]) for x in range(60)]
    )
    trusted, mine = acts[n:], acts[:n]
    spread = np.cov(trusted.T)
    spread += 1e-3 * np.trace(spread) / len(spread) * np.eye(len(spread))
    far = [one_distance(x, trusted.mean(0), np.linalg.inv(spread)) ** 2 for x in mine]
    _, of = pool(STRINGS, n)
    second = Inputs(of.ids[n:], of.lengths[n:], of.read, of.labels[n:], of.foils[n:], pad=of.pad)
    hypothesis = claim({"site": "m1", "agree": "exact"}, {"site": "embed", "agree": "exact"})
    found = measured(STRINGS, hypothesis, n, draws=2, trusted=second)
    off = float(np.abs(found.near / -np.array(far) - 1).max())
    assert off < 1e-3
    turned = measured(STRINGS, hypothesis, n, draws=2, trusted=second, explains=1)
    assert (turned.near == -found.near).all()
    assert (
        float(np.abs(measured(STRINGS, hypothesis, n, draws=2).near / found.near - 1).max()) > 0.1
    )
    ledger(
        kind=KIND,
        oracle="Mahalanobis distances: scipy on activations cached by the model class, 30 inputs",
        control="distances from the scored inputs themselves: off by more than 0.1",
        deviation=off,
        tolerance=1e-3,
        unit="of the distance",
    )


# --- known mechanisms -----------------------------------------------------------------------------

RIGHT = {
    (STRINGS, 0): claim({"site": "m1", "agree": "exact"}),
    (LETTERS, 0): claim({"site": "a1.h0+a1.h1", "agree": "exact"}),
    (LETTERS, 1): claim({"site": "m0", "agree": "cue"}, cue="last()"),
}
WRONG = {
    STRINGS: claim({"site": "m1", "agree": "one"}, one="sum(pos() * (token() == OPEN)) % 4 == 0"),
    LETTERS: claim({"site": "a1.h0+a1.h1", "agree": "one"}, one="at(1) % 4"),
}
N = 300


@pytest.mark.parametrize(("name", "explains"), RIGHT)
def test_right_claims_separate_and_wrong_features_do_not(
    name: str, explains: int, ledger: Note
) -> None:
    """The two models were trained so that one component carries each mechanism."""
    _, of = pool(name, N)
    which = of.columns["mechanism"][:N] == explains
    right = measured(name, RIGHT[name, explains], N, draws=8).reliance
    wrong = measured(name, WRONG[name], N, draws=8).reliance
    value, twin = separation.auroc(right, which), separation.auroc(wrong, which)
    assert value >= 0.9
    assert abs(twin - 0.5) <= 0.1
    # Labels dealt out anew: what was high is chance.
    rng = np.random.default_rng(3)
    dealt = [separation.interval(right, rng.permutation(which)) for _ in range(20)]
    inside = [isinstance(one, Interval) and one.low <= 0.5 <= one.high for one in dealt]
    assert np.mean(inside) >= 0.85
    ledger(
        kind=KIND,
        oracle=f"{name}: the component that carries mechanism {explains} separates it, AUROC 1",
        control=f"a wrong feature has {twin:.2f}; with labels dealt out anew 0.5 is inside",
        deviation=1 - value,
        tolerance=0.1,
        unit="AUROC",
    )


def test_no_number_but_one_depends_on_the_labels(ledger: Note) -> None:
    """Numbers with labels dealt out anew are the same to the last bit; one that peeks is found."""
    n = 60
    hypothesis = claim({"site": "m1", "agree": "one"}, one=BALANCED)
    _, of = pool(STRINGS, n)
    mechanism = of.columns["mechanism"][:n]
    dealt = np.random.default_rng(5).permutation(mechanism)
    one = measured(STRINGS, hypothesis, n, nulls=2)
    other = measured(STRINGS, hypothesis, n, nulls=2, mechanism=dealt)
    blind = ("reliance", "sd", "need", "near", "surprise", "margin")
    off = max(float(np.abs(getattr(one, f) - getattr(other, f)).max()) for f in blind)
    assert off == 0
    assert (one.unmodelled != other.unmodelled).any()  # it learns from labels, and says so
    assert separation.auroc(one.unmodelled, mechanism == 0) == 1
    ledger(
        kind=KIND,
        oracle="detectors with labels dealt out anew: the same numbers to the last bit",
        control="the one that learns from labels changes",
        deviation=off,
        tolerance=0.0,
        unit="their own",
    )


def test_exchanging_the_mechanism_asked_about_turns_nothing_round() -> None:
    hypothesis = claim({"site": "m1", "agree": "exact"})
    one, other = (measured(STRINGS, hypothesis, 60, explains=k) for k in (0, 1))
    assert (one.reliance == other.reliance).all()
    assert (one.need == other.need).all()
    for name in ("near", "surprise", "margin"):
        assert (getattr(one, name) == -getattr(other, name)).all()


@lru_cache
def answered(explains: int) -> Any:
    """The kind's result on few inputs."""
    kind = analyses.get(KIND)
    fields = {"n_inputs": 60, "draws": 2, "nulls": 2, "explains": explains}
    asked = spec(**fields, hypothesis=claim({"site": "m1", "agree": "exact"}).canonical)
    ctx = Context(kind.inputs(asked), np.random.default_rng(0), model)
    *_, last = kind.run(asked, ctx)
    return last.result


@pytest.mark.parametrize("explains", [0, 1])
def test_rows_are_worded_as_they_are_counted(explains: int) -> None:
    result, hooked = answered(explains), Hooked(STRINGS, 60)
    answer, which = hooked.of.labels[0], result.mechanism == explains
    losses = np.array([-log_softmax(hooked.run(x)[0])[answer] for x in range(60)])
    rows = list(drawn._detectors(result).figure.layout.yaxis.ticktext)
    way = {0: "low", 1: "high"}[explains]
    assert f"{way} loss of the model" in rows
    sign = {0: -1, 1: 1}[explains]
    value = result.separates[drawn.LOSS][0]
    assert value == pytest.approx(counted(sign * losses, which), abs=0.01)
    assert abs(value - counted(-sign * losses, which)) > 0.5
    assert any(row.startswith({0: "near", 1: "far"}[explains]) for row in rows)


def test_an_advantage_is_one_only_outside_the_interval() -> None:
    result = answered(0)
    value, bounds = result.separates[drawn.RELIANCE]
    assert isinstance(bounds, Interval)

    def beside(wrong: int) -> tuple[float, str]:
        """Put so many inputs of mechanism 0 below all others in one detector beside it."""
        numbers = (result.mechanism == 0).astype(float)
        numbers[np.flatnonzero(numbers)[:wrong]] = -1
        one = drawn.Detector(drawn.NEAR, "", numbers)
        reliance = next(one for one in result.detectors if one.name == drawn.RELIANCE)
        made = replace(result, detectors=(reliance, one))
        return made.separates[drawn.NEAR][0], drawn.verdict(made)

    cases = [beside(wrong) for wrong in range(16)]
    said = {value - 0.01 <= far or bounds.low <= far for far, _ in cases}
    assert said == {True, False}
    for far, words in cases:
        assert ("not needed" in words) == (far >= value - 0.01)
        assert ("no advantage" in words) == (bounds.low <= far < value - 0.01)


def test_few_random_explanations_have_a_range() -> None:
    many, few = np.linspace(0, 1, 101), np.linspace(0, 1, 19)
    assert spread(many) == (pytest.approx(0.05), 0.5, pytest.approx(0.95), "5 to 95 %")
    assert spread(few) == (0.0, 0.5, 1.0, "range")
    caption = drawn._detectors(answered(0)).caption
    assert "rank 1 of 3 is the best possible" in caption
    assert "5 to 95 %" not in caption


# --- features -------------------------------------------------------------------------------------


def test_features_that_tell_the_mechanism_are_found() -> None:
    rng = np.random.default_rng(0)
    which = rng.permutation(np.arange(200) < 100)
    half = rng.integers(2, size=200)
    tells = {"same": which * 3, "half": half, "rest": half ^ which, "name": np.arange(200)}

    def told(*names: str) -> separation.Told:
        return separation.told({name: tells[name] for name in names}, which)

    assert told("half").together is False
    assert told("half").told_bits < 0.1
    assert (told("half", "rest").together, told("half", "rest").alone) == (True, ())
    assert told("half", "rest").told_bits == pytest.approx(1)
    assert told("same", "half").alone == ("same",)
    assert told("name").singletons == 1
    assert told().together is False
    second = np.arange(200) % 2 == 1
    scores = separation.without_model({"same": tells["same"]}, which, second)
    assert separation.auroc(scores, which) == 1
    # What only names inputs says nothing about others.
    names = separation.without_model({"name": tells["name"]}, which, second)
    assert abs(separation.auroc(names, which) - 0.5) < 0.1


def test_shuffled_features_make_classes_of_the_same_sizes() -> None:
    _, of = pool(STRINGS, 100)
    hypothesis = claim(
        {"site": "m1", "agree": ["a", "b"]}, {"site": "m2", "agree": "b"}, a=BALANCED, b="length()"
    )
    made = reliance.shuffled(hypothesis, of, np.random.default_rng(0))
    assert made is not None
    twin, mine = made
    before, after = of.values(hypothesis), mine.values(twin)
    ours, theirs = (
        [[values[name] for name in node.features] for node, _ in one.nodes() if node.features]
        for one, values in ((hypothesis, before), (twin, after))
    )
    for a, b in zip(ours, theirs, strict=True):
        assert sorted(Classes.of(a).counts) == sorted(Classes.of(b).counts)
        assert (Classes.of(a).codes != Classes.of(b).codes).any()
    assert [n.site for n, _ in twin.nodes()] == [n.site for n, _ in hypothesis.nodes()]
    bare = claim({"site": "m1", "agree": "exact"})
    assert reliance.shuffled(bare, of, np.random.default_rng(0)) is None


# --- what is asked --------------------------------------------------------------------------------


def test_partners_are_drawn_from_and_not_scored() -> None:
    behavior, of = pool(STRINGS, 40)
    assert len(behavior) == 80
    assert (of.columns["mechanism"] == -1).tolist() == [False] * 40 + [True] * 40
    assert (of.labels[:40] == of.foils[40:]).all()
    assert (of.foils[:40] == of.labels[40:]).all()
    assert len(set(of.labels[:40])) == 1  # this is why partners are needed


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"model": "paren-balancer", "behavior": "paren-strings"}, "two-mechanisms-paren"),
        ({"behavior": STRINGS + "-trusted"}, "no column 'mechanism'"),
        ({"behavior": LETTERS}, "Its tokens are those of"),
        ({"behavior": "no-such"}, "no-such"),
    ],
)
def test_what_cannot_be_asked_is_refused(fields: dict[str, Any], match: str) -> None:
    asked = spec(**{"model": STRINGS, "hypothesis": EMPTY, "n_inputs": 40, **fields})
    with pytest.raises(BadInput, match=match):
        analyses.get(KIND).inputs(asked)


def test_the_verdict_says_what_is_circular() -> None:
    kind = analyses.get(KIND)

    def said(hypothesis: Hypothesis) -> str:
        asked = spec(n_inputs=60, draws=2, nulls=1, hypothesis=hypothesis.canonical)
        ctx = Context(kind.inputs(asked), np.random.default_rng(0), model)
        *_, last = kind.run(asked, ctx)
        return kind.verdict(last.result)

    assert "without looking at the model" in said(
        claim({"site": "m1", "agree": "one"}, one=BALANCED)
    )
    assert "without looking at the model" not in said(claim({"site": "m1", "agree": "exact"}))
