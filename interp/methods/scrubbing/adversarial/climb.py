"""Searches: from many starts uphill by edits, and what they found scored again on fresh draws.

The largest of many noisy scores is too large. So what a search ends with is scored once more with
other draws; only that is an estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from interp.methods.scrubbing.adversarial.arms import Batch, Logits, log_odds
from interp.methods.scrubbing.adversarial.ground import NOWHERE, Ground
from interp.methods.scrubbing.adversarial.moves import Bodies, changed
from interp.methods.scrubbing.adversarial.outside import Outside, Scrubbed, answers
from interp.methods.scrubbing.logits import log_softmax
from interp.models.load import LoadedModel

DRAWS = 8
"""Draws of the scrubbed model in each look of a search."""
FRESH = 64
"""Draws when what was found is scored again."""
_STEPS, _LEAST = 32, 20
"""About how many steps a search makes, and the least inputs of one."""
_SPARE = 4
"""Edits that are made for each that is asked: some leave the population, or were asked before."""

Scores = Float[np.ndarray, "text"]


class Looked(NamedTuple):
    """The model's logits, what is to be made large, and the sign of what it is the size of."""

    logits: Logits
    scores: Scores
    signs: Scores


Look = Callable[[Bodies], Looked]


@dataclass(frozen=True, eq=False)
class Ends:
    """Where a search ended: one string a start, with the score and sign that it had then."""

    bodies: Bodies
    scores: Scores
    signs: Scores


def climbing(
    ground: Ground, look: Look, rng: np.random.Generator, *, budget: int, starts: int
) -> Generator[Batch, None, Ends]:
    """Go uphill from several inputs of the population; a step is the best of some edits.

    Args:
        ground: The population.
        look: Runs the model and scores.
        rng: Source of all randomness.
        budget: Inputs asked in all.
        starts: How many inputs it begins from, fewer where there are not so many.
    """
    rows = rng.permutation(len(ground.drawn))
    _, first = np.unique(ground.drawn.ids[rows], axis=0, return_index=True)
    starts = min(starts, len(first), budget)
    now = ground.drawn.at(rows[np.sort(first)[:starts]])
    known = set(now.keys())
    logits, scores, signs = look(now)
    spent, group = starts, np.arange(starts)
    yield Batch(now, logits, group, True)
    each = max(1, round((budget - starts) / (_STEPS * starts)), _LEAST // starts)
    while spent < budget:
        tried, group = _proposals(ground, now, rng, each, known)
        tried, group = tried.at(np.arange(len(tried))[: budget - spent]), group[: budget - spent]
        if not len(tried):
            break
        logits, found, sign = look(tried)
        spent += len(tried)
        for at in np.argsort(found, kind="stable"):
            # Ascending, so that the best of a start's edits is the last to take its place.
            if found[at] >= scores[group[at]]:
                scores[group[at]], signs[group[at]] = found[at], sign[at]
                now.ids[group[at]], now.lengths[group[at]] = tried.ids[at], tried.lengths[at]
        yield Batch(tried, logits, group, True)
    return Ends(now, scores, signs)


def _proposals(
    ground: Ground, now: Bodies, rng: np.random.Generator, each: int, known: set[bytes]
) -> tuple[Bodies, np.ndarray]:
    """Make up to so many new edits of each string, in the order of rounds, and note them."""
    times = _SPARE * each
    before = now.repeated(times)
    tried, _ = ground.moves.edit(before, rng)
    ok = changed(before, tried)
    ok[ok] = ground.answers(tried.at(ok)) != NOWHERE
    made = np.zeros(len(now), int)
    kept: list[int] = []
    keys = tried.keys()
    for at in np.arange(len(tried)).reshape(len(now), times).T.reshape(-1):
        start = int(at) // times
        if ok[at] and made[start] < each and keys[at] not in known:
            known.add(keys[at])
            made[start] += 1
            kept.append(int(at))
    rows = np.array(kept, np.int64)
    return tried.at(rows), rows // times


# --- what is made large ---------------------------------------------------------------------------


def own_answer(model: LoadedModel, ground: Ground) -> Look:
    """Return what makes the model itself wrong: minus its log odds of the right answer."""

    def look(bodies: Bodies) -> Looked:
        logits = answers(model, ground, bodies)
        return Looked(logits, -log_odds(logits, ground.answers(bodies)), np.ones(len(bodies)))

    return look


Measure = Callable[[Logits, Scrubbed, np.ndarray], Float[np.ndarray, "draw text"]]
"""From the model's logits, the scrubbed ones and right answers to a number a draw."""


def scrubbed_look(outside: Outside, measure: Measure, seed: int) -> Look:
    """Return what makes a measure of the scrubbed model large, with new draws in each look."""
    number = iter(range(0, 10**9, DRAWS))

    def look(bodies: Bodies) -> Looked:
        seen = outside.see(bodies)
        start = next(number)
        scrubbed = seen.scrubbed(seed, range(start, start + DRAWS))
        mean = measure(seen.logits, scrubbed, outside.ground.answers(bodies)).mean(0)
        return Looked(seen.logits, np.abs(mean), np.sign(mean))

    return look


def disagreement(
    logits: Logits, scrubbed: Scrubbed, right: np.ndarray
) -> Float[np.ndarray, "draw text"]:
    """Return by how much the model's log odds of the right answer exceed those of each draw."""
    drawn = np.stack([log_odds(one, right) for one in scrubbed])
    return log_odds(logits, right) - drawn


def divergence(
    logits: Logits, scrubbed: Scrubbed, right: np.ndarray
) -> Float[np.ndarray, "draw text"]:
    """Return KL(model, scrubbed) in nats for each draw."""
    model, drawn = log_softmax(logits), log_softmax(scrubbed)
    return (np.exp(model) * (model - drawn)).sum(-1)


@dataclass(frozen=True, eq=False)
class Again:
    """What was found, on fresh draws.

    Attributes:
        logits: Of the model.
        scores: Score on fresh draws alone, negative where they turn round what the search saw.
        errors: Its standard error over draws.
        mean: Mean scrubbed probability of each answer.
        lonely: Share of inputs with a node that nobody in the pool agrees with.
    """

    logits: Logits
    scores: Scores
    errors: Scores
    mean: Float[np.ndarray, "text output"]
    lonely: float


def again(outside: Outside, measure: Measure, ends: Ends, *, seed: int, draws: int) -> Again:
    """Score what was found with draws of another seed than that of the search, in its direction."""
    seen = outside.see(ends.bodies)
    scrubbed = seen.scrubbed(seed, range(draws))
    each = ends.signs * measure(seen.logits, scrubbed, outside.ground.answers(ends.bodies))
    return Again(
        logits=seen.logits,
        scores=each.mean(0),
        errors=each.std(0, ddof=1) / np.sqrt(draws),
        mean=np.exp(log_softmax(scrubbed)).mean(0),
        lonely=seen.lonely,
    )
