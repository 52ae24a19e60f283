"""Is any cell of a map different from 0? One band for all cells at once (numpy only).

An interval of each cell by itself leaves 0 out in one cell of twenty that do nothing. The band here
is as wide as the largest of all cells needs: in 95 of 100 maps whose cells do nothing, every cell's
band has 0 in it.

With ``d = shift - effect * gap``, a pair's part of what is left of a cell, the signs of all cells'
parts are flipped together, pair by pair at random; each flip gives every cell a Student's t, and
the largest of them is kept. The band is the effect plus or minus its standard error times the
95th percentile of these. Cells keep their correlation, so no count of cells enters.

It assumes that pairs vary symmetrically around their mean; for very skewed ones (exponential) it
is far too narrow. ``docs/how-to/activation_patching.md`` has what was simulated.

Source: Westfall & Young, Resampling-Based Multiple Testing (1993), section 2.3 (max-T); Romano &
Wolf, Econometrica 73 (2005), section 4 (bands by inversion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.axes import Grid, Mask, PairGrid, PerPair
from interp.methods import effects

FLIPS = 2000
FEWEST = 6
"""Groups of pairs below which there is no band: 5 pairs have 16 different flips of signs."""
_BLOCK = 4000
"""Cells whose flips are held at once."""


@dataclass(frozen=True)
class Band:
    """A band for all tested cells at once; NaN elsewhere.

    Attributes:
        low: Lower end of each cell.
        high: Upper end.
        tested: Cells that were tested.
        times: How many standard errors its half is wide.
    """

    low: Grid
    high: Grid
    tested: Mask
    times: float

    @property
    def different(self) -> Mask:
        """Cells whose band does not have 0 in it."""
        return self.tested & ((self.low > 0) | (self.high < 0))


def band(
    values: PairGrid,
    clean: PerPair,
    corrupted: PerPair,
    direction: str,
    rng: np.random.Generator,
    *,
    tested: Mask,
    rounding: float,
    clusters: Sequence[int] = (),
) -> Band | None:
    """Return the simultaneous 95 % band of the effects of all tested cells.

    Args:
        values: Metric of each pair with each patch.
        clean: Metric of each clean run.
        corrupted: Metric of each corrupted run.
        direction: "denoising" or "noising".
        rng: Randomness of the flips.
        tested: Cells that could matter and that are computed.
        rounding: Effect that rounding alone can give; no band is narrower.
        clusters: Number of each pair's group of words, where pairs are not independent: signs are
            flipped by group.

    Returns:
        The band, or None for fewer than ``FEWEST`` groups or where no cell is tested.

    Cost: ``FLIPS x groups x cells`` multiply-adds.
    """
    base = corrupted if direction == "denoising" else clean
    gap = (clean - corrupted) * (1 if direction == "denoising" else -1)
    shift = values[:, tested] - base[:, None]
    if len(clusters):
        shift, gap = effects.sums(shift, clusters), effects.sums(gap, clusters)
    n = len(gap)
    if n < FEWEST or not tested.any():
        return None
    effect = shift.sum(0) / gap.sum()
    left = shift - effect * gap[:, None]
    signs = rng.choice([-1.0, 1.0], size=(FLIPS, n))
    largest = np.zeros(FLIPS)
    for start in range(0, left.shape[1], _BLOCK):
        largest = np.maximum(largest, _t(signs, left[:, start : start + _BLOCK]).max(1))
    times = float(np.quantile(largest, effects.LEVEL))
    error = np.sqrt((left**2).sum(0) / (n - 1) / n) / abs(float(gap.mean()))
    half = np.maximum(times * error, rounding)
    low, high = np.full(tested.shape, np.nan), np.full(tested.shape, np.nan)
    low[tested], high[tested] = effect - half, effect + half
    return Band(low, high, tested, times)


def _t(signs: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Return the size of Student's t of each cell under each flip; 0 where nothing varies."""
    n = len(left)
    mean = signs @ left / n
    spread = np.sqrt(np.maximum((left**2).sum(0) / n - mean**2, 0.0) / (n - 1))
    flat = spread <= 1e-12 * np.abs(left).max(0, initial=0.0)
    # All signs alike: the mean is the whole, and t has no end.
    ends = np.where(np.abs(mean) > 0, np.inf, 0.0)
    return np.where(flat, ends, np.abs(mean) / np.where(flat, 1.0, spread))
