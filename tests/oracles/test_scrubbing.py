"""Causal scrubbing against the exact expectation over all draws, which ``_scrubbing`` works out.

Twelve inputs, a random causal network and a random encoder with padding; one hypothesis for each
thing that a hypothesis can say. The oracle in turn is compared with the published recursion, gone
through choice by choice. Five usual mistakes, and a sampler with a bias, must be told apart.

Seeds are fixed. Of many comparisons at once each has so many standard errors that an exact sampler
fails any of them as rarely as a single one at three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from interp.explanations.hypothesis import Hypothesis
from interp.explanations.terms import Term, parse_term
from interp.methods.scrubbing import Inputs, Scrubber
from interp.methods.scrubbing import tree as tree_of_engine
from tests.oracles._scrubbing import (
    CAUSAL,
    COLUMNS,
    ENCODER,
    METRICS,
    MISTAKES,
    PAD,
    Array,
    Draws,
    Expected,
    Ints,
    Literal,
    Options,
    Scrubbed,
    World,
    every_path,
    expected,
    loaded,
    world,
)

KIND = "causal_scrubbing"
FLOAT64, FLOAT32 = 1e-10, 1e-5
THREE = 3.0
RARE = 2 * stats.norm.sf(THREE)  # how rarely an exact sampler is so far off
APART = 10.0  # standard errors by which a mistake must be off
MANY, SOME = 252_000, 50_400  # draws; 12 inputs divide them
BATCH = 25_200

Note = Callable[..., None]
Tree = dict[str, Any]


def n(site: str, agree: str = "any", *children: Tree, **fields: Any) -> Tree:
    return {"site": site, "agree": agree, "children": list(children), **fields}


EVERYTHING = ("embed", "pos_embed", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1")
BELOW = EVERYTHING[:5]
"""What the heads of layer 1 read."""

SEPARATE = [n("a0.h0", "p"), n("a0.h1+m0", "h"), n("m1", "p")]
PAIR = ("a1.h0", "m1")

CASES: dict[str, tuple[str, Tree]] = {
    "direct": (CAUSAL, n("logits", "exact", n("a1.h0", "f"), n("m1", "g"), n("a0.h1", "h"))),
    "nested": (CAUSAL, n("logits", "exact", n("a1.h0", "g", n("a0.h0", "h", into="v")))),
    "empty": (CAUSAL, n("logits", "exact")),
    "direct, encoder": (
        ENCODER,
        n("logits", "exact", n("a1.h0", "f"), n("m1", "g"), n("embed", "h")),
    ),
    "nested, encoder": (
        ENCODER,
        n("logits", "exact", n("a1.h0", "h", n("a0.h0", "p", into="v", pos=[0, 1]))),
    ),
    "nested, exact below": (
        CAUSAL,
        n("logits", "exact", n("a1.h0", "g", n("a0.h0", "exact", into="v"))),
    ),
    "two features": (CAUSAL, n("logits", "exact", n("a1.h0", ["f", "g"]), n("m1", ["g", "p"]))),
    "at one position": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n("a1.h1", "h", n("a0.h1", "p", pos=[2]), n("embed", "g", pos="read")),
        ),
    ),
    "query, key and value": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n(
                "a1.h1",
                "h",
                n("a0.h0", "p", into="q"),
                n("embed", "h", into="k"),
                n("m0", "p", into="v"),
            ),
        ),
    ),
    "nested MLP": (CAUSAL, n("logits", "exact", n("m1", "p", n("a1.h0", "g"), n("embed", "h")))),
    "three deep": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n("m1", "h", n("a1.h0", "p", n("a0.h0", "g", into="v"), other="exact")),
        ),
    ),
    "one position's stream": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n(
                "a1.h1",
                "h",
                n("resid", "p", n("embed", "h", via="mlps"), n("a0.h1", "p", via="mlps"), pos=[1]),
            ),
            other="exact",
        ),
    ),
    "one position's stream, keys": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n(
                "a1.h1",
                "h",
                n("resid", "p", n("embed", "h", via="mlps"), n("a0.h1", "p"), pos=[1, 3], into="k"),
            ),
            other="exact",
        ),
    ),
    "one position's stream, MLP": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n("m1", "h", n("resid", "p", n("a0.h0", "h", via="mlps"), n("a1.h1", "p"), pos="read")),
            other="exact",
        ),
    ),
    "through MLPs to the logits": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n("a0.h0", "f", via="mlps"),
            n("embed", "g", via="mlps"),
            n("m1", "h"),
        ),
    ),
    "through MLPs to a head": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n("a1.h0", "h", n("a0.h0", "p", via="mlps", into="v"), n("embed", "p", via="mlps")),
        ),
    ),
    "through MLPs, encoder": (
        ENCODER,
        n(
            "logits",
            "exact",
            n("a0.h0", "f", via="mlps"),
            n("embed", "h", via="mlps"),
            n("m0", "g"),
        ),
    ),
    "through any layer to the logits": (
        CAUSAL,
        n("logits", "exact", n("embed", "f", via="any"), n("a0.h1", "g", via="any")),
    ),
    "through any layer to an MLP": (
        CAUSAL,
        n("logits", "exact", n("m1", "h", n("a0.h1", "g", via="any"))),
    ),
    "attention's parts": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n("a1.h0", "g", attn_term="prev"),
            n("a0.h0", "h", attn_term="self"),
        ),
    ),
    "attention's parts, nested": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n(
                "a1.h1",
                "p",
                n("a0.h0", "h", into="k", attn_term="prev"),
                n("embed", "h", into="v"),
                attn_term="self",
            ),
        ),
    ),
    "attention's parts, encoder": (
        ENCODER,
        n(
            "logits",
            "exact",
            n("a1.h0", "g", attn_term="self"),
            n("a1.h1", "h", n("a0.h0", "p", into="v", attn_term="prev", pos=[1])),
        ),
    ),
    "separate": (CAUSAL, n("logits", "exact", *SEPARATE, other="separate")),
    "shared": (CAUSAL, n("logits", "exact", *SEPARATE)),
    "separate, nested": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n("a1.h0", "h", n("a0.h0+m0", "p"), other="separate"),
            other="exact",
        ),
    ),
    "separate, by input of the head": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n(
                "a1.h0",
                "h",
                n("a0.h0+a0.h1+m0", "exact", into="q"),
                n("a0.h0+a0.h1+m0", "exact", into="k"),
                n("embed+a0.h1+m0", "p", into="v"),
                other="separate",
            ),
            other="exact",
        ),
    ),
    "separate, encoder": (
        ENCODER,
        n(
            "logits",
            "exact",
            n("a1.h0", "h", n("a0.h0+m0", "p"), other="separate"),
            other="exact",
        ),
    ),
    "its own mask, encoder": (
        ENCODER,
        n("logits", "exact", n("a1.h0", "h", n("mask", "n"), n("a0.h0", "p", into="v"))),
    ),
    "groups": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n("a0.h0+m0", "f"),
            n("a1.h0+a1.h1", "h", n("embed", "p", into="v"), n("a0.h1", "exact", into="k")),
        ),
    ),
    "same tag": (CAUSAL, n("logits", "exact", *(n(site, "f", pool="pair") for site in PAIR))),
    "no tag": (CAUSAL, n("logits", "exact", *(n(site, "f") for site in PAIR))),
    "the same unimportant input": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n("m1", "h", n("embed", "g"), other="same_as:logits"),
            n("a1.h0", "f"),
        ),
    ),
    "unimportant input exact": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n("a1.h0", "h", n("embed", "g", into="q"), other="exact"),
            n("m0", "f"),
        ),
    ),
}
PADDING_MATTERS = ("separate, encoder", "its own mask, encoder")
"""A head sees positions that are no part of the input that is drawn for them."""

HEAD = "a1.h1"
MORE: dict[str, tuple[str, Tree]] = {
    "any layer, beside a head": (
        CAUSAL,
        n("logits", "exact", n(HEAD, "h", n("embed", "p", via="any"), n("a0.h1", "h"))),
    ),
    "any layer, beside values from a head": (
        CAUSAL,
        n("logits", "exact", n(HEAD, "h", n("embed", "p", via="any"), n("a0.h1", "h", into="v"))),
    ),
    "any layer, encoder": (
        ENCODER,
        n("logits", "exact", n("embed", "h", via="any"), n("m0", "p")),
    ),
    "any layer, some positions": (
        CAUSAL,
        n("logits", "exact", n(HEAD, "h", n("embed", "p", via="any", pos=[1, 2]))),
    ),
    "any layer, to a stream": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n("m1", "h", n("resid", "p", n("embed", "h", via="any"), n("m0", "h"), pos="read")),
        ),
    ),
    "MLPs, some positions": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n(HEAD, "h", n("embed", "p", via="mlps", pos=[1, 2]), n("a0.h0", "h", pos=[0])),
        ),
    ),
    "MLPs, a group": (
        CAUSAL,
        n("logits", "exact", n("a0.h0+a0.h1", "h", via="mlps"), n("embed", "g")),
    ),
    "MLPs, a part": (
        CAUSAL,
        n("logits", "exact", n("a0.h1", "h", via="mlps", attn_term="prev")),
    ),
    "MLPs, nested": (
        CAUSAL,
        n("logits", "exact", n("a0.h0", "h", n("embed", "g", into="v"), via="mlps")),
    ),
    "MLPs, a nested MLP": (
        CAUSAL,
        n("logits", "exact", n("m0", "h", n("a0.h1", "g"), via="mlps")),
    ),
    "a stream of values": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n(HEAD, "h", n("resid", "p", n("a0.h0", "g"), n("m0", "h"), pos=[0, 2], into="v")),
        ),
    ),
    "a stream with a nested head": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n(
                "m1",
                "h",
                n(
                    "resid",
                    "p",
                    n("a1.h0", "h", n("embed", "p", via="mlps", into="k")),
                    n("m0", "h"),
                    pos="read",
                ),
            ),
        ),
    ),
    "a stream, encoder": (
        ENCODER,
        n(
            "logits",
            "exact",
            n(
                "a1.h0",
                "h",
                n("resid", "p", n("a0.h0", "g", via="mlps"), n("embed", "h"), pos=[1]),
            ),
        ),
    ),
    "separate, three deep": (
        CAUSAL,
        n(
            "logits",
            "exact",
            n(
                "m1",
                "h",
                n(HEAD, "p", n("m0", "h", into="k", pos=[1]), other="separate"),
                other="separate",
            ),
            other="separate",
        ),
    ),
    "separate, a part": (
        CAUSAL,
        n("logits", "exact", n(HEAD, "p", n("a0.h0", "h", attn_term="prev"), other="separate")),
    ),
    "a part of a nested group": (
        CAUSAL,
        n("logits", "exact", n("a1.h0+a1.h1", "h", n("a0.h0", "p"), attn_term="prev")),
    ),
    "a nested group of two stages": (
        CAUSAL,
        n("logits", "exact", n("a1.h1+m1", "h", n("embed", "p"), n("a0.h0", "g"))),
    ),
    "two parts of a head": (
        CAUSAL,
        n("logits", "exact", n(HEAD, "h", attn_term="prev"), n(HEAD, "p", attn_term="self")),
    ),
    "two positions of a term": (
        CAUSAL,
        n("logits", "exact", n(HEAD, "g", n("embed", "p", pos=[0]), n("embed", "h", pos=[1, 2]))),
    ),
    "a mask, and any layer below the head": (
        ENCODER,
        n("logits", "exact", n("a1.h1", "h", n("mask", "n"), n("embed", "g", via="any"))),
    ),
    "masks, nested": (
        ENCODER,
        n(
            "logits",
            "exact",
            n("a1.h0", "h", n("a0.h0", "p", n("mask", "n"), n("embed", "h")), n("mask", "exact")),
        ),
    ),
}
"""Further ways of saying things, compared on the same draws only."""

CHIEF = ("direct", "nested")
TOLD_BY = {mistake: "nested" for mistake in MISTAKES[:4]} | {MISTAKES[4]: "shared"}
"""The hypothesis whose expectation tells each mistake."""


def of(tree: Tree) -> Hypothesis:
    features = {name: {"expr": f'column("{name}")'} for name in (*COLUMNS, "n")}
    return Hypothesis.model_validate({"features": features, "graph": tree})


@lru_cache
def exact(name: str, mistake: str = "") -> Expected:
    where, tree = CASES[name]
    return expected(world(where), of(tree), mistake)


def inputs(here: World) -> Inputs:
    return Inputs(
        ids=here.ids,
        lengths=here.lengths,
        read=here.read,
        labels=here.labels,
        foils=here.foils,
        columns=here.columns,
        pad=PAD,
    )


def engine(where: str, tree: Tree, dtype: torch.dtype = torch.float64) -> Scrubber:
    here = world(where)
    return Scrubber(loaded(here.net, dtype, read=here.read), of(tree), inputs(here))


# --- the oracle itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", [CAUSAL, ENCODER])
def test_the_network_is_the_loaded_one(where: str, ledger: Note) -> None:
    here = world(where)
    model = loaded(here.net, torch.float64, read=here.read)
    bare = np.concatenate(
        [  # one by one: without padding
            model.hooked(torch.from_numpy(row[None, :length]))[:, here.read].numpy()
            for row, length in zip(here.ids, here.lengths, strict=True)
        ]
    )
    off = float(np.abs(bare - here.logits).max())
    assert off < FLOAT64
    assert float(np.abs(np.roll(bare, 1, 0) - here.logits).max()) > 1
    assert 1 < here.logits.std() < 3
    ledger(
        kind=KIND,
        oracle=f"{where} network in numpy: logits of the model class on 12 inputs, float64",
        control="another input's logits: off by more than 1",
        deviation=off,
        tolerance=FLOAT64,
        unit="logits",
    )


def few(name: str) -> World:
    """Four inputs, or three, with classes of one and more, so that all choices can be made."""
    where, _ = CASES[name]
    some = world(where).of([0, 1, 2, 5])
    columns = {"f": [0, 0, 0, 1], "g": [0, 1, 1, 0], "h": [0, 1, 0, 1], "p": [0, 0, 1, 1]}
    mine = {key: np.array(value) for key, value in columns.items()}
    some = replace(some, columns=some.columns | mine)
    return some.of([0, 1, 2]) if name.startswith("separate") or "deep" in name else some


def recursion(here: World, tree: Tree, ref: int) -> dict[str, float]:
    """Expectation of each metric for one reference, by the published recursion's every path."""
    root = of(tree).graph
    paths = list(every_path(lambda pick: Literal(here, root, pick).logits(ref)))
    chances, logits = (np.array(part) for part in zip(*paths, strict=True))
    assert abs(chances.sum() - 1) < 1e-9
    scores = here.metrics(logits, np.full(len(paths), ref))
    return {metric: float(chances @ score) for metric, score in scores.items()}


