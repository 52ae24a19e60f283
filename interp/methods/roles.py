"""Roles of components: what the direct output of each does to the loss, and what it is a sign of.

The residual stream at the position read is a sum of what the embedding, every head and every MLP
wrote there. Of each of these terms two things are asked:

1. *Direct effect*: the rise of the loss when the term alone is exchanged for that of another
   random input. The final norm is computed anew; what later components made of the term stays.
2. *Explained variance* of named features of the input: with the final norm's scale of each input
   held fixed, the term adds a number to the difference of two logits. η² is the share of this
   number's variance that lies between the classes of inputs with equal features. Shuffled features
   say how much of it is chance.

A term is a sign of what it carries, not a proof of how it came about. Features of one input
overlap, so that their η² do not add up. And the scale is part of the term: one that is the same on
all inputs, such as the embedding of a start token, still varies as the scale does. Its direct
effect is 0, so it has no role; its η² says how much the scale alone explains.

Source: Chan et al., "Causal scrubbing" (2022), for exchanging the direct output of components by
hypothesis about features; Fisher, Statistical Methods for Research Workers (1925), for η².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.axes import PerPair
from interp.behaviors import Behavior
from interp.engine import Norm, Written, output_weights, unembed, unembedding, written
from interp.errors import BadInput
from interp.methods.effects import FEWEST, mean_with_interval, rounding
from interp.methods.metrics import metric
from interp.models.info import ModelInfo
from interp.models.load import LoadedModel
from interp.scores import Interval

NONE = "none"
DRAWS = 5
"""Other inputs whose term each input takes."""
SHUFFLES = 400
QUANTILE = 0.95
PAIR_GAIN = 0.05
"""Share of the variance that two features together must explain beyond the best one to be named.

