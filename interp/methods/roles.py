"""Roles of components: what the direct output of each does to the loss, and what it is a sign of.

The residual stream at the position read is a sum of what the embedding, every head and every MLP
wrote there. Of each of these terms two things are asked:

1. *Direct effect*: the rise of the loss when the term alone is exchanged for that of another
   random input. The final norm is computed anew; what later components made of the term stays.
   Inputs that exchange terms depend on each other. So they do it within disjoint groups drawn at
   random, which do not, and the interval is Student's over the groups' means.
2. *Explained variance* of named features of the input: along the direction in which the final norm
   and the unembedding read it, the term adds a number to the difference of two logits. η² is the
   share of this number's variance that lies between the classes of inputs with equal features.
   Shuffled features say how much of it is chance.

All terms are divided by one scale of the final norm, its mean over the inputs. Each input's own
scale depends on all that was written there, so it would lend the answer to every term, even to one
that is the same on all inputs. Such a term has no variance to explain: its role is "constant".

Two features joined never explain less than one. They are named only where they explain more than
the best one by more than chance: 95 % of the times that one of two features is shuffled among the
inputs that are equal in the other, no two gain as much. Two features are not joined where their
classes would have few inputs each: they would name inputs, and explain anything.

A term is a sign of what it carries, not a proof of how it came about. Features of one input
overlap, so that their η² do not add up.

Source: Chan et al., "Causal scrubbing" (2022), for exchanging the direct output of components by
hypothesis about features; Fisher, Statistical Methods for Research Workers (1925), for η².
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, Int

from interp.behaviors import Behavior
from interp.errors import BadInput
from interp.methods.effects import FEWEST, mean_with_interval, rounding
from interp.methods.role_streams import Streams, losses
from interp.models.info import ModelInfo
from interp.models.load import LoadedModel
from interp.scores import Interval

NONE = "none"
CONSTANT = "constant"
DRAWS = 5
"""Other inputs whose term each input takes."""
GROUPS = 20
"""Disjoint groups of inputs, of which each takes terms of its own only."""
LEAST = 2 * FEWEST
"""Inputs below which there are no groups to give an interval."""
SHUFFLES = 400
QUANTILE = 0.95
MEMBERS = 10
"""Mean number of inputs in a class of two joined features below which they are not joined."""
_PASSES = 64
"""Forward passes between two yields."""
_RUN, _MEASURED = 0.6, 0.85
"""Share of the work that is done after the passes, and after the exchanges."""

Scores = Float[np.ndarray, "component candidate"]


@dataclass(frozen=True)
class Role:
    """What one component does.

    Attributes:
        component: Its name: "embedding", "L1H0", "L2 MLP".
        effect: Direct effect in nats, with the bounds of its 95 % interval.
        low: Lower bound.
        high: Upper bound.
        best: The feature, or the two features joined, that explain most; "constant" for a term
            that does not vary.
        eta2: Share of the variance that it explains.
        alone: The single feature that explains most; "constant" like ``best``.
        eta2_alone: Share that it explains.
        null: 95 % quantile of the largest share that any candidate explains once shuffled.
        acts: Whether the interval of the effect excludes 0 by more than rounding.
    """

    component: str
    effect: float
    low: float
    high: float
    best: str
    eta2: float
    alone: str
    eta2_alone: float
    null: float
    acts: bool

    @property
    def feature(self) -> str:
        """The role in words: what explains most, if the component acts and chance explains less."""
        if self.best == CONSTANT:
            return CONSTANT
        return self.best if self.acts and self.eta2 > self.null else NONE


@dataclass(frozen=True, eq=False)
class Roles:
    """Direct effects of components and what features explain of their terms.

    What is not measured yet is NaN.

    Attributes:
        components: Names: the embedding (of positions too), then each layer's heads and MLP.
        candidates: The features, then two of them joined, "a × b".
        n_features: Number of features.
        loss: Mean loss of the bare runs, in nats.
        groups: Number of each input's group.
        partners: The input of the same group whose terms each input takes, for each draw.
        rises: Rise of the loss by the exchange, averaged over draws, in nats.
        scale: Mean scale of the final norm, by which all terms are divided.
        terms: What each component adds to the difference of logits, at that scale.
        eta2: Share of the terms' variance between a candidate's classes; 0 where there is none.
        classes: Number of classes of each candidate.
        null: 95 % quantile of each share over shuffles of the inputs.
        largest: 95 % quantile of a component's largest share over the same shuffles.
        gain: 95 % quantile of the largest gain of two features over the better of them, the other
            shuffled within its classes.
        rounding: Rise that rounding alone can give, in nats.
    """

    components: tuple[str, ...]
    candidates: tuple[str, ...]
    n_features: int
    loss: float
    groups: Int[np.ndarray, "pair"]
    partners: Int[np.ndarray, "draw pair"]
    rises: Float[np.ndarray, "pair component"]
    scale: float
    terms: Float[np.ndarray, "pair component"]
    eta2: Scores
    classes: Int[np.ndarray, "candidate"]
    null: Scores
    largest: Float[np.ndarray, "component"]
    gain: Float[np.ndarray, "component"]
    rounding: float

    def of(self, component: str) -> Role:
        """Return the role of a component by its name; each group's mean effect counts the same."""
        at = self.components.index(component)
        sizes = np.bincount(self.groups)
        effect, bounds = mean_with_interval(np.bincount(self.groups, self.rises[:, at]) / sizes)
        assert isinstance(bounds, Interval), "fewer inputs are refused"
        best, alone = self._best(at)
        varies = bool(np.ptp(self.terms[:, at]) > 0)
        return Role(
            component=component,
            effect=effect,
            low=bounds.low,
            high=bounds.high,
            best=self.candidates[best] if varies else CONSTANT,
            eta2=float(self.eta2[at, best]),
            alone=self.candidates[alone] if varies else CONSTANT,
            eta2_alone=float(self.eta2[at, alone]),
            null=float(self.largest[at]),
            acts=bounds.low > self.rounding or bounds.high < -self.rounding,
        )

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of all components, largest absolute effect first."""
        return tuple(sorted(map(self.of, self.components), key=lambda role: -abs(role.effect)))

    def _best(self, at: int) -> tuple[int, int]:
        """Choose a candidate, the best feature or the best two if they gain by it; and the feature.

        Many classes explain much by chance; so features, and pairs, are compared by what is left of
        η² above the mean under shuffling, ``(classes - 1) / (inputs - 1)``.
        """
        shares = self.eta2[at]
        chance = np.minimum((self.classes - 1) / (len(self.terms) - 1), 1 - 1e-9)
        above = (shares - chance) / (1 - chance)
        single, pairs = int(above[: self.n_features].argmax()), above[self.n_features :]
        if not len(pairs):
            return single, single
        pair = self.n_features + int(pairs.argmax())
        # Where one feature explains all, sums of squares differ by rounding.
        gains = shares[pair] - shares[single] > self.gain[at] + 1e-9
        return (pair if gains else single), single


def find_roles(
    model: LoadedModel,
    behavior: Behavior,
    compared: Sequence[tuple[int, int]],
    rng: np.random.Generator,
    *,
    draws: int = DRAWS,
) -> Roles:
    """Measure direct effects and explained variances of all components on clean inputs.

    Args:
        model: The model, whose tokens ``behavior`` holds.
        behavior: Inputs with answers, which the loss is of, and features.
        compared: Two outputs for each input: terms are of logit(first) − logit(second).
        rng: Randomness of exchanges and shuffles.
        draws: Other inputs whose term each input takes, as far as its group has so many.

    Raises:
        BadInput: There are fewer than 6 inputs, or no features or answers.

    Cost: one forward pass an input; ``components x draws`` unembeddings an input; memory of
    ``inputs x components x d_model`` numbers.
    """
    ((_, roles),) = deque(finding(model, behavior, compared, rng, draws=draws), maxlen=1)
    return roles


def finding(
    model: LoadedModel,
    behavior: Behavior,
    compared: Sequence[tuple[int, int]],
    rng: np.random.Generator,
    *,
    draws: int = DRAWS,
) -> Generator[tuple[float, Roles], None, None]:
    """Do as ``find_roles``; yield the share that is done and the roles so far, NaN if not yet."""
    _check(behavior)
    labels, pairs = _candidates(behavior)
    groups, partners = draw_partners(len(behavior), draws, rng)
    roles = _nothing(components(model.info), labels, (groups, partners), len(behavior.features))
    streams = Streams(model, sorted({output for two in compared for output in two}))
    for i, two in enumerate(compared):
        if i % _PASSES == 0:
            yield _RUN * i / len(behavior), roles
        streams.add(behavior.clean[i], behavior.read_at(i), two)
    parts, whole, terms, scale = streams.put_together()
    bare, size = losses(model, whole, behavior.answers)
    roles = replace(
        roles,
        loss=float(bare.mean()),
        scale=scale,
        terms=terms,
        rounding=rounding("loss", size, model.info.dtype),
    )
    for at, own in enumerate(parts.unbind(1)):
        yield _RUN + (_MEASURED - _RUN) * at / parts.shape[1], roles
        rises = roles.rises.copy()
        rises[:, at] = 0
        for taken in partners:
            # Equal terms cancel exactly in this order.
            changed = whole + (own[torch.from_numpy(taken)] - own)
            rises[:, at] += losses(model, changed, behavior.answers)[0] - bare
        rises[:, at] /= len(partners)
        roles = replace(roles, rises=rises)
    yield _MEASURED, roles
    eta2, null, largest, gain = _explained(terms, list(labels.values()), pairs, rng)
    yield 1.0, replace(roles, eta2=eta2, null=null, largest=largest, gain=gain)


def components(model: ModelInfo) -> tuple[str, ...]:
    """Name the writers of the residual stream: the embedding, then each layer's heads and MLP."""
    names = ["embedding"]
    for layer in range(model.n_layers):
        names += [f"L{layer}H{head}" for head in range(model.n_heads)]
        names += [f"L{layer} MLP"] * model.has_mlp
    return tuple(names)


