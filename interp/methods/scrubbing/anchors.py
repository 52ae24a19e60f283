"""Floors of the scale: what is lost when a hypothesis is not even tried (torch-free but for runs).

``shuffled``: each reference gets the model's answer on another input; the mean over all pairs, not
a sample. ``constant``: the best answer that ignores the input, the shares of the labels.
``disabled``: what the hypothesis names is exchanged together, and the rest stays. ``zero`` and
``mean``: the rest is nothing, or its mean, and what the hypothesis names stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.explanations.hypothesis import ANY, EXACT, SHARED, Hypothesis, Node
from interp.explanations.terms import ROOT
from interp.methods.scrubbing.logits import Logits, Outputs, log_softmax
from interp.methods.scrubbing.measure import Measured, References

PerRef = Float[np.ndarray, "ref"]
_PARTNERS = 16
"""Others that each reference is compared with where not all pairs are."""


@dataclass(frozen=True, eq=False)
class Floor:
    """A floor on every metric, one number a reference; NaN where it has none."""

    name: str
    loss: PerRef
    accuracy: PerRef
    kl: PerRef
    gap: PerRef

    def of(self, metric: str) -> PerRef:
        """Return one of ``METRICS``."""
        found: PerRef = getattr(self, metric)
        return found


def shuffled(refs: References, pool: Logits, rng: np.random.Generator) -> Floor:
    """Return what the model's answers on all inputs of the pool give, in place of its own.

    Exact for loss, accuracy and KL; the change of the logit difference over some random others.
    """
    table = -log_softmax(pool)
    loss_of, answered = table.mean(0), np.bincount(pool.argmax(-1), minlength=pool.shape[1])
    own = log_softmax(refs.logits)
    kl = (np.exp(own) * (own + loss_of)).sum(-1)
    others = rng.integers(len(pool), size=(_PARTNERS, len(refs)))
    at, theirs = np.arange(len(refs)), pool[others]
    diff = theirs[:, at, refs.labels] - theirs[:, at, refs.foils]
    gap = np.where(refs.foils < 0, np.nan, np.abs(diff - refs.model[2]).mean(0))
    right = answered[refs.labels] / len(pool)
    return Floor("shuffled", loss_of[refs.labels], right, kl, gap)


def constant(refs: References, labels: Outputs, pool: Logits) -> Floor:
    """Return the best answers that ignore the input.

    For the loss and accuracy that is each output with its share among the labels, for KL the mean
    of the model's probabilities.
    """
    share = np.bincount(labels, minlength=pool.shape[1]) / len(labels)
    own = log_softmax(refs.logits)
    mean = np.log(np.exp(log_softmax(pool)).mean(0))
    kl = (np.exp(own) * (own - mean)).sum(-1)
    right = (refs.labels == share.argmax()).astype(float)
    nothing = np.full(len(refs), np.nan)
    return Floor("constant", -np.log(share[refs.labels]), right, kl, nothing)


def floor_of(name: str, found: Measured) -> Floor:
    """Return measured runs, draws averaged, as a floor."""
    parts = [found.of(metric).mean(0) for metric in ("loss", "accuracy", "kl", "gap")]
    return Floor(name, *parts)


def disabled(hypothesis: Hypothesis) -> Hypothesis | None:
    """Return the hypothesis under which what is named at the logits is exchanged, and only that.

    Each node is exchanged for another input, exactly where and as it is named. None where nothing
    is named there.
    """
    named = hypothesis.graph.children
    if not named:
        return None
    children = tuple(dropped(child) for child in named)
    graph = hypothesis.graph.model_copy(
        update={"agree": EXACT, "other": EXACT, "children": children}
    )
    return hypothesis.model_copy(update={"graph": graph})


def dropped(node: Node) -> Node:
    """Return a node that any input may stand for."""
    return node.model_copy(update={"agree": ANY, "children": (), "pool": None})


def empty(other: str = SHARED) -> Hypothesis:
    """Return the hypothesis that nothing matters."""
    return Hypothesis(graph=Node(site=ROOT, agree=EXACT, other=other))