A joint class never explains less than its parts, so without a price every role would be a pair.
"""
_ROWS = 256

Scores = Float[np.ndarray, "component candidate"]


@dataclass(frozen=True)
class Role:
    """What one component does.

    Attributes:
        component: Its name: "embedding", "L1H0", "L2 MLP".
        effect: Direct effect in nats, with the bounds of its 95 % interval.
        low: Lower bound.
        high: Upper bound.
        best: The feature, or the two features joined, that explain most.
        eta2: Share of the variance that it explains.
        null: 95 % quantile of the largest share that any candidate explains once shuffled.
        acts: Whether the interval of the effect excludes 0 by more than rounding.
    """

    component: str
    effect: float
    low: float
    high: float
    best: str
    eta2: float
    null: float
    acts: bool

    @property
    def feature(self) -> str:
        """The role in words: what explains most, if the component acts and chance explains less."""
        return self.best if self.acts and self.eta2 > self.null else NONE


@dataclass(frozen=True, eq=False)
class Roles:
    """Direct effects of components and what features explain of their terms.

    Attributes:
        components: Names: the embedding (of positions too), then each layer's heads and MLP.
        candidates: The features, then every two of them joined, "a × b".
        n_features: Number of features.
        loss: Mean loss of the bare runs, in nats.
        partners: The input whose terms each input takes, for each draw.
        rises: Rise of the loss by the exchange, averaged over draws, in nats.
        terms: What each component adds to the difference of logits.
        eta2: Share of the terms' variance between a candidate's classes; 0 where there is none.
        classes: Number of classes of each candidate.
        null: 95 % quantile of each share over shuffles of the inputs.
        largest: 95 % quantile of a component's largest share over the same shuffles.
        rounding: Rise that rounding alone can give, in nats.
    """

    components: tuple[str, ...]
    candidates: tuple[str, ...]
    n_features: int
    loss: float
    partners: Int[np.ndarray, "draw pair"]
    rises: Float[np.ndarray, "pair component"]
    terms: Float[np.ndarray, "pair component"]
    eta2: Scores
    classes: Int[np.ndarray, "candidate"]
    null: Scores
    largest: Float[np.ndarray, "component"]
    rounding: float

    def of(self, component: str) -> Role:
        """Return the role of a component by its name."""
        at = self.components.index(component)
        effect, bounds = mean_with_interval(self.rises[:, at])
        assert isinstance(bounds, Interval), "fewer inputs are refused"
        best = self._best(at)
        return Role(
            component=component,
            effect=effect,
            low=bounds.low,
            high=bounds.high,
            best=self.candidates[best],
            eta2=float(self.eta2[at, best]),
            null=float(self.largest[at]),
            acts=bounds.low > self.rounding or bounds.high < -self.rounding,
        )

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of all components, largest effect first."""
        return tuple(sorted(map(self.of, self.components), key=lambda role: -role.effect))

    def _best(self, at: int) -> int:
        """Choose a candidate: the best feature, or the best two if they explain clearly more.

        Many classes explain much by chance; so they are compared by what is left of η² above the
        mean under shuffling, ``(classes - 1) / (inputs - 1)``.
        """
        chance = np.minimum((self.classes - 1) / (len(self.terms) - 1), 1 - 1e-9)
        above = (self.eta2[at] - chance) / (1 - chance)
        single, pairs = int(above[: self.n_features].argmax()), above[self.n_features :]
        if len(pairs) and pairs.max() >= above[single] + PAIR_GAIN:
            return self.n_features + int(pairs.argmax())
        return single


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
        draws: Other inputs whose term each input takes, as far as there are so many.

    Raises:
        BadInput: There are fewer than 3 inputs, or no features or answers.

    Cost: one forward pass an input; ``components x draws`` unembeddings an input; memory of
    ``inputs x components x d_model`` numbers.
    """
    _check(behavior)
    parts, whole, terms = _streams(model, behavior, compared)
    partners = draw_partners(len(behavior), draws, rng)
    bare, size = _loss(model, whole, behavior.answers)
    rises = np.zeros((len(behavior), parts.shape[1]))
    for taken in partners:
        for at, own in enumerate(parts.unbind(1)):
            # Equal terms cancel exactly in this order.
            changed = whole + (own[torch.from_numpy(taken)] - own)
            rises[:, at] += _loss(model, changed, behavior.answers)[0] - bare
    labels = _candidates(behavior)
    eta2, null, largest = _explained(terms, list(labels.values()), rng)
    return Roles(
        components=components(model.info),
        candidates=tuple(labels),
        n_features=len(behavior.features),
        loss=float(bare.mean()),
        partners=partners,
        rises=rises / len(partners),
        terms=terms,
        eta2=eta2,
        classes=np.array([of.max() + 1 for of in labels.values()]),
        null=null,
        largest=largest,
        rounding=rounding("loss", size, model.info.dtype),
    )


def components(model: ModelInfo) -> tuple[str, ...]:
    """Name the writers of the residual stream: the embedding, then each layer's heads and MLP."""
    names = ["embedding"]
    for layer in range(model.n_layers):
        names += [f"L{layer}H{head}" for head in range(model.n_heads)]
        names += [f"L{layer} MLP"] * model.has_mlp
    return tuple(names)


def draw_partners(n: int, draws: int, rng: np.random.Generator) -> Int[np.ndarray, "draw pair"]:
    """Draw another input for each, several times: none takes itself, nor one twice."""
    order = rng.permutation(n)
    partners = np.empty((min(draws, n - 1), n), dtype=np.int64)
    for row, shift in zip(partners, 1 + rng.permutation(n - 1), strict=False):
        row[order] = np.roll(order, -int(shift))
    return partners


def _check(behavior: Behavior) -> None:
    asked = "Roles are found from the loss and from features of inputs."
    if len(behavior) < FEWEST:
        raise BadInput(asked, f"There are {len(behavior)} inputs.", f"Give {FEWEST} or more.")
    if not behavior.features or not behavior.answers:
        lacking = "answers" if behavior.features else "features"
        raise BadInput(asked, f"These have no {lacking}.", "Choose a behavior that has them.")


# --- terms of the stream -------------------------------------------------------------------------


def _streams(
    model: LoadedModel, behavior: Behavior, compared: Sequence[tuple[int, int]]
) -> tuple[
    Float[Tensor, "pair component d_model"],
    Float[Tensor, "pair d_model"],
    Float[np.ndarray, "pair component"],
]:
    """Return what each component wrote, the whole stream, and terms of the logit difference."""
    weights = [output_weights(model, layer) for layer in range(model.info.n_layers)]
    outputs = sorted({output for two in compared for output in two})
    columns = unembedding(model, torch.tensor(outputs))[0].T
    place = {output: columns[i] for i, output in enumerate(outputs)}
    parts: list[Tensor] = []
    whole: list[Tensor] = []
    terms: list[Tensor] = []
    for i, (ids, (first, second)) in enumerate(zip(behavior.clean, compared, strict=True)):
        run = written(model, torch.tensor(ids), behavior.read_at(i))
        of_input, biases = _parts(run, weights)
        parts.append(of_input)
        whole.append(of_input.sum(0) + biases)
        terms.append(of_input @ run.final.pull(place[first] - place[second]))
    return torch.stack(parts), torch.stack(whole), torch.stack(terms).numpy()


