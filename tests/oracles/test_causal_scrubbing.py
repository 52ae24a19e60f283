"""Causal scrubbing as a whole against closed forms: on weights written by hand every loss is known.

The induction head of ``induction-handmade`` attends evenly to the places behind the letters that
equal its query, sharply, and writes 10 times the letters there. So each hypothesis about it is a
rule for which input gives the query, which the letters before each place, and which the letters at
them. These rules are written out here and all draws enumerated, on a distribution of 360 inputs;
on the larger one they are drawn by a generator of the test's own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch

from interp import analyses
from interp.analyses._record import Context
from interp.analyses._scrubbing_claims import against_chance, standing
from interp.analyses._scrubbing_result import Result
from interp.behaviors.populations import population, token_names
from interp.explanations.hypothesis import Hypothesis
from interp.explanations.presets import preset
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.tree import Scrubber
from interp.models.load import LoadedModel, load

Ledger = Callable[..., None]
ANALYSIS = analyses.get("causal_scrubbing")
MODEL, SMALL, LARGE = "induction-handmade", "induction-letters-small", "induction-letters"
GAIN, OUTPUTS = 10.0, 27


def written(query: np.ndarray, before: np.ndarray, letters: np.ndarray) -> np.ndarray:
    """Return logits ``[entry, output]``: letters at the places whose letter before is the query."""
    hit = before == query[:, None]
    none = ~hit.any(1, keepdims=True)
    weight = (hit | none) / (hit | none).sum(1, keepdims=True)
    logits = np.zeros((len(query), OUTPUTS))
    for place in range(letters.shape[1]):
        logits[np.arange(len(query)), letters[:, place]] += GAIN * weight[:, place]
    return logits


def loss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    top = logits.max(1, keepdims=True)
    return np.log(np.exp(logits - top).sum(1)) + top[:, 0] - logits[np.arange(len(labels)), labels]


def shifted(ids: np.ndarray) -> np.ndarray:
    """The letter before each place; the first place has itself."""
    return np.concatenate([ids[:, :1], ids[:, :-1]], 1)


def small() -> tuple[np.ndarray, np.ndarray]:
    behavior = population(SMALL, 360, MODEL)
    return np.array(behavior.clean), np.array(behavior.answers)


def same(ids: np.ndarray, labels: np.ndarray, of: np.ndarray) -> float:
    """Mean loss where the whole head comes from an input that agrees on ``of``."""
    pairs = [(i, j) for i in range(len(ids)) for j in np.flatnonzero(of == of[i])]
    i, j = np.array(pairs).T
    return float(
        np.average(
            loss(written(ids[j, -1], shifted(ids[j]), ids[j]), labels[i]),
            weights=1 / np.bincount(i)[i],
        )
    )


def keys_elsewhere(ids: np.ndarray, labels: np.ndarray) -> float:
    """Mean loss where keys come from any input."""
    i, j = (part.ravel() for part in np.indices((len(ids), len(ids))))
    return float(loss(written(ids[i, -1], shifted(ids[j]), ids[i]), labels[i]).mean())


def apart(ids: np.ndarray, labels: np.ndarray) -> float:
    """Mean loss where query, keys and values come from three inputs of the same right answer."""
    means = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        q, k, v = (rows[part.ravel()] for part in np.indices((len(rows),) * 3))
        logits = written(ids[q, -1], shifted(ids[k]), ids[v])
        means.append(loss(logits, np.full(len(q), label)).mean())
    return float(np.average(means, weights=np.unique(labels, return_counts=True)[1]))


TRUE = ("handmade-qkv", "handmade-previous-from-embedding", "handmade-induced-feature")
WRONG: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "handmade-k-from-embedding": keys_elsewhere,
    "handmade-separately": apart,
    "handmade-cue-feature": lambda ids, labels: same(ids, labels, ids[:, -1]),
    "handmade-wrong-head": lambda ids, labels: same(ids, labels, np.zeros(len(ids))),
}


@cache
def loaded() -> LoadedModel:
    return load(MODEL, torch.device("cpu"))


def scrubbed(name: str, behavior: str, n: int, draws: int) -> np.ndarray:
    """Losses ``[draw, input]`` by the engine."""
    inputs = Inputs.of(population(behavior, n, MODEL), token_names(behavior, MODEL))
    scrubber = Scrubber(loaded(), preset(name).hypothesis, inputs)
    logits = [scrubber.logits(scrubber.draws(np.arange(n), 0, k)) for k in range(draws)]
    return np.stack([loss(one, inputs.labels) for one in logits])


@pytest.mark.parametrize("name", [*TRUE, *WRONG])
def test_every_draw_enumerated(name: str, ledger: Ledger) -> None:
    ids, labels = small()
    model = loss(written(ids[:, -1], shifted(ids), ids), labels).mean()
    floor = same(ids, labels, np.zeros(len(ids)))
    exact = WRONG[name](ids, labels) if name in WRONG else model
    due = 100 * (floor - exact) / (floor - model)
    found = (
        100
        * (floor - scrubbed(name, SMALL, 360, 4 if name in TRUE else 48).mean())
        / (floor - model)
    )
    off = abs(found - due)
    assert off < 1
    if name in TRUE:
        assert abs(found - 100) < 1
    # The control: what another wrong hypothesis is due is no answer here.
    others = [100 * (floor - of(ids, labels)) / (floor - model) for of in WRONG.values()]
    assert sum(abs(found - other) < 1 for other in others) <= 1
    ledger(
        kind="causal_scrubbing",
        oracle=f"{name}: all draws enumerated, {due:.1f} points due",
        control="What the other wrong hypotheses are due is off by more",
        deviation=off,
        tolerance=1.0,
        unit="points of recovered loss",
    )


def drawn(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Inputs as ``induction-letters`` says: [BOS], ten different letters, one of nine again."""
    letters = rng.permuted(np.tile(np.arange(1, 27), (n, 1)), axis=1)[:, :10]
    cue = rng.integers(9, size=n)
    at = np.arange(n)
    ids = np.concatenate([np.zeros((n, 1), int), letters, letters[at, cue][:, None]], 1)
    return ids, letters[at, cue + 1]