def test_the_expectation_is_that_of_the_published_recursion(ledger: Note) -> None:
    found = {}
    for name, (_, tree) in CASES.items():
        here = few(name)
        theirs, ours = recursion(here, tree, 1), expected(here, of(tree)).mean
        found[name] = max(abs(theirs[metric] - ours[metric][1]) for metric in METRICS)
    assert max(found.values()) < 1e-12, found
    here, tree = few("nested"), CASES["nested"][1]
    wrong = expected(here, of(tree), "one draw for all nodes").mean["loss"][1]
    assert abs(wrong - recursion(here, tree, 1)["loss"]) > 1e-3
    ledger(
        kind=KIND,
        oracle=f"the enumeration: every path of the published recursion, {len(CASES)} hypotheses",
        control="one draw for all nodes: off by more than 0.001",
        deviation=max(found.values()),
        tolerance=1e-12,
        unit="nats or logits",
    )


def test_padding_does_not_matter_to_the_oracle() -> None:
    for name, (where, tree) in CASES.items():
        if where == ENCODER and name not in PADDING_MATTERS:
            other = expected(world(where).padded_with(4), of(tree))
            for metric in METRICS:
                assert np.abs(other.mean[metric] - exact(name).mean[metric]).max() < 1e-12, name


def test_the_empty_hypothesis_is_the_shuffled_floor() -> None:
    here = world(CAUSAL)
    assert abs(exact("empty").overall("loss") - shuffled(here)) < 1e-12
    assert shuffled(here) - model_loss(here) > 0.3


