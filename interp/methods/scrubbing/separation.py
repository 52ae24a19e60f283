"""How well a number tells two kinds of inputs apart, and what features alone tell (no torch).

Source: Hanley and McNeil (1982), for AUROC as a chance; DeLong et al. (1988), for its variance, by
ranks as in Sun and Xu (2014); Birnbaum and Klose (1957), for the largest variance it can have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.special import expit, logit
from scipy.stats import rankdata

from interp.methods.scrubbing.channels import determines, mutual_bits, together_of
from interp.methods.scrubbing.classes import Classes
from interp.scores import Absent, Interval

PerRef = Float[np.ndarray, "ref"]
Which = Bool[np.ndarray, "ref"]
LEVEL, _Z = 0.95, 1.959964
FEWEST = 10
"""Inputs of each kind below which no interval is given."""
METHOD = "DeLong, on the logit scale"
AT_THE_END = "Wilson's, with the largest variance that an AUROC can have"


def won(scores: PerRef, which: Which) -> PerRef:
    """Return for each input the share of the other kind that it stands on the right side of.

    Inputs of ``which`` should score higher; ties are half. The mean over either kind is the AUROC.
    """
    every = rankdata(scores)
    found = np.empty(len(scores))
    for kind, sign in ((which, 1), (~which, -1)):
        others = len(scores) - kind.sum()
        above = (every[kind] - rankdata(scores[kind])) / others
        found[kind] = above if sign > 0 else 1 - above
    return found


def auroc(scores: PerRef, which: Which) -> float:
    """Return the chance that an input of ``which`` scores higher than another; ties are half.

    NaN where a score is, or where one kind is missing.
    """
    if np.isnan(scores).any() or which.all() or not which.any():
        return float("nan")
    return float(won(scores, which)[which].mean())


def interval(scores: PerRef, which: Which) -> Interval | Absent:
    """Return the 95 % interval of an AUROC over inputs; that of a tie of all is a point.

    Where one kind wins against all of the other no variance shows; then only the bound counts that
    holds whatever the two distributions are.
    """
    if np.isnan(scores).any():
        return Absent("not computed for all inputs yet")
    few = min(int(which.sum()), int((~which).sum()))
    if few < FEWEST:
        return Absent(f"fewer than {FEWEST} inputs of one mechanism")
    shares = won(scores, which)
    value = float(shares[which].mean())
    if value in (0.0, 1.0):
        far = few / (few + _Z**2)
        ends = (far, 1.0) if value else (0.0, 1 - far)
        return Interval(*ends, LEVEL, AT_THE_END)
    variance = sum(shares[kind].var(ddof=1) / kind.sum() for kind in (which, ~which))
    half = _Z * np.sqrt(variance) / (value * (1 - value))
    low, high = (float(expit(logit(value) + sign * half)) for sign in (-1, 1))
    return Interval(low, high, LEVEL, METHOD)


@dataclass(frozen=True)
class Told:
    """What the features of a hypothesis say about the mechanism, without any model.

    Attributes:
        mechanism_bits: Entropy of the mechanism.
        told_bits: Mutual information of all features together with it, as counted.
        alone: Features each of which determines it.
        together: Whether all of them together do.
        classes: Classes that they make together.
        singletons: Share of inputs alone in their class: such a class says nothing of others.
    """

    mechanism_bits: float
    told_bits: float
    alone: tuple[str, ...]
    together: bool
    classes: int
    singletons: float


def told(values: Mapping[str, Shaped[np.ndarray, "ref"]], which: Which) -> Told:
    """Say whether features settle the mechanism: then they separate it whatever the model does."""
    mechanism = Classes.of([which])
    parts = {name: Classes.of([one]) for name, one in values.items()}
    joint = together_of(list(parts.values()), len(which))
    return Told(
        mechanism_bits=mechanism.entropy_bits,
        told_bits=mutual_bits(joint, mechanism),
        alone=tuple(name for name, one in parts.items() if determines(one, mechanism)),
        together=bool(parts) and determines(joint, mechanism),
        classes=len(joint.counts),
        singletons=float((joint.sizes == 1).mean()),
    )


def without_model(
    values: Mapping[str, Shaped[np.ndarray, "ref"]], which: Which, second: Which
) -> PerRef:
    """Return for each input the share of ``which`` in its class of features, in the other half.

    It learns from the labels of the other half: an advantage that no explanation has. Classes that
    do not occur there get the share of the whole half.
    """
    joint = together_of([Classes.of([one]) for one in values.values()], len(which)).codes
    found = np.empty(len(which))
    for half in (second, ~second):
        codes, hits = joint[~half], which[~half]
        n = np.bincount(codes, minlength=joint.max() + 1)
        share = np.full(len(n), hits.mean())
        np.divide(np.bincount(codes, hits, len(n)), n, out=share, where=n > 0)
        found[half] = share[joint[half]]
    return found
