"""Detectors of unusual activations that are fitted on trusted data alone, and how they are judged.

Arrays are ``[inputs, dimensions]``; a score is one number an input, higher for less usual.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Score = Callable[[Array], Array]

_SMALLEST = 1e-5
"""Eigenvalues of a covariance below this share of the largest count as zero."""
_RESAMPLES = 500


@dataclass(frozen=True)
class Auroc:
    """Probability that a tampered input scores higher than a clean one, ties counting half.

    Attributes:
        value: The probability.
        low: Lower end of the bootstrap interval of 95%.
        high: Its upper end.
        n: Inputs of both kinds.
    """

    value: float
    low: float
    high: float
    n: int


def mahalanobis(trusted: Array) -> Score:
    """Squared Mahalanobis distance a dimension; dimensions that never vary are dropped."""
    live = trusted.std(0) > 0
    kept = trusted[:, live]
    mean = kept.mean(0)
    inverse = np.linalg.pinv(np.cov(kept.T), rcond=_SMALLEST, hermitian=True)

    def score(found: Array) -> Array:
        off = found[:, live] - mean
        return ((off @ inverse) * off).sum(1) / live.sum()

    return score


def spectral(trusted: Array) -> Score:
    """Square of the projection on the trusted data's first principal component."""
    mean = trusted.mean(0)
    _, vectors = np.linalg.eigh(np.cov(trusted.T))
    return lambda found: ((found - mean) @ vectors[:, -1]) ** 2


def auroc(clean: Array, tampered: Array, seed: int) -> Auroc:
    """Compare the scores of both kinds; the interval resamples each kind with replacement."""
    values, place = np.unique(np.concatenate([clean, tampered]), return_inverse=True)
    counts = [np.bincount(part, minlength=len(values)) for part in np.split(place, [len(clean)])]
    rng = np.random.default_rng([seed, 95])
    drawn = [
        rng.multinomial(part.sum(), part / part.sum(), _RESAMPLES).astype(np.float64)
        for part in counts
    ]
    low, high = np.quantile(_higher(*drawn), [0.025, 0.975])
    value = _higher(*(part[None].astype(np.float64) for part in counts))[0]
    return Auroc(float(value), float(low), float(high), len(place))


def _higher(clean: Array, tampered: Array) -> Array:
    """Share of pairs in which the tampered one is higher, from counts ``[resamples, values]``."""
    below = clean.cumsum(1) - clean / 2
    return (below * tampered).sum(1) / (clean.sum(1) * tampered.sum(1))