def shuffled(here: World) -> float:
    """Mean over all pairs of the loss of one input's logits on the other's label."""
    logits = here.logits - np.log(np.exp(here.logits).sum(1, keepdims=True))
    return float(-logits[:, here.labels].mean())


def model_loss(here: World) -> float:
    return float(here.metrics(here.logits, np.arange(len(here)))["loss"].mean())


# --- the network on given draws -------------------------------------------------------------------


def scrubbed(where: str, draws: Any, tree: Tree, twin: Tree) -> Array:
    """Return the logits of ``twin`` on the engine's draws for ``tree``, node by node."""
    names = {
        node.id: other.id
        for (node, _), (other, _) in zip(of(tree).nodes(), of(twin).nodes(), strict=True)
    }
    others: dict[Any, Ints] = {}
    for name, drawn in draws.other.items():
        if not isinstance(drawn, dict):
            others[names[name], None, None] = drawn
            continue
        for (term, slot), rows in drawn.items():
            known = Term(term) if term == "mask" else parse_term(term)
            others[names[name], known, slot or None] = rows
    rows = {names[name]: rows for name, rows in draws.row.items()}
    return Scrubbed(Draws.given(world(where), of(twin).graph, draws.refs, (rows, others))).logits()


def twins(tree: Tree) -> Iterator[tuple[str, Tree]]:
    """Yield a tree with one thing left out, for each: a way, a part, positions, an input."""
    for key in ("via", "attn_term", "pos", "into"):
        if key in tree and (tree["site"], key) != ("resid", "pos"):
            yield f"{tree['site']}.{key}", {k: v for k, v in tree.items() if k != key}
    for i, child in enumerate(tree["children"]):
        for told, other in twins(child):
            children = [*tree["children"][:i], other, *tree["children"][i + 1 :]]
            yield told, {**tree, "children": children}