@pytest.mark.parametrize("name", list(WRONG))
def test_the_larger_distribution_by_a_generator_of_its_own(name: str) -> None:
    rng = np.random.default_rng(5)
    n = 200_000
    ids, labels = drawn(n, rng)
    others, _ = drawn(n, rng)
    model = loss(written(ids[:, -1], shifted(ids), ids), labels).mean()
    floor = loss(written(others[:, -1], shifted(others), others), labels).mean()
    if name == "handmade-k-from-embedding":
        losses = loss(written(ids[:, -1], shifted(others), ids), labels)
    elif name == "handmade-wrong-head":
        losses = loss(written(others[:, -1], shifted(others), others), labels)
    else:
        # Inputs that agree are those drawn with the same letter in the same role.
        key = labels if name == "handmade-separately" else ids[:, -1]
        order = np.argsort(key, kind="stable")
        counts = np.bincount(key)
        starts = np.cumsum(counts) - counts

        def mate() -> np.ndarray:
            return order[starts[key] + (rng.random(n) * counts[key]).astype(int)]

        q = k = v = mate()
        if name == "handmade-separately":
            k, v = mate(), mate()
        losses = loss(written(ids[q, -1], shifted(ids[k]), ids[v]), labels)
    due = (floor - losses.mean()) / (floor - model)
    found = (floor - scrubbed(name, LARGE, 4000, 4).mean()) / (floor - model)
    assert abs(found - due) < 0.01


def steps(graph: dict[str, object], draws: int, nulls: int = 3) -> list[Result]:
    """Every result of a run, the last one last."""
    spec = {
        "kind": "causal_scrubbing",
        "model": MODEL,
        "behavior": SMALL,
        "n_inputs": 360,
        "hypothesis": Hypothesis.model_validate({"graph": graph}).canonical,
        "draws": draws,
        "nulls": nulls,
    }
    asked_of = analyses.parse(spec)
    context = Context(ANALYSIS.inputs(asked_of), np.random.default_rng(0), lambda _: loaded())
    return [step.result for step in ANALYSIS.run(asked_of, context)]


def asked(graph: dict[str, object], draws: int) -> Result:
    return steps(graph, draws)[-1]


