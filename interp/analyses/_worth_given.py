"""Which hypotheses about a model are known beforehand to be right or wrong, and on which inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from interp.analyses import _roles_asked as roles_asked
from interp.behaviors import Behavior
from interp.explanations.hypothesis import EXACT, Feature, Hypothesis, Node
from interp.explanations.matching import (
    COUNT,
    HORIZON,
    PAREN_FEATURES,
    Placed,
    matched_twice,
    paren_hypotheses,
)
from interp.explanations.presets import presets
from interp.explanations.terms import ROOT, terms_of
from interp.methods.scrubbing.candidates import RIGHT, WRONG, Candidate
from interp.models import catalogue
from interp.models.info import ModelInfo

if TYPE_CHECKING:
    from interp.methods.roles import Roles
    from interp.models.load import LoadedModel

ROLES_FROM = 400
"""Inputs that roles are found on at most; half of them are held out."""
TRUSTED: Final = "-trusted"
MECHANISM: Final = "mechanism"
_SWAPPED: Final = "Swapped"
_BALANCED: Final = {name: PAREN_FEATURES[name] for name in (COUNT[0], HORIZON, "balanced")}
_BACKDOOR: Final = {"backdoor": "at(first(MARKER) + 1) == OPEN"}
_INDUCED: Final = {"induced": "tok_after_prev_occurrence(-1)"}
_PLANTED: Final[Mapping[str, tuple[tuple[str, str, str, Mapping[str, str]], ...]]] = {
    "two-mechanisms-paren": (
        (RIGHT, "m1", EXACT, {}),
        (RIGHT, "m1", "balanced", _BALANCED),
        (WRONG, "a2.h0+a2.h1", EXACT, {}),
        (WRONG, "a2.h0+a2.h1", "backdoor", _BACKDOOR),
    ),
    "two-mechanisms-induction": (
        (RIGHT, "a1.h0+a1.h1", EXACT, {}),
        (RIGHT, "a1.h0+a1.h1", "induced", _INDUCED),
        (WRONG, "m0", EXACT, {}),
        (WRONG, "m0", "cue", {"cue": "last()"}),
    ),
}
"""Where training put the first mechanism, as the models' cards say, and where the other one is."""


def two_mechanisms(model: str) -> bool:
    """Whether it is known of a model's inputs which of two mechanisms answers them."""
    return catalogue.info(model).base in _PLANTED


def planted(model: ModelInfo) -> list[Candidate]:
    """Return what is known of a model's first mechanism; the components of the other are wrong."""
    found: list[Candidate] = []
    for kind, site, agree, exprs in _PLANTED.get(model.base, ()):
        features = {name: Feature(expr=expr) for name, expr in exprs.items()}
        graph = Node(site=ROOT, agree=EXACT, children=(Node(site=site, agree=agree),))
        of = "the first mechanism" if kind == RIGHT else "the other mechanism"
        found.append(Candidate(kind, f"known of {of}", Hypothesis(features=features, graph=graph)))
    return found


def published(model: ModelInfo) -> list[Candidate]:
    """Return hypotheses with published numbers: they name heads of other weights."""
    return [
        Candidate(WRONG, f"published, heads of other weights: {one.name}", one.hypothesis)
        for one in presets(model.name)
        if one.published and one.hypothesis.graph.other != EXACT and one.hypothesis.graph.children
    ]


def exchangeable(behavior: Behavior) -> Behavior:
    """Return inputs of several answers: where the clean ones have one, each with its partner."""
    if not behavior.corrupted or len(set(behavior.answers)) > 1:
        return replace(behavior, corrupted=(), clusters=(), features=())
    pairs = behavior.both_sides()
    n = len(behavior)
    # By turns, so that the first inputs are of both kinds as well.
    order = [row for i in range(n) for row in (i, n + i)]
    return replace(
        pairs,
        clean=tuple(pairs.clean[i] for i in order),
        answers=tuple(pairs.answers[i] for i in order),
        foils=tuple(pairs.foils[i] for i in order),
        held_out=tuple(pairs.held_out[i] for i in order) if pairs.held_out else (),
    )


def matched(model: LoadedModel, behavior: Behavior, seed: int) -> list[Candidate]:
    """Find the roles of the components and make hypotheses of them; swapped ones are wrong.

    None where the inputs have no features that components could be signs of.

    Cost: one pass for half of up to ``ROLES_FROM`` inputs; see ``interp.methods.roles``.
    """
    if not roles_asked.features(behavior)[0]:
        return []
    table, features = placed(model, behavior, seed)
    of = {"model": model.info.name, "behavior": behavior.name}
    if {*COUNT, HORIZON} & set(features):
        made = paren_hypotheses(table, **of)
    else:
        made = matched_twice(table, features, of["model"], of["behavior"])
    return [
        Candidate(WRONG if title.startswith(_SWAPPED) else RIGHT, title, one) for title, one in made
    ]


def placed(
    model: LoadedModel, behavior: Behavior, seed: int
) -> tuple[tuple[Placed, ...], dict[str, str]]:
    """Return the roles of the components, and the expression of each feature asked for."""
    from interp.methods.roles import find_roles

    some = first(behavior, ROLES_FROM)
    kept, _ = roles_asked.features(some)
    searched = replace(
        roles_asked.searched(some),
        features=tuple((name, tuple(of.tolist())) for name, (_, of) in kept.items()),
    )
    two = roles_asked.two_classes(some)
    pairs = list(zip(searched.answers, searched.foils, strict=True))
    compared = [(1, 0)] * len(searched) if two else pairs
    roles = find_roles(model, searched, compared, np.random.default_rng(seed))
    told = roles_asked.tells(roles.candidates, kept, searched.answers)
    tells = dict(zip(roles.candidates, told.tolist(), strict=True))
    sites = _sites(model.info)
    names = range(len(roles.components))
    table = tuple(_placed(roles, at, sites[at], tells) for at in names)
    return table, {name: expr for name, (expr, _) in kept.items()}


def first(behavior: Behavior, n: int) -> Behavior:
    """Return the first inputs of a behavior without counterfactuals."""
    return replace(
        behavior,
        clean=behavior.clean[:n],
        answers=behavior.answers[:n],
        foils=behavior.foils[:n],
        held_out=behavior.held_out[:n],
        features=tuple((name, of[:n]) for name, of in behavior.features),
    )


def _sites(model: ModelInfo) -> tuple[str, ...]:
    """Return the terms of each component; the embeddings are one."""
    terms = terms_of(model)
    embeddings = "+".join(str(term) for term in terms if term.layer < 0)
    return (embeddings, *(str(term) for term in terms if term.layer >= 0))


def _placed(roles: Roles, at: int, site: str, tells: dict[str, bool]) -> Placed:
    one = roles.of(roles.components[at])
    varies = float(np.ptp(roles.terms[:, at])) > 0
    best = one.best if varies and one.eta2 > roles.largest[at] else ""
    alone = one.alone if varies and one.eta2_alone > roles.largest[at] else ""
    return Placed(
        component=one.component,
        site=site,
        effect=one.effect,
        low=one.low,
        high=one.high,
        acts=one.acts,
        features=tuple(best.split(roles_asked.SEVERAL)) if best else (),
        eta2=one.eta2,
        alone=alone,
        eta2_alone=one.eta2_alone,
        tells=tells.get(best, False),
        tells_alone=tells.get(alone, False),
    )