@lru_cache
def on_the_same_draws(name: str) -> float:
    """Compare draw by draw; without any of what a hypothesis says it must be another network."""
    where, tree = (CASES | MORE)[name]
    scrub, refs = engine(where, tree), np.tile(np.arange(12), 40)
    draws = scrub.draws(refs, seed=7, replicate=0)
    ours = np.asarray(scrub.logits(draws), dtype=float)
    for told, twin in twins(tree):
        apart = np.abs(scrubbed(where, draws, tree, twin) - ours).max()
        assert apart > 1e-3, f"{name}: without {told}"
    return float(np.abs(scrubbed(where, draws, tree, tree) - ours).max())


@pytest.mark.parametrize("name", [*CASES, *MORE])
def test_the_scrubbed_network_on_the_same_draws(name: str) -> None:
    assert on_the_same_draws(name) < FLOAT64


def test_the_scrubbed_networks_on_the_same_draws(ledger: Note) -> None:
    worst = max(on_the_same_draws(name) for name in (*CASES, *MORE))
    ledger(
        kind=KIND,
        oracle=f"{len(CASES | MORE)} hypotheses: the network in numpy on the engine's own draws",
        control="without any one of its ways, parts, positions and inputs: off by 0.001 or more",
        deviation=worst,
        tolerance=FLOAT64,
        unit="logits",
    )


