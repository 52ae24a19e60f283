"""Intervals of scrubbed estimates: over reference inputs, with their draws (torch-free).

Every reference has draws of its own, so draws are nested in references: resampling references
carries the noise of their draws along. What draws of one number share over all references is
estimated apart and added; by the way draws are made there is nothing of it. Resampling references
and draws independently instead would count the noise of single draws three times.

Source: Owen, "The pigeonhole bootstrap" (2007), for what independent resampling of both counts;
Efron and Tibshirani, An Introduction to the Bootstrap (1993), for percentile intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.scores import Absent, Interval

Matrix = Float[np.ndarray, "draw ref"]
PerRef = Float[np.ndarray, "ref"]
LEVEL = 0.95
RESAMPLES = 1000
FEWEST = 20
"""References below which no interval is given."""
_AT_ONCE = 100
METHOD = "bootstrap over references with their draws"


@dataclass(frozen=True)
class Spread:
    """Where the variance of a mean comes from.

    Attributes:
        inputs: Variance of references' expectations.
        draws: Mean variance of single draws about their reference's expectation.
        shared: Variance of what all draws of one number have in common.
    """

    inputs: float
    draws: float
    shared: float

    def of_mean(self, refs: int, draws: int) -> float:
        """Return the variance of the mean over so many references and draws of each."""
        return self.inputs / refs + self.draws / (refs * draws) + self.shared / draws


def spread(values: Matrix) -> Spread:
    """Estimate the components of variance by the two-way table of draws and references."""
    draws, refs = values.shape
    by_ref, by_draw, mean = values.mean(0), values.mean(1), values.mean()
    if draws == 1:
        return Spread(float(by_ref.var(ddof=1)), 0.0, 0.0)
    rest = values - by_ref - by_draw[:, None] + mean
    single = float((rest**2).sum() / ((draws - 1) * (refs - 1)))
    inputs = float(by_ref.var(ddof=1)) - single / draws
    shared = float(by_draw.var(ddof=1)) - single / refs
    return Spread(max(inputs, 0.0), single, max(shared, 0.0))


def percentile(
    statistic: Callable[..., Float[np.ndarray, "resample"]],
    *values: PerRef,
    rng: np.random.Generator,
    shared: float = 0.0,
    resamples: int = RESAMPLES,
) -> Interval | Absent:
    """Return the percentile interval of a function of means over references.

    Args:
        statistic: From the resampled means of each of ``values`` to the statistic, elementwise.
        values: One number a reference, their draws averaged; resampled together.
        rng: Source of the resamples.
        shared: Variance of the first mean that all references have in common.
        resamples: How many.

    Cost: ``resamples x references`` numbers for each of ``values``.
    """
    n = len(values[0])
    if n < FEWEST:
        return Absent(f"{n} references are too few for an interval; {FEWEST} are the least")
    found: list[np.ndarray] = []
    for start in range(0, resamples, _AT_ONCE):
        take = rng.integers(n, size=(min(_AT_ONCE, resamples - start), n))
        means = [one[take].mean(1) for one in values]
        means[0] = means[0] + np.sqrt(shared) * rng.standard_normal(len(take))
        found.append(statistic(*means))
    ends = np.quantile(np.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(ends[0]), float(ends[1]), LEVEL, METHOD)


def of_mean(values: Matrix, rng: np.random.Generator) -> Interval | Absent:
    """Return the interval of the mean over references and draws."""
    shared = spread(values).shared / len(values) if values.shape[1] > 1 else 0.0
    return percentile(lambda mean: mean, values.mean(0), rng=rng, shared=shared)
