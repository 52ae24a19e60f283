"""Does an output happen because of what a hypothesis names? Input by input, beside other detectors.

Reliance of an input x, from K draws, 0 where the hypothesis explains as much as an empty one and 1
where it explains all; it is not clipped:

    1 - KL(model(x) || mean over k of scrubbed(x, k)) / KL(model(x) || mean over k of empty(x, k))

Both means are of probabilities over the same random numbers, so that the empty hypothesis has 0
whatever K is. ``need`` is its twin: only what the hypothesis names is exchanged, all else stays;
then how much of an empty hypothesis' divergence that makes.

Source: Christiano et al., "Mechanistic anomaly detection and ELK" (Alignment Research Center,
2022), for the question; Chan et al., "Causal scrubbing" (2022), for what is exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Float, Int

from interp.engine.terms import READ, Terms
from interp.errors import BadInput
from interp.explanations.hypothesis import SEPARATE, SHARED, Feature, Hypothesis
from interp.explanations.terms import Term, parse_terms
from interp.methods.scrubbing import anchors, nulls
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.logits import Logits, log_softmax, losses
from interp.methods.scrubbing.run import Amount
from interp.methods.scrubbing.separation import PerRef, Which, auroc, without_model
from interp.methods.scrubbing.tree import Scrubber, cache_of
from interp.models.load import LoadedModel

TWIN = "shuffled_"
_TRIES = 100
_DRAWS, _NULLS = 0.3, 0.7
"""Shares of the run that the estimate and the nulls take."""
_ROUNDING = 1e-9
"""Nats, or share of what an empty hypothesis costs, below which a divergence is rounding."""
_REGULAR = 1e-3
"""What is added to a covariance, of its mean variance."""


@dataclass(frozen=True)
class Labelled:
    """Which inputs are scored, and the mechanism that each is known to be answered by.

    Attributes:
        rows: Their numbers among the inputs that are drawn from.
        which: Whether it is the mechanism that the hypothesis is about.
        usual: Whether that mechanism is the usual one, which anomaly detectors take for normal.
        second: Half of them, for what has to be learned on the other.
    """

    rows: Int[np.ndarray, "ref"]
    which: Which
    usual: bool
    second: Which


@dataclass(frozen=True, eq=False)
class Reliances:
    """What was found so far; a larger number always speaks for the hypothesis' mechanism.

    Attributes:
        draws: Draws that are done.
        reliance: See above.
        sd: Standard deviation of single draws' reliance over the draws; NaN with one draw.
        need: Its necessity twin; NaN where nothing is named at the logits.
        unmodelled: Share of the mechanism in each input's class of features, learned on the other
            half; NaN where the hypothesis has no feature.
        near: Minus the distance of the same activations from trusted ones, or plus where the
            mechanism is the unusual one; NaN where no term is named.
        surprise: Minus the model's loss, or plus.
        margin: The model's largest logit minus its second largest, or minus that.
        sites: How well reliance and need of the same features on random sites separate, one row a
            random hypothesis.
        same_sites: How many of those came out on the hypothesis' own sites.
        twins: How well reliance separates with its features shuffled over the inputs.
    """

    draws: int
    reliance: PerRef
    sd: PerRef
    need: PerRef
    unmodelled: PerRef
    near: PerRef
    surprise: PerRef
    margin: PerRef
    sites: Float[np.ndarray, "null 2"]
    same_sites: int
    twins: Float[np.ndarray, "null"]


def reliances(
    model: LoadedModel,
    hypothesis: Hypothesis,
    inputs: Inputs,
    labelled: Labelled,
    amount: Amount,
    *,
    trusted: Inputs | None = None,
) -> Iterator[tuple[float, Reliances]]:
    """Measure reliance and need draw by draw, then those of random hypotheses.

    Labels only score, but for ``unmodelled``, which learns from them.

    Args:
        model: The model.
        hypothesis: A hypothesis that was checked for it.
        inputs: All inputs: what is drawn from.
        labelled: Those that are scored.
        amount: Draws of each input, random hypotheses of each kind, and the seed.
        trusted: Inputs of the usual mechanism that distances are measured from; none: the scored
            ones themselves.

    Cost: two forward passes an input; ``3 x draws`` evaluations of the scored inputs, and as many
    again for each random hypothesis.
    """
    bench = _Bench(model, hypothesis, inputs, labelled, amount)
    found = bench.start(trusted)
    for done in range(amount.draws):
        bench.add(done)
        found = replace(found, **bench.measured())
        share = _DRAWS if amount.nulls else 1.0
        yield share * (done + 1) / amount.draws, found
    for done, (sites, same, twin) in enumerate(bench.nulls(), 1):
        rows, twins = found.sites.copy(), found.twins.copy()
        rows[done - 1], twins[done - 1] = sites, twin
        found = replace(found, sites=rows, same_sites=found.same_sites + same, twins=twins)
        yield _DRAWS + _NULLS * done / amount.nulls, found


class _Mean:
    """The mean answer of a scrubbed model over draws, and how far single ones are from the model's.

    Args:
        scrubber: The hypothesis.
        own: Log probabilities of the model itself.
    """

    def __init__(self, scrubber: Scrubber, own: Logits) -> None:
        self.scrubber, self.own = scrubber, own
        self.single: list[PerRef] = []
        self._sum = np.full_like(own, -np.inf)

    def add(self, rows: Int[np.ndarray, "ref"], seed: int, replicate: int) -> None:
        """Evaluate one more draw."""
        drawn = self.scrubber.draws(rows, seed, replicate)
        one = log_softmax(self.scrubber.logits(drawn))
        self.single.append(self._away(one))
        self._sum = np.logaddexp(self._sum, one)

    @property
    def divergence(self) -> PerRef:
        """KL(model || mean over draws) in nats."""
        return self._away(self._sum - np.log(len(self.single)))

    def _away(self, logs: Logits) -> PerRef:
        found: PerRef = (np.exp(self.own) * (self.own - logs)).sum(-1)
        return np.maximum(found, 0.0)


class _Bench:
    """What the parts of a measurement share: one cache, the scored inputs, the random numbers."""

    def __init__(
        self,
        model: LoadedModel,
        hypothesis: Hypothesis,
        inputs: Inputs,
        labelled: Labelled,
        amount: Amount,
    ) -> None:
        self.model, self.hypothesis, self.inputs = model, hypothesis, inputs
        self.labelled, self.amount = labelled, amount
        self.cache = cache_of(model, inputs)
        rng = np.random.default_rng([amount.seed, 4])
        self._others = [self._elsewhere(rng) for _ in range(amount.nulls)]
        self._same = [_sites(one.hypothesis) == _sites(hypothesis) for one in self._others]
        self._others_off = [self._disabled(one.hypothesis) for one in self._others]
        self._twins = [self._twin(rng) for _ in range(amount.nulls)]
        self.terms = _terms(hypothesis)
        _want(self.cache, self.terms)
        main, empty = self._ready(hypothesis), self._ready(empty_of(hypothesis))
        off, bare = self._disabled(hypothesis), self._ready(anchors.empty("exact"))
        logits = bare.logits(bare.draws(labelled.rows, amount.seed, 0))
        self.logits, self.own = logits, log_softmax(logits)
        self.main, self.empty = _Mean(main, self.own), _Mean(empty, self.own)
        self.off = _Mean(off, self.own) if off else None

    def _ready(self, hypothesis: Hypothesis, inputs: Inputs | None = None) -> Scrubber:
        return Scrubber(self.model, hypothesis, inputs or self.inputs, self.cache)

    def _disabled(self, hypothesis: Hypothesis) -> Scrubber | None:
        off = anchors.disabled(hypothesis)
        return self._ready(off) if off else None

    def _elsewhere(self, rng: np.random.Generator) -> Scrubber:
        """Put the hypothesis on random sites; on others where these inputs cannot have them."""
        for _ in range(_TRIES):
            # A head is not run anew where inputs of several lengths are read from their end.
            with suppress(BadInput):
                return self._ready(nulls.at_random_sites(self.hypothesis, self.model.info, rng))
        return self._ready(self.hypothesis)

    def _twin(self, rng: np.random.Generator) -> Scrubber | None:
        made = shuffled(self.hypothesis, self.inputs, rng)
        return self._ready(*made) if made else None

    def start(self, trusted: Inputs | None) -> Reliances:
        """Return what needs no draw."""
        of, nothing = self.labelled, np.full(len(self.labelled.rows), np.nan)
        usual = 1.0 if of.usual else -1.0
        values = self.inputs.values(self.hypothesis)
        own = {name: values[name][of.rows] for name in features_of(self.hypothesis)}
        top = np.partition(self.logits, -2, axis=-1)
        return Reliances(
            draws=0,
            reliance=nothing,
            sd=nothing,
            need=nothing,
            unmodelled=without_model(own, of.which, of.second) if own else nothing,
            near=-usual * self._distances(trusted) if self.terms else nothing,
            surprise=-usual * losses(self.logits, self.inputs.labels[of.rows]),
            margin=usual * (top[:, -1] - top[:, -2]),
            sites=np.full((self.amount.nulls, 2), np.nan),
            same_sites=0,
            twins=np.full(self.amount.nulls, np.nan),
        )

    def _distances(self, trusted: Inputs | None) -> PerRef:
        acts = written(self.cache, self.terms, self.labelled.rows)
        if trusted is None:
            return mahalanobis(acts, acts)
        cache = cache_of(self.model, trusted)
        _want(cache, self.terms)
        cache.fill()
        return mahalanobis(written(cache, self.terms, np.arange(len(trusted))), acts)

    def add(self, replicate: int) -> None:
        """Evaluate one more draw of the hypothesis, of the empty one and of the twin."""
        for one in filter(None, (self.main, self.empty, self.off)):
            one.add(self.labelled.rows, self.amount.seed, replicate)

    def measured(self) -> dict[str, int | PerRef]:
        """Return reliance and need as they stand."""
        floor = self.empty.divergence
        found: dict[str, int | PerRef] = {
            "draws": len(self.main.single),
            "reliance": 1 - ratio(self.main.divergence, floor),
        }
        if len(self.main.single) > 1:
            sd = np.stack(self.main.single).std(0, ddof=1)
            found["sd"] = ratio(sd, floor)
        if self.off:
            found["need"] = ratio(self.off.divergence, floor)
        return found

    def nulls(self) -> Iterator[tuple[tuple[float, float], bool, float]]:
        """Measure random hypotheses with as many draws, one of each kind at a time."""
        floor, which = self.empty.divergence, self.labelled.which

        def separates(scrubber: Scrubber | None, sign: int) -> float:
            if scrubber is None:
                return float("nan")
            mean = _Mean(scrubber, self.own)
            for replicate in range(self.amount.draws):
                mean.add(self.labelled.rows, self.amount.seed, replicate)
            return auroc(sign * ratio(mean.divergence, floor), which)

        for k in range(self.amount.nulls):
            pair = separates(self._others[k], -1), separates(self._others_off[k], 1)
            yield pair, self._same[k], separates(self._twins[k], -1)


def empty_of(hypothesis: Hypothesis) -> Hypothesis:
    """Return the hypothesis that claims nothing, its rest drawn in the same way and numbers."""
    root = hypothesis.graph
    other = root.other if root.other in (SHARED, SEPARATE) else SHARED
    graph = root.model_copy(update={"children": (), "other": other, "agree": "exact"})
    return Hypothesis(graph=graph)


def features_of(hypothesis: Hypothesis) -> tuple[str, ...]:
    """Return the features that nodes agree on, in order."""
    named = (name for node, _ in hypothesis.nodes() for name in node.features)
    return tuple(dict.fromkeys(named))


def shuffled(
    hypothesis: Hypothesis, inputs: Inputs, rng: np.random.Generator
) -> tuple[Hypothesis, Inputs] | None:
    """Return the hypothesis with the values of its features dealt out to other inputs.

    One order for all features: they make classes of the same sizes, alone and together. Inputs get
    the dealt values as columns. None where the hypothesis has no feature.
    """
    names = features_of(hypothesis)
    if not names:
        return None
    values, order = inputs.values(hypothesis), rng.permutation(len(inputs))
    dealt = f"{TWIN}{crc32(order.tobytes()):08x}"
    instead = {name: f"{dealt}_{k}" for k, name in enumerate(names)}
    columns = {other: values[name][order] for name, other in instead.items()}
    features = dict(hypothesis.features)
    for other in columns:
        features[other] = Feature(expr=f'column("{other}")', dtype="float", bins=0)
    graph = nulls.renamed(hypothesis.graph, instead)
    twin = hypothesis.model_copy(update={"features": features, "graph": graph})
    return twin, replace(inputs, columns={**inputs.columns, **columns})


def _sites(hypothesis: Hypothesis) -> list[str]:
    return [node.site for node, _ in hypothesis.nodes()]


def _terms(hypothesis: Hypothesis) -> tuple[Term, ...]:
    named = (term.whole for node, _ in hypothesis.nodes() for term in parse_terms(node.site))
    return tuple(dict.fromkeys(named))


def _want(cache: Terms, terms: Sequence[Term]) -> None:
    for term in terms:
        cache.get(("term", term), torch.empty(0, dtype=torch.long), cache.normal(READ))


def written(
    cache: Terms, terms: Sequence[Term], rows: Int[np.ndarray, "some"]
) -> Float[np.ndarray, "some width"]:
    """Return what terms write where inputs are read, side by side."""
    read, at = cache.normal(READ), torch.from_numpy(rows)
    parts = [cache.get(("term", term), at, read)[:, 0] for term in terms]
    return torch.cat(parts, 1).double().cpu().numpy()


def mahalanobis(
    trusted: Float[np.ndarray, "some width"], asked: Float[np.ndarray, "ref width"]
) -> PerRef:
    """Return squared distances from trusted activations in the metric of their covariance.

    The covariance is made regular by a thousandth of its mean variance.
    """
    spread = np.cov(trusted.T)
    spread += _REGULAR * np.trace(spread) / len(spread) * np.eye(len(spread))
    away = asked - trusted.mean(0)
    return np.einsum("ij,ij->i", away, np.linalg.solve(spread, away.T).T)


def ratio(one: PerRef, other: PerRef) -> PerRef:
    """Divide divergences; where both are 0, nothing changes either way: 0.

    What is within rounding of 0 is 0: else rounding alone would rank inputs.
    """
    one = np.where(one < _ROUNDING * np.maximum(other, 1.0), 0.0, one)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(one / other, nan=0.0, posinf=np.inf)
