"""Test a hypothesis and compute its scale: the estimate first, then what it is read against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.errors import BadInput
from interp.explanations.hypothesis import EXACT, SEPARATE, SHARED, Hypothesis
from interp.methods.scrubbing import ablated, anchors, nulls, probes
from interp.methods.scrubbing.budget import budget
from interp.methods.scrubbing.decodable import Decodable, NotAsked
from interp.methods.scrubbing.draws import Draws
from interp.methods.scrubbing.found import MEASURES, MOST_OF_NULL, Floor, Found, Paid, Without
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.intervals import Matrix, of_mean
from interp.methods.scrubbing.logits import Logits
from interp.methods.scrubbing.measure import Measured, References, measured, nothing_yet, stream
from interp.methods.scrubbing.steps import claims
from interp.methods.scrubbing.tree import Scrubber, cache_of
from interp.methods.scrubbing.true_features import true_features
from interp.models.load import LoadedModel
from interp.scores import Interval

_TRIES = 50
_ESTIMATE, _BESIDE = 0.5, 0.7
"""Shares of the run after which the estimate, and what stands beside it, are there."""


@dataclass(frozen=True)
class Amount:
    """How much is computed: draws of each reference, and random hypotheses of each kind."""

    draws: int
    nulls: int
    seed: int


def test(
    model: LoadedModel,
    hypothesis: Hypothesis,
    inputs: Inputs,
    which: Bool[np.ndarray, "input"],
    amount: Amount,
) -> Iterator[tuple[float, Found]]:
    """Scrub and compute floors, costs of claims, variants, nulls and probes; yields as it goes.

    Args:
        model: The model.
        hypothesis: A hypothesis that was checked for it.
        inputs: All inputs: what is drawn from.
        which: Those that are references.
        amount: How much is computed.

    Cost: one forward pass an input, twice; then ``draws x (claims + nodes + 4)``
    evaluations of the tree on the references, and ``2 x nulls`` on up to 2,000 inputs.
    """
    bench = _Bench(model, hypothesis, inputs, np.flatnonzero(which), amount)
    found = bench.start()
    for state in bench.estimate():
        found = replace(found, measured=state)
        yield _ESTIMATE * state.done, found
    bench.prepare_beside()
    found = bench.probed(bench.floors(found))
    for share, costs in bench.claims():
        found = replace(found, claims=costs)
        yield _ESTIMATE + (_BESIDE - _ESTIMATE) * share, found
    found = replace(found, without=bench.without(found.measured.loss))
    yield _BESIDE, found
    done = 0
    for done, (sites, features) in enumerate(bench.nulls(found), 1):
        found = replace(found, sites=sites, features=features)
        yield _BESIDE + (1 - _BESIDE) * done / (amount.nulls + 1), found
    yield 1.0, found


class _Bench:
    """What the parts of a test share: one cache, the references, the same random numbers."""

    def __init__(
        self,
        model: LoadedModel,
        hypothesis: Hypothesis,
        inputs: Inputs,
        rows: Int[np.ndarray, "ref"],
        amount: Amount,
    ) -> None:
        self.model, self.hypothesis, self.inputs, self.amount = model, hypothesis, inputs, amount
        self.cache = cache_of(model, inputs)
        self.budget = budget(hypothesis, inputs, model.info, amount.draws)
        self._main = self._ready(hypothesis)
        self._bare = self._ready(anchors.empty(EXACT))
        self.refs = self._references(rows)

    def prepare_beside(self) -> None:
        """Make ready what stands beside the estimate, so that the model runs once more for all."""
        hypothesis, self._known = self.hypothesis, true_features(self.inputs)
        self._claims = [(claim, self._ready(claim.upto)) for claim in claims(hypothesis)]
        self._without = [
            (node.id, self._ready(hypothesis.replaced(node.id, anchors.dropped(node))))
            for node, above in hypothesis.nodes()
            if above is not None
        ]
        self._disabled = anchors.disabled(hypothesis)
        self._beside = [self._ready(anchors.empty(other)) for other in (SHARED, SEPARATE)]
        self._exchanged = self._ready(self._disabled) if self._disabled else None
        ablated.want_ablated(hypothesis, self.cache)
        probes.want(self.cache, hypothesis)

    @property
    def _groups(self) -> Int[np.ndarray, "some"]:
        """Groups of words of the references; empty where all are independent."""
        of = self.inputs.clusters
        return of[self.refs.rows] if len(of) else of

    def _ready(self, hypothesis: Hypothesis) -> Scrubber:
        return Scrubber(self.model, hypothesis, self.inputs, self.cache)

    def _references(self, rows: Int[np.ndarray, "ref"]) -> References:
        """Run the model over all inputs; what the hypothesis needs is kept."""
        everyone = np.arange(len(self.inputs))
        draws = self._bare.draws(everyone, self.amount.seed, 0)
        self.pool: Logits = self._bare.logits(draws)
        inputs = self.inputs
        return References(rows, inputs.labels[rows], inputs.foils[rows], self.pool[rows])

    def start(self) -> Found:
        """Return what is known before anything is scrubbed."""
        rng = np.random.default_rng([self.amount.seed, 1])
        self._shuffled = anchors.shuffled(self.refs, self.pool, rng)
        self._constant = anchors.constant(self.refs, self.inputs.labels, self.pool)
        empty = np.full((self.amount.nulls, len(MEASURES)), np.nan)
        return Found(
            measured=nothing_yet(self.refs, self.amount.draws),
            shuffled=self._shuffled.loss,
            constant=self._constant.loss,
            exchanged=np.empty(0),
            floors=(),
            budget=self.budget,
            without=(),
            claims=(),
            sites=empty,
            features=empty,
            groups=self._groups,
            no_sites=nulls.why_no_sites(self.hypothesis, self.model.info),
            no_features="",
            probes=(),
            not_probed=(),
        )

    def estimate(self) -> Iterator[Measured]:
        """Scrub batch by batch."""
        drawn: dict[int, Draws] = {}
        scrubber, seed = self._main, self.amount.seed

        def run(draw: int, part: slice) -> Logits:
            if draw not in drawn:
                drawn.clear()
                drawn[draw] = scrubber.draws(self.refs.rows, seed, draw)
            return scrubber.logits(drawn[draw].part(part))

        return stream(run, self.refs, self.amount.draws)

    def _measure(self, scrubber: Scrubber) -> Measured:
        """Scrub with the same random numbers as the estimate."""
        seed, draws = self.amount.seed, self.amount.draws
        drawn = [scrubber.draws(self.refs.rows, seed, k) for k in range(draws)]
        return measured(self.refs, [scrubber.logits(one) for one in drawn])

    def floors(self, found: Found) -> Found:
        """Compute all floors."""
        names = ("empty, one draw for all", "empty, separate draws", "what is named exchanged")
        scrubbers = [*self._beside, *([self._exchanged] if self._exchanged else [])]
        measures = [self._measure(one) for one in scrubbers]
        floors = [self._shuffled, self._constant]
        floors += [anchors.floor_of(name, one) for name, one in zip(names, measures, strict=False)]
        rest = ablated.ablated(self.hypothesis, self.cache, self.refs) or {}
        floors += [anchors.floor_of(f"rest at {name}", one) for name, one in rest.items()]
        means = tuple(
            Floor(one.name, *(_mean(one.of(metric)) for metric in MEASURES)) for one in floors
        )
        exchanged = measures[2].loss.mean(0) if self._exchanged else found.exchanged
        why = nulls.why_no_features(self.hypothesis, self._known)
        return replace(found, floors=means, exchanged=exchanged, no_features=why)

    def probed(self, found: Found) -> Found:
        """Ask how decodable the features of the nodes are."""
        every = probes.decodable(self.cache, self.hypothesis, self.inputs)
        asked = tuple(one for one in every if isinstance(one, Decodable))
        others = tuple(one for one in every if isinstance(one, NotAsked))
        return replace(found, probes=asked, not_probed=others)

    def claims(self) -> Iterator[tuple[float, tuple[Paid, ...]]]:
        """Make claim after claim and say what each costs."""
        rng = np.random.default_rng([self.amount.seed, 2])
        before = np.tile(self.refs.model[0], (self.amount.draws, 1))
        paid: tuple[Paid, ...] = ()
        for done, (claim, scrubber) in enumerate(self._claims, 1):
            after = self._measure(scrubber).loss
            bounds = of_mean(after - before, rng, self._groups)
            low, high = _ends(bounds)
            means = float(before.mean()), float(after.mean())
            paid += (Paid(claim.node, claim.what, claim.depth, *means, low, high),)
            before = after
            yield done / len(self._claims), paid

    def without(self, own: Matrix) -> tuple[Without, ...]:
        """Test the hypothesis, whose losses are ``own``, with each node from any input."""
        rng = np.random.default_rng([self.amount.seed, 3])
        found: list[Without] = []
        for node, scrubber in self._without:
            one = self._measure(scrubber)
            more = one.loss - own
            found.append(
                Without(
                    node,
                    float(one.loss.mean()),
                    *_ends(of_mean(one.loss, rng, self._groups)),
                    float(one.right.mean()),
                    float(more.mean()),
                    *_ends(of_mean(more, rng, self._groups)),
                )
            )
        return tuple(found)

    def nulls(
        self, found: Found
    ) -> Iterator[tuple[Float[np.ndarray, "null measure"], Float[np.ndarray, "null measure"]]]:
        """Test random hypotheses, one of each kind at a time."""
        n = self.amount.nulls
        if not n:
            return
        rng = np.random.default_rng([self.amount.seed, 4])
        inputs = self.inputs.first(MOST_OF_NULL)
        rows = self.refs.rows[self.refs.rows < len(inputs)]
        refs = References(rows, inputs.labels[rows], inputs.foils[rows], self.pool[rows])
        cache = cache_of(self.model, inputs)

        def made(draw: Callable[[], Hypothesis]) -> Scrubber:
            """Draw until one can be tested: not all sites take all inputs."""
            for _ in range(_TRIES):
                with suppress(BadInput):
                    return Scrubber(self.model, draw(), inputs, cache)
            raise BadInput("Random hypotheses were asked for.", "None can be tested.", "Ask for 0.")

        hypothesis, info, known = self.hypothesis, self.model.info, self._known
        at_sites: list[Scrubber] = []
        if not found.no_sites:
            at_sites = [
                made(lambda: nulls.at_random_sites(hypothesis, info, rng)) for _ in range(n)
            ]
        others: list[Scrubber] = []
        if not found.no_features:
            others = [
                made(lambda: nulls.with_random_features(hypothesis, known, rng)) for _ in range(n)
            ]
        sites, features = found.sites, found.features
        for k in range(n):
            if at_sites:
                sites = _with_row(sites, k, at_sites[k], refs, self.amount.seed)
            if others:
                features = _with_row(features, k, others[k], refs, self.amount.seed)
            yield sites, features


def _with_row(
    table: Float[np.ndarray, "null measure"],
    row: int,
    scrubber: Scrubber,
    refs: References,
    seed: int,
) -> Float[np.ndarray, "null measure"]:
    """Return a copy of a table with one row computed."""
    one = measured(refs, [scrubber.logits(scrubber.draws(refs.rows, seed, row))])
    table = table.copy()
    table[row] = [one.of(metric).mean() for metric in MEASURES]
    return table


def _mean(values: Float[np.ndarray, "ref"]) -> float | None:
    mean = float(values.mean())
    return mean if np.isfinite(mean) else None


def _ends(bounds: object) -> tuple[float, float]:
    if isinstance(bounds, Interval):
        return bounds.low, bounds.high
    return float("nan"), float("nan")