def _parts(
    run: Written, weights: Sequence[tuple[Tensor, Tensor]]
) -> tuple[Float[Tensor, "component d_model"], Float[Tensor, "d_model"]]:
    """Return what each component of a run wrote, and the sum of the attention's biases."""
    embed = run.embed if run.pos_embed is None else run.embed + run.pos_embed
    parts, biases = [embed[None]], torch.zeros_like(embed)
    for layer, (w_o, b_o) in enumerate(weights):
        heads = torch.einsum("hd,hdm->hm", run.z[layer], w_o)
        if run.attn_norms:
            norm = run.attn_norms[layer]
            heads, b_o = _scaled(norm, heads), _scaled(norm, b_o) + norm.bias
        parts.append(heads)
        biases = biases + b_o
        if run.mlp_out is not None:
            parts.append(run.mlp_out[layer][None])
    return torch.cat(parts), biases


def _scaled(norm: Norm, values: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
    """Put a part of what a norm saw through it, with its scale held fixed, without its bias."""
    centred = values - values.mean(-1, keepdim=True) if norm.centred else values
    return centred / norm.scale * norm.gain


def _loss(
    model: LoadedModel, streams: Float[Tensor, "pair d_model"], answers: Sequence[int]
) -> tuple[PerPair, float]:
    """Return the loss that each stream gives, and the largest size of a logit."""
    losses: list[Tensor] = []
    size = 0.0
    for start in range(0, len(streams), _ROWS):
        rows = streams[start : start + _ROWS, None].to(model.dtype).to(model.device)
        logits = unembed(model, rows)[:, 0]
        right = answers[start : start + _ROWS]
        losses.append(metric("loss", logits, right, right, logits))
        size = max(size, float(logits.abs().max()))
    return torch.cat(losses).numpy(), size


# --- explained variance --------------------------------------------------------------------------


def _candidates(behavior: Behavior) -> dict[str, Int[np.ndarray, "pair"]]:
    """Number the classes of each feature and of every two features joined."""
    single = {name: _numbered(np.array(values)[:, None]) for name, values in behavior.features}
    joined = {
        f"{a} × {b}": _numbered(np.stack([single[a], single[b]], 1))
        for a, b in combinations(single, 2)
    }
    return {**single, **joined}


def _numbered(values: Int[np.ndarray, "pair feature"]) -> Int[np.ndarray, "pair"]:
    return np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)


def _explained(
    terms: Float[np.ndarray, "pair component"],
    labels: Sequence[Int[np.ndarray, "pair"]],
    rng: np.random.Generator,
) -> tuple[Scores, Scores, Float[np.ndarray, "component"]]:
    """Return η², its quantile over shuffles, and that of a component's largest η² in a shuffle.

    Cost: ``SHUFFLES x inputs x components x classes`` multiply-adds.
    """
    centred = terms - terms.mean(0)
    # A term that never varies has rounding for variance.
    centred[:, np.abs(centred).max(0) <= 1e-9 * np.abs(terms).max(0)] = 0
    total = (centred**2).sum(0)
    member = np.concatenate([np.arange(of.max() + 1)[:, None] == of for of in labels]).astype(float)
    counts = member.sum(1, keepdims=True)
    first = np.cumsum([0, *(of.max() + 1 for of in labels)])[:-1]

    def eta2(order: Int[np.ndarray, "pair"]) -> Scores:
        between = np.add.reduceat((member @ centred[order]) ** 2 / counts, first, axis=0)
        return np.divide(between, total, out=np.zeros_like(between), where=total > 0).T

    found = eta2(np.arange(len(terms)))
    shuffled = np.stack([eta2(rng.permutation(len(terms))) for _ in range(SHUFFLES)])
    null = np.quantile(shuffled, QUANTILE, axis=0)
    return found, null, np.quantile(shuffled.max(2), QUANTILE, axis=0)
