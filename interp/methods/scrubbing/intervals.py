"""Intervals of scrubbed estimates: over reference inputs, with their draws (torch-free).

Every reference has draws of its own, so draws are nested in references: resampling references
carries the noise of their draws along. Resampling references and draws independently instead would
count the noise of single draws three times. Inputs made of the same words are resampled together.

The inputs that are drawn from count as given: another sample of them would give other losses too.

Source: Owen, "The pigeonhole bootstrap" (2007), for what independent resampling of both counts;
Efron and Tibshirani, An Introduction to the Bootstrap (1993), for percentile intervals;
Wilson (1927) for shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

from interp.scores import Absent, Interval

Matrix = Float[np.ndarray, "draw ref"]
PerRef = Float[np.ndarray, "ref"]
LEVEL = 0.95
RESAMPLES = 1000
FEWEST = 20
"""References below which no interval is given."""
_AT_ONCE = 100
METHOD = "bootstrap over references with their draws, from these inputs"


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
    groups: Int[np.ndarray, "some"] | None = None,
) -> Interval | Absent:
    """Return the percentile interval of a function of means over references.

    Args:
        statistic: From the resampled means of each of ``values`` to the statistic, elementwise.
        values: One number a reference, their draws averaged; resampled together.
        rng: Source of the resamples.
        groups: Group of each reference that is not independent of others; None or empty: all are.

    Cost: ``RESAMPLES x references`` numbers for each of ``values``.
    """
    of = np.arange(len(values[0])) if groups is None or not len(groups) else groups
    codes = np.unique(of, return_inverse=True)[1].reshape(-1)
    n = int(codes.max()) + 1 if len(codes) else 0
    if n < FEWEST:
        what = "references" if n == len(codes) else "groups of references"
        return Absent(f"{n} {what} are too few for an interval; {FEWEST} are the least")
    sizes = np.bincount(codes)
    sums = [np.bincount(codes, one) for one in values]
    found: list[np.ndarray] = []
    for start in range(0, RESAMPLES, _AT_ONCE):
        take = rng.integers(n, size=(min(_AT_ONCE, RESAMPLES - start), n))
        members = sizes[take].sum(1)
        found.append(statistic(*(one[take].sum(1) / members for one in sums)))
    ends = np.quantile(np.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    method = METHOD if n == len(codes) else f"{METHOD}, in {n} groups that share words"
    return Interval(float(ends[0]), float(ends[1]), LEVEL, method)


def of_mean(
    values: Matrix, rng: np.random.Generator, groups: Int[np.ndarray, "some"] | None = None
) -> Interval | Absent:
    """Return the interval of the mean over references and draws."""
    return percentile(lambda mean: mean, values.mean(0), rng=rng, groups=groups)


def wilson(errors: float | int, n: float | int, level: float = LEVEL) -> tuple[float, float]:
    """Return Wilson's interval of a share; 0 to 1 where nothing was asked."""
    if n <= 0:
        return 0.0, 1.0
    z = float(ndtri(0.5 + level / 2))
    p = errors / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return (0.0 if errors <= 0 else low), (1.0 if errors >= n else high)
