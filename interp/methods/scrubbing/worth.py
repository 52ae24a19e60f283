"""Whether a higher score goes with more success downstream, over many hypotheses (torch-free).

All correlations are of ranks. Hypotheses may be compared *within* kinds, so that right ones beating
random ones counts for nothing, and for equal *bits*. Some share their success because nothing that
it depends on tells them apart: these are one group, and groups are what is resampled.

Source: Spearman (1904) for rank correlation; Kendall and Stuart, The Advanced Theory of Statistics,
vol. 2, for the partial one; Efron and Tibshirani (1993) for percentile intervals over clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.scores import Absent, Anchor, Interval, Null, Score

Values = Float[np.ndarray, "hypothesis"]
Groups = Int[np.ndarray, "hypothesis"]
Weights = Float[np.ndarray, "resample hypothesis"]
LEVEL, RESAMPLES = 0.95, 1000
FEWEST = 8
"""Groups below which nothing is said."""
METHOD = "bootstrap over hypotheses"
_ROUNDING = 1e-9
_AT_ONCE = 50
_DEGENERATE = 0.5
"""Share of resamples without a correlation above which there is no interval."""


@dataclass(frozen=True, eq=False)
class Compared:
    """What is correlated.

    Attributes:
        score: The scrubbed score, larger is better.
        success: Success downstream, larger is better.
        group: Hypotheses of one number have their success from one computation.
        stratum: Only hypotheses of one number are compared with each other; None: all are.
        bits: What is held constant; None: nothing.
    """

    score: Values
    success: Values
    group: Groups
    stratum: Groups | None = None
    bits: Values | None = None

    def some(self, at: Bool[np.ndarray, "hypothesis"]) -> Compared:
        """Return some of the hypotheses."""
        return Compared(
            self.score[at],
            self.success[at],
            self.group[at],
            None if self.stratum is None else self.stratum[at],
            None if self.bits is None else self.bits[at],
        )

    @property
    def known(self) -> Compared:
        """Those that have both numbers."""
        return self.some(np.isfinite(self.score) & np.isfinite(self.success))

    @property
    def strata(self) -> Groups:
        """The stratum of each: one for all where there are none."""
        return np.zeros(len(self.score), np.int64) if self.stratum is None else self.stratum


def correlation(compared: Compared) -> float:
    """Return the rank correlation; NaN where one side does not vary."""
    return float(_weighted(compared, np.ones((1, len(compared.score))))[0])


def _weighted(
    compared: Compared,
    weights: Weights,
    success: Float[np.ndarray, "resample hypothesis"] | None = None,
) -> Float[np.ndarray, "resample"]:
    """Return the correlation where each hypothesis is there so many times.

    Args:
        compared: The hypotheses.
        weights: How many times each is there, for every resample.
        success: Success in every resample, if it is not the same in all.
    """
    same = compared.strata[:, None] == compared.strata
    x = _ranks(compared.score, weights, same)
    y = _ranks(compared.success, weights, same) if success is None else _all_ranks(success, same)
    between = _pearson(x, y, weights)
    if compared.bits is None:
        return between
    z = _ranks(compared.bits, weights, same)
    xz, yz = _pearson(x, z, weights), _pearson(y, z, weights)
    # Where bits do not vary there is nothing to hold constant.
    xz, yz = np.nan_to_num(xz), np.nan_to_num(yz)
    left = np.maximum(1 - xz**2, 0) * np.maximum(1 - yz**2, 0)
    return np.divide(
        between - xz * yz, np.sqrt(left), out=np.full(len(left), np.nan), where=left > _ROUNDING
    )


def _ranks(
    values: Values, weights: Weights, same: Bool[np.ndarray, "hypothesis hypothesis"]
) -> Float[np.ndarray, "resample hypothesis"]:
    """Return midranks among those of the same stratum, as shares of them less one half."""
    below = (values < values[:, None]) + 0.5 * (values == values[:, None])
    return (weights @ (below * same).T) / np.maximum(weights @ same.T, _ROUNDING) - 0.5


def _all_ranks(
    values: Float[np.ndarray, "resample hypothesis"],
    same: Bool[np.ndarray, "hypothesis hypothesis"],
) -> Float[np.ndarray, "resample hypothesis"]:
    """Return midranks as ``_ranks`` does, of values that differ in every resample."""
    found: list[np.ndarray] = []
    for start in range(0, len(values), _AT_ONCE):
        one = values[start : start + _AT_ONCE]
        across, down = one[:, None, :], one[:, :, None]
        below = ((across < down) + 0.5 * (across == down)) * same
        found.append(below.sum(2) / same.sum(1) - 0.5)
    return np.concatenate(found)


def _pearson(
    x: Float[np.ndarray, "resample hypothesis"],
    y: Float[np.ndarray, "resample hypothesis"],
    weights: Weights,
) -> Float[np.ndarray, "resample"]:
    """Return the correlation of centred ranks; weighted ranks of a stratum have the mean 0."""
    across = (weights * x * y).sum(1)
    size = np.sqrt((weights * x**2).sum(1) * (weights * y**2).sum(1))
    return np.divide(across, size, out=np.full(len(size), np.nan), where=size > _ROUNDING)


def interval(compared: Compared, rng: np.random.Generator) -> Interval | Absent:
    """Return the percentile interval of the correlation over resampled groups.

    Cost: ``RESAMPLES x hypotheses^2`` multiply-adds, three times.
    """
    _, group = np.unique(compared.group, return_inverse=True)
    n = int(group.max()) + 1
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)[:, group].astype(float)
    found = _weighted(compared, weights)
    found = found[np.isfinite(found)]
    if len(found) < _DEGENERATE * RESAMPLES:
        return Absent("in most resamples one of the two does not vary")
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Interval(low, high, LEVEL, METHOD)


def permuted(
    compared: Compared, rng: np.random.Generator, times: int = RESAMPLES
) -> Float[np.ndarray, "permutation"]:
    """Return correlations with successes exchanged between groups at random, within strata."""
    cells, first, cell = np.unique(
        np.stack([compared.strata, compared.group]), axis=1, return_index=True, return_inverse=True
    )
    cell = cell.reshape(-1)
    values = np.tile(compared.success[first], (times, 1))
    for stratum in np.unique(cells[0]):
        own = np.flatnonzero(cells[0] == stratum)
        values[:, own] = rng.permuted(values[:, own], axis=1)
    return _weighted(compared, np.ones((times, len(cell))), values[:, cell])


def score_of(name: str, compared: Compared, rng: np.random.Generator) -> Score | Absent:
    """Return the correlation with its scale, or why there is none."""
    compared = compared.known
    groups = len(np.unique(compared.group))
    if groups < FEWEST:
        return Absent(f"{groups} independent hypotheses are too few; {FEWEST} are the least")
    value = correlation(compared)
    if not np.isfinite(value):
        return Absent("all have the same score, or the same success")
    null = permuted(compared, rng)
    null = null[np.isfinite(null)]
    low, median, high = np.quantile(null, [0.05, 0.5, 0.95]).tolist()
    return Score(
        name=name,
        value=value,
        unit="rank correlation",
        n=len(compared.score),
        floor=Anchor("no association", 0.0),
        ceiling=Anchor("the same order", 1.0),
        constant=Absent("a correlation has no constant guess"),
        null=Null("successes exchanged at random", low, median, high, len(null)),
        interval=interval(compared, rng),
        held_out=Absent("hypotheses were made by rules, none was chosen by its score"),
    )