# --- the sampler ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sampled:
    """Mean of each metric for each reference over ``n`` draws in all."""

    mean: dict[str, Array]
    n: int

    def overall(self, metric: str) -> float:
        return float(self.mean[metric].mean())


@lru_cache
def sampled(name: str) -> Sampled:
    where, tree = CASES[name]
    here, scrub = world(where), engine(where, tree)
    draws = MANY if name in CHIEF else SOME
    refs = np.tile(np.arange(len(here)), BATCH // len(here))
    total = {metric: np.zeros(len(here)) for metric in METRICS}
    for replicate in range(draws // BATCH):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tree_of_engine, "CHUNK", BATCH)  # so small a network takes all at once
            logits = scrub.logits(scrub.draws(refs, seed=0, replicate=replicate))
        for metric, score in here.metrics(np.asarray(logits, dtype=float), refs).items():
            total[metric] += np.bincount(refs, score)
    return Sampled({m: s / (draws / len(here)) for m, s in total.items()}, draws)


def off(name: str, truth: Expected | None = None) -> dict[str, float]:
    """Standard errors between the sampler and an expectation (the right one), by metric."""
    known, mine = exact(name), sampled(name)
    truth = truth or known
    found = {}
    for metric in METRICS:
        apart, error = mine.overall(metric) - truth.overall(metric), known.error(metric, mine.n)
        if error < 1e-9:  # it is the same in all draws
            found[metric] = 0.0 if abs(apart) < 1e-9 else np.inf
        else:
            found[metric] = apart / error
    return found


def test_expectations_of_a_direct_and_a_nested_hypothesis(ledger: Note) -> None:
    for name in CHIEF:
        here, there = off(name), off(name, exact("empty"))
        for metric in ("loss", "accuracy", "kl"):
            assert abs(here[metric]) < THREE, f"{name}, {metric}: {here[metric]:.2f} errors off"
            assert abs(there[metric]) > APART, f"{name}, {metric}: {there[metric]:.2f} errors off"
            ledger(
                kind=KIND,
                oracle=f"{name}: {metric} over all {exact(name).n:,} draws; {MANY:,} sampled",
                control=f"the empty hypothesis: {abs(there[metric]):.0f} standard errors off",
                deviation=abs(here[metric]),
                tolerance=THREE,
                unit="standard errors",
            )


def test_expectations_of_every_hypothesis(ledger: Note) -> None:
    """Means over all references, and the spread of the references' own means."""
    limit = float(stats.norm.isf(RARE / 2 / (len(CASES) * len(METRICS))))
    assert 4 < limit < 4.5
    worst = 0.0
    for name in CASES:
        for metric, z in off(name).items():
            assert abs(z) < limit, f"{name}, {metric}: {z:.2f} standard errors off"
            worst = max(worst, abs(z))
            p = spread(name, metric)
            assert p > RARE / (len(CASES) * len(METRICS)), f"{name}, {metric}: p = {p:.2g}"
    assert worst > 1, "else the standard errors are too wide"
    ledger(
        kind=KIND,
        oracle=f"{len(CASES)} hypotheses, 4 metrics: all draws; {SOME:,} sampled or more",
        control="tagged, separate, exact or same_as, drawn as usual instead: ten or more",
        deviation=worst,
        tolerance=limit,
        unit="standard errors",
    )


def spread(name: str, metric: str) -> float:
    """Return the chance that the references' means are so far from theirs: chi-squared."""
    truth, mine = exact(name), sampled(name)
    error = np.sqrt(truth.var[metric] / (mine.n / len(truth.mean[metric])))
    apart = mine.mean[metric] - truth.mean[metric]
    sure = truth.var[metric] < 1e-12
    assert np.abs(apart[sure]).max(initial=0) < 1e-9, f"{name}, {metric}: nothing varies here"
    if sure.all():
        return 1.0
    return float(
        stats.chi2.sf(((apart / np.where(sure, 1, error))[~sure] ** 2).sum(), (~sure).sum())
    )


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_apart(mistake: str, ledger: Note) -> None:
    """The sampler is far from what each mistake gives, by metrics that are within three errors."""
    name = TOLD_BY[mistake]
    wrong = exact(name, mistake)
    z = max((abs(off(name, wrong)[m]), m) for m in ("loss", "accuracy", "kl"))
    assert z[0] > APART, f"{mistake}: {z[0]:.1f} standard errors"
    ledger(
        kind=KIND,
        oracle=f"{name}: told from the mistake '{mistake}' by {z[1]}",
        control=f"the mistake: {z[0]:.0f} standard errors off",
        deviation=max(abs(off(name)[m]) for m in ("loss", "accuracy", "kl")),
        tolerance=THREE,
        unit="standard errors",
    )


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("same tag", "pool"),
        ("separate", "other"),
        ("the same unimportant input", "other"),
        ("unimportant input exact", "other"),
    ],
)
def test_ways_of_drawing_are_told_apart(name: str, key: str) -> None:
    """The same hypothesis, drawn as usual, has another expectation."""
    where, tree = CASES[name]
    usual = {k: v for k, v in tree.items() if k != key}
    usual["children"] = [{k: v for k, v in c.items() if k != key} for c in tree["children"]]
    apart = off(name, expected(world(where), of(usual)))
    assert max(abs(apart[metric]) for metric in ("loss", "accuracy", "kl")) > APART, apart


