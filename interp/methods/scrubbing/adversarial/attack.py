"""The whole attack: every arm in turn, batch by batch, and what they found."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Bool

from interp.explanations.hypothesis import Hypothesis
from interp.methods.scrubbing.adversarial import arms
from interp.methods.scrubbing.adversarial.arms import Arm, Batch, Making, Tally, log_odds
from interp.methods.scrubbing.adversarial.atoms import Atoms, atoms_of, random_atoms
from interp.methods.scrubbing.adversarial.claims import claim_only, exchanges, excluded_only
from interp.methods.scrubbing.adversarial.climb import (
    FRESH,
    Ends,
    Looked,
    Measure,
    again,
    climbing,
    disagreement,
    divergence,
    own_answer,
    scrubbed_look,
)
from interp.methods.scrubbing.adversarial.edits import Edits
from interp.methods.scrubbing.adversarial.families import Violations
from interp.methods.scrubbing.adversarial.found import Found, Mistake, Search
from interp.methods.scrubbing.adversarial.ground import NOWHERE, Ground
from interp.methods.scrubbing.adversarial.making import Drawn
from interp.methods.scrubbing.adversarial.moves import Bodies, changed
from interp.methods.scrubbing.adversarial.outside import Outside, answers
from interp.methods.scrubbing.classes import Classes
from interp.models import tokens
from interp.models.load import LoadedModel

BATCHES, LEAST = 10, 20
"""Batches in which an arm asks, and the least inputs of one."""
WORST = 12
"""Errors that are shown."""
ORDINARY = 200
"""Inputs of the population that are scored as those found are."""
_NEIGHBOURS = 512
_OWN = (arms.FAMILIES, arms.DISAGREEMENT, arms.EXCLUDED)
"""Arms that an explanation is behind."""


@dataclass(frozen=True)
class Plan:
    """How much is tried.

    Attributes:
        budget: Queries of the model in each arm.
        starts: Inputs that each search begins from.
        nulls: Random hypotheses, with the same budget each.
        claim: Id of the node that is attacked alone, or empty: what the hypothesis leaves out.
        seed: Decides everything.
    """

    budget: int
    starts: int
    nulls: int
    claim: str
    seed: int


@dataclass(eq=False)
class _Running:
    """An arm at work."""

    name: str
    batches: Generator[Batch, None, Any]
    families: tuple[str, ...] = ()
    tally: Tally = field(default_factory=Tally)
    end: Any = None
    done: bool = False

    @property
    def chosen(self) -> int:
        """The family that what counts is of, or ``ALL``."""
        counted = {g for g, c in zip(self.tally.group, self.tally.counts, strict=True) if c}
        return next(iter(counted)) if len(counted) == 1 else arms.ALL

    def arm(self) -> Arm:
        """Sum up."""
        return arms.arm_of(self.name, self.tally, self.families, self.chosen)


class Attack:
    """An attack on a model with a hypothesis, run step by step.

    Args:
        model: The model.
        hypothesis: A hypothesis that was checked for it.
        ground: The population.
        plan: How much is tried.
    """

    def __init__(
        self, model: LoadedModel, hypothesis: Hypothesis, ground: Ground, plan: Plan
    ) -> None:
        self.model, self.hypothesis, self.ground, self.plan = model, hypothesis, ground, plan
        self.atoms = atoms_of(hypothesis, ground.pool)
        self.why_not: dict[str, str] = {}
        self._mistakes: list[tuple[float, Mistake, Bodies]] = []
        self._searches: list[Search] = []
        self._measures: dict[str, tuple[Outside, Measure]] = {}
        self._ask = partial(answers, model, ground)
        self.running = [*self._by_families(), *self._by_search()]
        self.nulls = self._random_hypotheses()

    def run(self) -> Generator[tuple[float, Found], None, None]:
        """Ask batch by batch, all arms in turn; yield the share that is done and what is known.

        Cost: one forward pass a query and arm, and for searches ``climb.DRAWS`` evaluations
        of the hypothesis besides.
        """
        everyone = [*self.running, *self.nulls]
        total = len(everyone) * self.plan.budget
        while not all(one.done for one in everyone):
            for one in everyone:
                if one.done:
                    continue
                self._advance(one)
                asked = sum(self.plan.budget if o.done else len(o.tally.wrong) for o in everyone)
                yield 0.99 * min(asked / total, 1.0), self.found()
        self._find_neighbours()
        yield 1.0, self.found()

    def found(self) -> Found:
        """Return what is known now."""
        shown = [one.arm() for one in self.running]
        drawn = [one.arm() for one in self.nulls]
        shares = [one.share for one in drawn if one.counted]
        pooled = arms.pooled(arms.NULL, drawn) if drawn else None
        absent = [arms.absent(name, why) for name, why in self.why_not.items()]
        every = {one.name: one for one in [*shown, *([pooled] if pooled else []), *absent]}
        order = (arms.RANDOM, arms.NEAR, arms.RULE, arms.NULL, *_OWN, arms.CLIMB)
        return Found(
            arms=tuple(every[name] for name in order),
            null=np.array(shares, dtype=np.float64),
            atoms=tuple(one.name for one in self.atoms.of),
            determines=self._determines,
            worst=tuple(mistake for _, mistake, _ in self._mistakes),
            searches=tuple(self._searches),
        )

    @cached_property
    def _determines(self) -> bool:
        """Whether the atoms together say the right answer of every input of the pool."""
        pool = self.ground.pool
        if not len(self.atoms):
            return False
        classes = Classes.of(list(self.atoms.on(pool).T))
        both = Classes.of([classes.codes, pool.labels])
        return len(both.counts) == len(classes.counts)

    # --- arms -------------------------------------------------------------------------------------

    def _rng(self, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.plan.seed, *place])

    def _families(self, name: str, making: Making) -> _Running:
        batch = max(LEAST, self.plan.budget // BATCHES)
        batches = arms.by_families(
            making, self.ground, self._ask, budget=self.plan.budget, batch=batch
        )
        return _Running(name, batches, making.names)

    def _by_families(self) -> list[_Running]:
        ground = self.ground
        found = [
            self._families(arms.RANDOM, Drawn(ground)),
            self._families(arms.NEAR, Edits(ground, self._rng(1), across=False)),
            self._families(arms.RULE, Edits(ground, self._rng(2), across=True)),
        ]
        if len(self.atoms):
            own = Violations(ground, self.atoms, self._rng(3))
            return [*found, self._families(arms.FAMILIES, own)]
        why = "the hypothesis names no feature, so there is nothing to violate"
        self.why_not |= {arms.FAMILIES: why, arms.NULL: why}
        return found

    def _random_hypotheses(self) -> list[_Running]:
        if not self.plan.nulls:
            self.why_not.setdefault(arms.NULL, "none was asked for")
        if arms.NULL in self.why_not:
            return []
        drawn: list[Atoms] = [
            random_atoms(self.atoms, self.ground, self._rng(4, k)) for k in range(self.plan.nulls)
        ]
        if not len(drawn[0]):
            self.why_not[arms.NULL] = "the inputs have no features to draw from"
            return []
        return [
            self._families(arms.NULL, Violations(self.ground, one, self._rng(5, k)))
            for k, one in enumerate(drawn)
        ]

    def _by_search(self) -> list[_Running]:
        found: list[_Running] = []
        claim = self.plan.claim
        part = claim_only(self.hypothesis, claim) if claim else excluded_only(self.hypothesis)
        searched = {
            arms.DISAGREEMENT: (self.hypothesis, disagreement, "the hypothesis exchanges nothing"),
            arms.EXCLUDED: (
                part,
                divergence,
                "this claim exchanges nothing" if claim else "the hypothesis leaves nothing out",
            ),
        }
        for k, (name, (hypothesis, measure, why)) in enumerate(searched.items()):
            if not exchanges(hypothesis):
                self.why_not[name] = why
                continue
            outside = Outside(self.model, hypothesis, self.ground)
            self._measures[name] = outside, measure
            look = scrubbed_look(outside, measure, self._seed(k))
            found.append(self._climbing(name, look, k))
        return [*found, self._climbing(arms.CLIMB, own_answer(self.model, self.ground), 2)]

    def _seed(self, k: int, *, fresh: bool = False) -> int:
        return int(self._rng(7, k, int(fresh)).integers(2**31))

    def _climbing(self, name: str, look: Callable[[Bodies], Looked], k: int) -> _Running:
        plan = self.plan
        batches = climbing(
            self.ground, look, self._rng(6, k), budget=plan.budget, starts=plan.starts
        )
        return _Running(name, batches)

    # --- what comes back --------------------------------------------------------------------------

    def _advance(self, one: _Running) -> None:
        try:
            batch = next(one.batches)
        except StopIteration as stop:
            one.done, one.end = True, stop.value
            if one.name in self._measures:
                self._searches.append(self._again(one))
            return
        right = self.ground.answers(batch.bodies)
        wrong = batch.logits.argmax(1) != right
        one.tally.add(batch, wrong)
        if one.name in _OWN:
            self._note(one, batch, wrong, right)

    def _note(
        self, one: _Running, batch: Batch, wrong: Bool[np.ndarray, "text"], right: np.ndarray
    ) -> None:
        """Keep the most confident errors, each input once."""
        odds, outputs = log_odds(batch.logits, right), tokens.answer_names(self.model.info)
        rows = np.flatnonzero(wrong)
        rows = rows[np.argsort(odds[rows], kind="stable")[:WORST]]
        known = {mistake.text for _, mistake, _ in self._mistakes}
        for at, text in zip(rows, self.ground.texts(batch.bodies.at(rows)), strict=True):
            if text in known:
                continue
            mistake = Mistake(
                text=text,
                right=outputs[int(right[at])],
                said=outputs[int(batch.logits[at].argmax())],
                log_odds=float(odds[at]),
                arm=one.name,
                family=one.families[int(batch.group[at])] if one.families else "",
                neighbour="",
            )
            self._mistakes.append((mistake.log_odds, mistake, batch.bodies.at(np.array([at]))))
        self._mistakes = sorted(self._mistakes, key=lambda kept: kept[0])[:WORST]

    def _again(self, one: _Running) -> Search:
        """Score what a search found, and inputs of the population, on fresh draws."""
        outside, measure = self._measures[one.name]
        ends: Ends = one.end
        k = list(self._measures).index(one.name)
        fresh = again(outside, measure, ends, seed=self._seed(k, fresh=True), draws=FRESH)
        n = min(ORDINARY, len(self.ground.drawn))
        drawn = self.ground.drawn.at(np.arange(n))
        plain = Ends(drawn, np.zeros(n), np.ones(n))
        usual = again(outside, measure, plain, seed=self._seed(k, fresh=True), draws=FRESH)
        right = self.ground.answers(ends.bodies)
        said = fresh.logits.argmax(1)
        return Search(
            name=one.name,
            texts=tuple(self.ground.texts(ends.bodies)),
            searched=ends.scores,
            fresh=fresh.scores,
            errors=fresh.errors,
            wrong=said != right,
            refutes=(said == right) & (fresh.mean.argmax(1) != said),
            lonely=fresh.lonely,
            ordinary=np.abs(usual.scores),
        )

    def _find_neighbours(self) -> None:
        """Find for each error an input close to it that the model gets right."""
        rng = self._rng(8)
        for i, (odds, mistake, body) in enumerate(self._mistakes):
            text = self._neighbour(body, rng)
            self._mistakes[i] = (odds, replace(mistake, neighbour=text), body)

    def _neighbour(self, body: Bodies, rng: np.random.Generator) -> str:
        tried = body.repeated(_NEIGHBOURS)
        for _ in range(2):
            edited, _ = self.ground.moves.edit(tried, rng)
            right = self.ground.answers(edited)
            same = (right == self.ground.answers(body)) & (edited.lengths == body.lengths[0])
            same &= changed(body.repeated(_NEIGHBOURS), edited) & (right != NOWHERE)
            if same.any():
                found = edited.at(same)
                ok = self._ask(found).argmax(1) == right[same]
                away = (found.ids != body.ids).sum(1)
                if ok.any():
                    best = np.where(ok, away, len(body.ids[0]) + 1).argmin()
                    return self.ground.texts(found.at(np.array([best])))[0]
            tried = edited
        return ""
