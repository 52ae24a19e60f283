"""Claims of a hypothesis, one by one, in words; and where it stands among random ones."""

from __future__ import annotations

import numpy as np

from interp.explanations.hypothesis import Hypothesis
from interp.explanations.words import label
from interp.methods.scrubbing import nulls
from interp.methods.scrubbing.found import Paid

CHANCE = 0.05
"""Share of random hypotheses that may be as good as one that is said to be better than chance."""


def claim_in_words(hypothesis: Hypothesis, paid: Paid) -> str:
    """Say one claim: what does not matter, or through what something matters."""
    nodes = {node.id: (node, above) for node, above in hypothesis.nodes()}
    node, above = nodes[paid.node]
    name = "the logits" if above is None else label(node, above)
    if paid.what == "rest":
        named = " and ".join(label(child) for child in node.children)
        reads = f"{name} read" if above is None else f"{name} reads"
        return f"nothing {'else that ' if named else ''}{reads} matters"
    verb = "matter" if above is None else "matters"
    if not node.features:
        return f"{name} may come from any input"
    return f"{name} {verb} only through {' and '.join(node.features)}"


def what_moves(hypothesis: Hypothesis) -> str:
    """Name what is put on random sites: its features, or its tree where it has none."""
    featured = any(node.features for node, _ in hypothesis.nodes())
    return "same features" if featured else "same tree"


def null_of_sites(hypothesis: Hypothesis) -> str:
    """Name the null of random sites."""
    return nulls.SITES.replace("same features", what_moves(hypothesis))


def drawn(values: np.ndarray) -> np.ndarray:
    """Return the losses of the random hypotheses that are computed, in nats."""
    return values[np.isfinite(values[:, 0]), 0]


def standing(loss: float, random: np.ndarray) -> tuple[str, float]:
    """Say how many of at least one random hypothesis a loss is better than, and its p-value.

    Under the null that this is one more random one, a rank of r among n has p = r / n.
    """
    place, of = nulls.rank(loss, random, larger_is_better=False)
    return f"{of - place} of {of - 1}", place / of


def against_chance(p: float) -> str:
    """Say what a p-value means; nothing where it is among the best ``CHANCE``."""
    if p <= CHANCE:
        return ""
    return "no better than chance" if p >= 0.5 else "not surely better than chance"


def percent(share: float) -> str:
    """Write a share as a whole per cent."""
    return f"{100 * share + 0.0:.0f} %".replace("-0 %", "0 %")