# --- exact and empty ------------------------------------------------------------------------------


def every(*above: str, **fields: Any) -> list[Tree]:
    return [n(site, "exact", **fields) for site in above or BELOW]


ALL_EXACT: dict[str, Tree] = {
    "leaves": n("logits", "exact", *every(*EVERYTHING)),
    "one group": n("logits", "exact", n("+".join(EVERYTHING), "exact")),
    "unimportant input exact": n("logits", "exact", other="exact"),
    "heads from everything below": n(
        "logits",
        "exact",
        *(n(site, "exact", *every()) for site in ("a1.h0", "a1.h1")),
        *every(*BELOW, "m1"),
    ),
    "query, key and value": n(
        "logits",
        "exact",
        n("a1.h0", "exact", *(tree for slot in "qkv" for tree in every(into=slot))),
        *every(*BELOW, "a1.h1", "m1"),
    ),
    "a part and the rest as it was": n(
        "logits",
        "exact",
        n("a1.h0", "exact", n("a0.h0", "exact", into="k", attn_term="prev"), other="exact"),
        other="exact",
    ),
    "through every layer": n(
        "logits", "exact", *(n(site, "exact", via="any") for site in ("embed", "pos_embed"))
    ),
    "streams of all positions": n(
        "logits",
        "exact",
        n(
            "a1.h1",
            "exact",
            n(
                "resid",
                "exact",
                *every("embed", "pos_embed", "a0.h0", "a0.h1", via="mlps"),
                pos=[0, 1, 2, 3],
            ),
        ),
        *every(*BELOW, "a1.h0", "m1"),
    ),
}


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, FLOAT64), (torch.float32, FLOAT32)])
def test_everything_exact_is_the_model(dtype: torch.dtype, limit: float, ledger: Note) -> None:
    here, refs, found = world(CAUSAL), np.arange(12), {}
    for name, tree in ALL_EXACT.items():
        scrub = engine(CAUSAL, tree, dtype)
        logits = np.asarray(scrub.logits(scrub.draws(refs, seed=1, replicate=0)), dtype=float)
        found[name] = abs(float(here.metrics(logits, refs)["loss"].mean()) - model_loss(here))
        assert float(np.abs(logits - here.logits).max()) < limit * 10, name
    assert max(found.values()) < limit, found
    assert shuffled(here) - model_loss(here) > 0.3
    ledger(
        kind=KIND,
        oracle=f"everything exact, said in {len(found)} ways: the model's loss; ours {dtype}",
        control="the empty hypothesis: off by more than 0.3",
        deviation=max(found.values()),
        tolerance=limit,
        unit="nats",
    )


