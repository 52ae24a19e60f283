"""Score many hypotheses on one cache, and ask what each is good for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.errors import InterpError
from interp.explanations.hypothesis import EXACT, SHARED, Hypothesis
from interp.methods.scrubbing import anchors
from interp.methods.scrubbing.adversarial.arms import FAMILIES, Tally, arm_of, by_families
from interp.methods.scrubbing.adversarial.atoms import Atoms, atoms_of
from interp.methods.scrubbing.adversarial.families import Violations
from interp.methods.scrubbing.adversarial.ground import Ground
from interp.methods.scrubbing.adversarial.outside import answers
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.logits import divergences, log_softmax, losses
from interp.methods.scrubbing.measure import References, measured
from interp.methods.scrubbing.reliance import ratio
from interp.methods.scrubbing.separation import auroc, interval
from interp.methods.scrubbing.tree import Scrubber, cache_of
from interp.models.load import LoadedModel
from interp.scores import Interval

_TINY = 1e-12
_DIGITS = 3
"""Digits of logits beyond which answers are alike."""
_BATCHES, _LEAST = 10, 20
"""Batches in which families are asked, and the least inputs of one."""


@dataclass(frozen=True)
class Scale:
    """Mean losses in nats that scrubbed ones are read against."""

    model: float
    shuffled: float
    constant: float


class Scored:
    """Hypotheses about one model and its inputs, evaluated on one cache.

    Args:
        model: The model.
        hypotheses: Hypotheses that were checked for it.
        inputs: What is exchanged.
        rows: Those that are scored.
        seed: Of the draws; a node of one name has the same random numbers in all hypotheses.

    Cost: one forward pass an input; making a hypothesis ready, a dry evaluation.
    """

    def __init__(
        self,
        model: LoadedModel,
        hypotheses: Sequence[Hypothesis],
        inputs: Inputs,
        rows: Int[np.ndarray, "ref"],
        seed: int,
    ) -> None:
        self.seed, cache = seed, cache_of(model, inputs)
        made = [Scrubber(model, one, inputs, cache) for one in hypotheses]
        bare = Scrubber(model, anchors.empty(EXACT), inputs, cache)
        self._scrubbers = made
        everyone = np.arange(len(inputs))
        logits = bare.logits(bare.draws(everyone, seed, 0))
        self.refs = References(rows, inputs.labels[rows], inputs.foils[rows], logits[rows])
        floor = anchors.shuffled(self.refs, logits, np.random.default_rng([seed, 1]))
        constant = anchors.constant(self.refs, inputs.labels, logits)
        self.scale = Scale(
            float(losses(logits[rows], inputs.labels[rows]).mean()),
            float(floor.loss.mean()),
            float(constant.loss.mean()),
        )

    def distinct(self, n: int) -> list[int]:
        """Return the first ``n`` hypotheses whose scrubbed answers differ from those before them.

        One that names a component which writes the same on all inputs says nothing new by it.

        Cost: one evaluation of each.
        """
        known: dict[bytes, int] = {}
        for k, one in enumerate(self._scrubbers):
            logits = one.logits(one.draws(self.refs.rows, self.seed, 0))
            known.setdefault(np.round(logits, _DIGITS).tobytes(), k)
            if len(known) == n:
                break
        return list(known.values())

    def of(self, k: int, draws: int) -> tuple[float, float]:
        """Return mean loss and mean KL(model ‖ scrubbed) of a hypothesis, in nats.

        Cost: ``draws`` evaluations on all references.
        """
        one = self._scrubbers[k]
        drawn = [one.draws(self.refs.rows, self.seed, r) for r in range(draws)]
        found = measured(self.refs, [one.logits(each) for each in drawn])
        return float(found.loss.mean()), float(found.kl.mean())


@dataclass(frozen=True)
class Success:
    """What a hypothesis is good for.

    Attributes:
        value: The larger the better; NaN where it cannot be asked.
        low: Lower end of its 95 % interval.
        high: Upper end.
        same: Hypotheses with the same text here have their success from one computation.
    """

    value: float
    low: float
    high: float
    same: str


_NOTHING = Success(float("nan"), 0.0, 1.0, "no features")


@dataclass(frozen=True, eq=False)
class Judged:
    """Inputs of two mechanisms: their rows, and which of them the second mechanism answers."""

    rows: Int[np.ndarray, "judged"]
    second: Bool[np.ndarray, "judged"]


class Downstream(Protocol):
    """Something that a hypothesis may be good for."""

    def of(self, k: int) -> Success:
        """Return how good the hypothesis of this number is for that."""
        ...


class Yields:
    """The share of inputs on which the model errs, of families written from the features.

    Families know nothing of sites: hypotheses of equal features have one yield.

    Args:
        model: The model.
        hypotheses: The hypotheses.
        ground: The population that inputs are made of.
        queries: Inputs that the model is asked for each hypothesis; half of them choose a family.
        seed: Decides all edits.
    """

    def __init__(
        self,
        model: LoadedModel,
        hypotheses: Sequence[Hypothesis],
        ground: Ground,
        queries: int,
        seed: int,
    ) -> None:
        self.hypotheses, self.ground, self.queries, self.seed = hypotheses, ground, queries, seed
        self._ask = partial(answers, model, ground)
        self._known: dict[str, Success] = {}

    def of(self, k: int) -> Success:
        """Return the yield, NaN for a hypothesis without features that new inputs have.

        Cost: ``queries`` forward passes for every new set of features.
        """
        hypothesis = self.hypotheses[k]
        try:
            self.ground.check({name: one.expr for name, one in hypothesis.features.items()})
            atoms = atoms_of(hypothesis, self.ground.pool)
        except InterpError:
            return _NOTHING
        if not len(atoms):
            return _NOTHING
        same = " ; ".join(sorted(f"{one.expr} {one.edges}" for one in atoms.of))
        if same not in self._known:
            self._known[same] = replace(self._asked(atoms), same=same)
        return self._known[same]

    def _asked(self, atoms: Atoms) -> Success:
        making = Violations(self.ground, atoms, np.random.default_rng([self.seed, 3]))
        batch = max(_LEAST, self.queries // _BATCHES)
        tally = Tally()
        batches = by_families(making, self.ground, self._ask, budget=self.queries, batch=batch)
        for part in batches:
            wrong = part.logits.argmax(1) != self.ground.answers(part.bodies)
            tally.add(part, wrong)
        arm = arm_of(FAMILIES, tally, making.names)
        return Success(float(arm.share), *arm.interval, "")


class Distinctions:
    """How well reliance on a hypothesis tells inputs of two mechanisms apart.

    Reliance is that of ``interp.methods.scrubbing.reliance``, of many hypotheses on one cache.

    Args:
        model: The model.
        hypotheses: Hypotheses that were checked for it.
        inputs: What is exchanged, those that are judged among them.
        judged: Rows of these.
        second: Which of them the mechanism answers that the hypotheses are *not* about.
        draws: Draws of each.
        seed: Of the draws.
    """

    def __init__(
        self,
        model: LoadedModel,
        hypotheses: Sequence[Hypothesis],
        inputs: Inputs,
        judged: Judged,
        *,
        draws: int,
        seed: int,
    ) -> None:
        self.judged, self.draws, self.seed = judged, draws, seed
        cache = cache_of(model, inputs)
        self._scrubbers = [Scrubber(model, one, inputs, cache) for one in hypotheses]
        bare, empty = (
            Scrubber(model, anchors.empty(other), inputs, cache) for other in (EXACT, SHARED)
        )
        self._own = bare.logits(bare.draws(judged.rows, seed, 0))
        self._nothing = self._lost(empty)

    def _lost(self, scrubber: Scrubber) -> Float[np.ndarray, "judged"]:
        """Return KL(model ‖ mean of the scrubbed answers) of each input, in nats."""
        drawn = [scrubber.draws(self.judged.rows, self.seed, r) for r in range(self.draws)]
        mean = np.mean([np.exp(log_softmax(scrubber.logits(one))) for one in drawn], axis=0)
        return divergences(self._own, np.log(np.maximum(mean, _TINY)))

    def reliance(self, k: int) -> Float[np.ndarray, "judged"]:
        """Return the reliance of each judged input on a hypothesis."""
        return 1 - ratio(self._lost(self._scrubbers[k]), self._nothing)

    def of(self, k: int) -> Success:
        """Return the AUROC: how often an input of the first mechanism relies on it more.

        Cost: ``draws`` evaluations on the judged inputs.
        """
        relied, first = self.reliance(k), ~self.judged.second
        bounds = interval(relied, first)
        ends = (bounds.low, bounds.high) if isinstance(bounds, Interval) else (0.0, 1.0)
        return Success(auroc(relied, first), *ends, str(k))