def draw_partners(
    n: int, draws: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, "pair"], Int[np.ndarray, "draw pair"]]:
    """Draw groups, and another input of its group for each, several times.

    None takes itself, nor one twice. There are ``GROUPS`` groups, or fewer where they would be too
    small for the draws, but 3 at least.

    Returns:
        Each input's group, and its partners.
    """
    many = min(GROUPS, max(FEWEST, n // (draws + 1)))
    members = np.array_split(rng.permutation(n), many)
    least = n // many
    groups = np.empty(n, dtype=np.int64)
    partners = np.empty((min(draws, least - 1), n), dtype=np.int64)
    for number, order in enumerate(members):
        groups[order] = number
        for row, shift in zip(partners, 1 + rng.permutation(least - 1), strict=False):
            row[order] = np.roll(order, -int(shift))
    return groups, partners


def _nothing(
    names: tuple[str, ...],
    labels: dict[str, Int[np.ndarray, "pair"]],
    drawn: tuple[Int[np.ndarray, "pair"], Int[np.ndarray, "draw pair"]],
    n_features: int,
) -> Roles:
    """Return roles of which nothing is measured yet."""

    def unknown(*shape: int) -> Float[np.ndarray, "*shape"]:
        return np.full(shape, np.nan)

    groups, partners = drawn
    n, many, scored = len(groups), len(names), (len(names), len(labels))
    return Roles(
        components=names,
        candidates=tuple(labels),
        n_features=n_features,
        loss=np.nan,
        groups=groups,
        partners=partners,
        rises=unknown(n, many),
        scale=np.nan,
        terms=unknown(n, many),
        eta2=unknown(*scored),
        classes=np.array([of.max() + 1 for of in labels.values()]),
        null=unknown(*scored),
        largest=unknown(many),
        gain=unknown(many),
        rounding=np.nan,
    )


def _check(behavior: Behavior) -> None:
    asked = "Roles are found from the loss and from features of inputs."
    if len(behavior) < LEAST:
        raise BadInput(asked, f"There are {len(behavior)} inputs.", f"Give {LEAST} or more.")
    if not behavior.features or not behavior.answers:
        lacking = "answers" if behavior.features else "features"
        raise BadInput(asked, f"These have no {lacking}.", "Choose a behavior that has them.")


# --- explained variance --------------------------------------------------------------------------


def _candidates(
    behavior: Behavior,
) -> tuple[dict[str, Int[np.ndarray, "pair"]], list[tuple[int, int]]]:
    """Number the classes of each feature and of two joined, and say which two each time."""
    labels = {name: _numbered(np.array(values)[:, None]) for name, values in behavior.features}
    names, pairs = list(labels), list[tuple[int, int]]()
    for a, b in combinations(range(len(names)), 2):
        joined = _numbered(np.stack([labels[names[a]], labels[names[b]]], 1))
        if (joined.max() + 1) * MEMBERS <= len(behavior):
            labels[f"{names[a]} × {names[b]}"] = joined
            pairs.append((a, b))
    return labels, pairs


def _numbered(values: Int[np.ndarray, "pair feature"]) -> Int[np.ndarray, "pair"]:
    return np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)


def _explained(
    terms: Float[np.ndarray, "pair component"],
    labels: Sequence[Int[np.ndarray, "pair"]],
    pairs: Sequence[tuple[int, int]],
    rng: np.random.Generator,
) -> tuple[Scores, Scores, Float[np.ndarray, "component"], Float[np.ndarray, "component"]]:
    """Return η², its quantile over shuffles, that of a component's largest, and that of a gain.

    Cost: ``SHUFFLES x inputs x components x classes`` multiply-adds, three times.
    """
    centred = np.where(np.ptp(terms, 0) > 0, terms - terms.mean(0), 0)
    every = _shares(labels)
    found = every(centred)
    shuffled = np.stack([every(rng.permutation(centred)) for _ in range(SHUFFLES)])
    null = np.quantile(shuffled, QUANTILE, axis=0)
    largest = np.quantile(shuffled.max(2), QUANTILE, axis=0)
    return found, null, largest, _chance_gain(centred, labels, found, pairs, rng)


def _shares(
    labels: Sequence[Int[np.ndarray, "pair"]],
) -> Callable[[Float[np.ndarray, "pair component"]], Scores]:
    """Return the function from centred terms to η² by each of these classes."""
    member = np.concatenate([np.arange(of.max() + 1)[:, None] == of for of in labels]).astype(float)
    counts = member.sum(1, keepdims=True)
    starts = np.cumsum([0, *(of.max() + 1 for of in labels)])[:-1]

    def shares(centred: Float[np.ndarray, "pair component"]) -> Scores:
        total = (centred**2).sum(0)
        between = np.add.reduceat((member @ centred) ** 2 / counts, starts, axis=0)
        return np.divide(between, total, out=np.zeros_like(between), where=total > 0).T

    return shares


def _chance_gain(
    centred: Float[np.ndarray, "pair component"],
    labels: Sequence[Int[np.ndarray, "pair"]],
    found: Scores,
    pairs: Sequence[tuple[int, int]],
    rng: np.random.Generator,
) -> Float[np.ndarray, "component"]:
    """Return the quantile over shuffles of the largest gain that any two joined features give.

    Shuffling terms among inputs equal in one feature is shuffling the other feature there. The one
    is the better of the two, so that what it explains is kept.
    """
    n = len(labels) - len(pairs)
    largest = np.zeros((SHUFFLES, len(found)))
    for kept, label in enumerate(labels[:n]):
        having = [(n + at, sum(two) - kept) for at, two in enumerate(pairs) if kept in two]
        if not having:
            continue
        shares = _shares([labels[at] for at, _ in having])
        worse = found[:, [other for _, other in having]] <= found[:, [kept]]
        by_class = np.argsort(label, kind="stable")
        shuffled = np.empty_like(centred)
        for row in largest:
            shuffled[by_class] = centred[np.lexsort((rng.random(len(label)), label))]
            gains = np.where(worse, shares(shuffled) - found[:, [kept]], 0)
            np.maximum(row, gains.max(1), out=row)
    return np.quantile(largest, QUANTILE, axis=0)