def test_the_empty_hypothesis_gives_other_inputs_logits(ledger: Note) -> None:
    """Each draw is some input's logits, each input's as often; the mean is the shuffled floor."""
    here, refs = world(CAUSAL), np.tile(np.arange(12), SOME // 12)
    scrub = engine(*CASES["empty"])
    logits = np.asarray(scrub.logits(scrub.draws(refs, seed=0, replicate=0)), dtype=float)
    apart = np.abs(logits[:, None] - here.logits).max(-1)
    assert float(apart.min(1).max()) < FLOAT64
    p = frequencies(apart.argmin(1), refs, np.zeros(12, dtype=np.int64))
    assert p > RARE
    losses = here.metrics(logits, refs)["loss"]
    z = abs(losses.mean() - shuffled(here)) / exact("empty").error("loss", SOME)
    assert z < THREE
    assert abs(losses.mean() - model_loss(here)) / exact("empty").error("loss", SOME) > APART
    ledger(
        kind=KIND,
        oracle="empty hypothesis: the mean over all pairs of inputs and labels",
        control="the model's loss: more than ten standard errors off",
        deviation=float(z),
        tolerance=THREE,
        unit="standard errors",
    )


# --- leaves are gathers ---------------------------------------------------------------------------

LEAVES = {"a1.h0": "f", "a0.h1": "h", "m1": "g", "embed": "p"}


def test_leaves_equal_runs_with_hooks(ledger: Note) -> None:
    """The model class' own passes; each term is replaced in the stream before the last norm."""
    here, refs = world(CAUSAL), np.random.default_rng(4).integers(0, 12, 64)
    tree = n("logits", "exact", *(n(*leaf) for leaf in LEAVES.items()), other="exact")
    scrub = engine(CAUSAL, tree)
    draws = scrub.draws(refs, seed=3, replicate=0)
    ours = np.asarray(scrub.logits(draws), dtype=float)
    rows = {site: np.asarray(draws.rows(site)) for site in LEAVES}
    worst = float(np.abs(hooked(here, refs, rows) - ours).max())
    assert worst < FLOAT64
    moved = {site: np.roll(row, 1) for site, row in rows.items()}
    assert float(np.median(np.abs(hooked(here, refs, moved) - ours).max(1))) > 0.1
    ledger(
        kind=KIND,
        oracle="4 leaves, 64 draws: passes of the model class with hooks at the last stream",
        control="another draw's rows: off by more than 0.1 in the median",
        deviation=worst,
        tolerance=FLOAT64,
        unit="logits",
    )


def hooked(here: World, refs: Ints, rows: dict[str, Ints]) -> Array:
    model = loaded(here.net, torch.float64, read=here.read).hooked
    model.set_use_attn_result(True)
    ids = torch.from_numpy(here.ids)
    _, cache = model.run_with_cache(ids)
    written = {
        "a1.h0": cache["blocks.1.attn.hook_result"][:, :, 0],
        "a0.h1": cache["blocks.0.attn.hook_result"][:, :, 1],
        "m1": cache["blocks.1.hook_mlp_out"],
        "embed": cache["hook_embed"],
    }

    def replaced(stream: torch.Tensor, hook: Any) -> torch.Tensor:
        for site, row in rows.items():
            stream = stream + written[site][row] - written[site][refs]
        return stream

    hooks = [("blocks.1.hook_resid_post", replaced)]
    return model.run_with_hooks(ids[refs], fwd_hooks=hooks)[:, here.read].numpy()


# --- what is drawn --------------------------------------------------------------------------------


def frequencies(rows: Ints, refs: Ints, classes: Ints) -> float:
    """Return the chance of such frequencies if rows are uniform in the class of each reference."""
    chi, free = 0.0, 0
    for ref in np.unique(refs):
        members = np.flatnonzero(classes == classes[ref])
        mine = rows[refs == ref]
        assert np.isin(mine, members).all(), "a row that does not agree"
        seen = np.bincount(mine, minlength=len(classes))[members]
        wanted = len(mine) / len(members)
        chi += float(((seen - wanted) ** 2).sum() / wanted)
        free += len(members) - 1
    return float(stats.chi2.sf(chi, free)) if free else 1.0


CHECKED = {"direct": ("a1.h0", "m1", "a0.h1"), "nested": ("a1.h0", "a1.h0/a0.h0.v")}


def test_rows_are_uniform_in_their_class(ledger: Note) -> None:
    """The class is that of the row above, which for the nested node is not the reference."""
    here, refs, found = world(CAUSAL), np.tile(np.arange(12), SOME // 12), []
    for name, ids in CHECKED.items():
        where, tree = CASES[name]
        scrub, hypothesis = engine(where, tree), of(tree)
        draws = scrub.draws(refs, seed=0, replicate=0)
        for node, above in hypothesis.nodes():
            if node.id in ids and above is not None:
                up = refs if above is hypothesis.graph else np.asarray(draws.rows(above.id))
                found.append(frequencies(np.asarray(draws.rows(node.id)), up, here.classes(node)))
    assert len(found) == 5
    assert min(found) > RARE / len(found), found
    ledger(
        kind=KIND,
        oracle="rows drawn: uniform in the class of the row above, chi-squared, 5 nodes",
        control="never the reference itself, or one member in twenty too often: p < 1e-6",
        deviation=1 - min(found),
        tolerance=1 - RARE / len(found),
        unit="1 - p",
    )


@pytest.mark.parametrize("bias", ["never itself", "the first too often"])
def test_a_biased_sampler_is_found(bias: str) -> None:
    rng, refs = np.random.default_rng(5), np.tile(np.arange(12), SOME // 12)
    classes = np.array(COLUMNS["f"])
    options = Options.of(classes)
    start, size = options.starts[classes[refs]], options.sizes[classes[refs]]

    def draw() -> Ints:
        return options.rows[start + np.floor(rng.random(len(refs)) * size).astype(int)]

    rows = draw()
    assert frequencies(rows, refs, classes) > RARE
    if bias == "never itself":
        wrong = np.where((rows == refs) & (size > 1), draw(), rows)
    else:
        wrong = np.where(rng.random(len(refs)) < 0.05, options.rows[start], rows)
    assert frequencies(wrong, refs, classes) < 1e-6


def test_tags_tie_rows_and_nothing_else_does() -> None:
    refs = np.tile(np.arange(12), SOME // 12)
    tied, free = (engine(*CASES[name]) for name in ("same tag", "no tag"))
    for scrub, same in ((tied, True), (free, False)):
        draws = scrub.draws(refs, seed=0, replicate=0)
        one, other = (np.asarray(draws.rows(site)) for site in PAIR)
        assert bool((one == other).all()) is same
    assert frequencies(other[one == 0], refs[one == 0], np.array(COLUMNS["f"])) > RARE


def test_draws_repeat_and_replicates_differ() -> None:
    refs, scrub = np.tile(np.arange(12), 100), engine(*CASES["direct"])
    first, again, other = (
        np.asarray(scrub.draws(refs, seed=0, replicate=r).rows("a1.h0")) for r in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).mean() > 0.3