def test_the_record_holds_the_scale() -> None:
    """Model, floor and guess by formula; all exact is the model, nothing claimed is the floor."""
    ids, labels = small()
    model = loss(written(ids[:, -1], shifted(ids), ids), labels).mean()
    floor = same(ids, labels, np.zeros(len(ids)))
    whole = asked({"site": "logits", "agree": "exact", "other": "exact"}, 2)
    assert whole.model == pytest.approx(model, rel=1e-3)
    assert whole.shuffled == pytest.approx(floor, rel=1e-5)
    assert whole.constant == pytest.approx(np.log(5), rel=1e-6)
    assert whole.loss == pytest.approx(whole.model, abs=1e-5)
    empty = asked({"site": "logits", "agree": "exact"}, 16)
    done = empty.found.measured.loss
    error = done.std() / np.sqrt(done.size)
    assert abs(empty.loss - empty.shuffled) < 3 * error
    assert abs(empty.loss - empty.model) > 30 * error
    assert empty.found.floors[2].loss == pytest.approx(empty.loss, abs=1e-9)


WRONG_HEAD: dict[str, object] = {
    "site": "logits",
    "agree": "exact",
    "children": [{"site": "a0.h0", "agree": "exact"}],
}


def test_a_run_that_is_not_complete_says_so() -> None:
    """Every step has the same figures; what is not computed has no ticks and says so."""
    found = steps(WRONG_HEAD, 2)
    said = [ANALYSIS.verdict(one) for one in found]
    done = [one.found.measured.done for one in found]
    assert done[0] < 1
    assert said[0].startswith(f"Partial ({100 * done[0]:.0f} % of the draws): scrubbed, the loss")
    assert [text.startswith("Partial") for text in said] == [share < 1 for share in done]
    assert ["Next: " in text for text in said] == [one.priced for one in found]
    assert "Next: " in said[-1]
    names = [{named.name: named for named in ANALYSIS.figures(one)} for one in found]
    assert all(list(one) == list(names[0]) for one in names)
    empty = names[0]["claims"].figure
    assert [a.text for a in empty.layout.annotations] == ["Not computed yet"]
    assert empty.layout.xaxis.showticklabels is False
    last = names[-1]["claims"].figure
    assert empty.layout.xaxis.title.text == last.layout.xaxis.title.text
    assert last.layout.xaxis.showticklabels is not False  # the control


def test_accuracy_and_kinds_of_inputs_stand_beside_a_constant_answer() -> None:
    labels = small()[1]
    result = asked(WRONG_HEAD, 2)
    counts = np.bincount(labels)
    assert result.usual.mean() == pytest.approx(counts.max() / len(labels))
    shares = counts / len(labels)
    slices = next(one for one in ANALYSIS.figures(result) if one.name == "slices")
    levels = [t.x[0] for t in slices.figure.data if t.name == "best constant guess"]
    due = [-np.log(shares[labels]).mean()]
    due += [-np.log(shares[labels[some]]).mean() for some in result.slices if some.sum() > 1]
    assert levels == pytest.approx(due, rel=1e-6)
    assert all("most frequent answer" in text for _, text in slices.texts)


def test_a_rank_has_its_p_value() -> None:
    """A loss that is one more random one gets a p-value below any level as often as that says."""
    rng = np.random.default_rng(0)
    values = rng.random((4000, 20))
    p = np.array([standing(row[0], row[1:])[1] for row in values])
    for level in (0.05, 0.3, 0.8):
        assert abs((p <= level + 1e-9).mean() - level) < 4 * np.sqrt(level * (1 - level) / 4000)
    assert standing(0.5, np.array([0.1, 0.2, 0.6])) == ("1 of 3", 0.75)
    assert [against_chance(one) for one in (0.04, 0.2, 0.75)] == [
        "",
        "not surely better than chance",
        "no better than chance",
    ]
    # Nothing is claimed of features where there are none: the tree is what is moved.
    said = ANALYSIS.verdict(asked(WRONG_HEAD, 2))
    assert "the same tree at random sites (p = " in said
    assert "same features" not in said
    drawn_as = ANALYSIS.figures(asked(WRONG_HEAD, 2))[0].figure
    assert "same tree" in drawn_as.to_json()
    assert "same features" not in drawn_as.to_json()
