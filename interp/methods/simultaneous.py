"""Is any cell of a map different from 0? One band for all cells at once (numpy only).

An interval of each cell by itself leaves 0 out in one cell of twenty that do nothing. The band here
is as wide as the largest of all cells needs: in 95 of 100 maps whose cells do nothing, every cell's
band has 0 in it.

A patch that does nothing shifts a pair's metric up as often as down. So the signs of all cells'
shifts are flipped together, pair by pair at random; each flip gives every cell an effect over its
standard error, and the largest of them is kept. The band is the effect plus or minus its standard
error times the 95th percentile of these. Cells keep their correlation, so no count of cells
enters; gaps stay as they are, so pairs and groups may be of any size.

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
_STEADY = 4.0
"""Standard errors that the mean gap must be from 0: the band takes it as given."""


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
        The band, or None for fewer than ``FEWEST`` groups, an unsteady gap, or no tested cell.

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
    if abs(float(gap.mean())) <= _STEADY * float(gap.std(ddof=1)) / np.sqrt(n):
        return None
    signs = rng.choice([-1.0, 1.0], size=(FLIPS, n))
    largest = np.zeros(FLIPS)
    for start in range(0, shift.shape[1], _BLOCK):
        effect, error = _ratio(signs, shift[:, start : start + _BLOCK], gap)
        with np.errstate(divide="ignore", invalid="ignore"):
            times_each = np.where(effect == 0, 0.0, np.abs(effect) / error)
        largest = np.maximum(largest, times_each.max(1))
    times = float(np.quantile(largest, effects.LEVEL))
    effect, error = (found[0] for found in _ratio(np.ones((1, n)), shift, gap))
    half = np.maximum(np.nan_to_num(times * error), rounding)
    low, high = np.full(tested.shape, np.nan), np.full(tested.shape, np.nan)
    low[tested], high[tested] = effect - half, effect + half
    return Band(low, high, tested, times)


def _ratio(signs: np.ndarray, shift: np.ndarray, gap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the effect of each cell under each flip, and its standard error as a ratio of means.

    What is left of a pair is its flipped shift minus the effect times its gap; the sum of squares
    is multiplied out, so that no array of flips, pairs and cells is made.
    """
    n = len(gap)
    effect = signs @ shift / gap.sum()
    left = (shift**2).sum(0) - 2 * effect * ((signs * gap) @ shift) + effect**2 * (gap**2).sum()
    return effect, np.sqrt(np.maximum(left, 0.0) / (n - 1) / n) / abs(float(gap.mean()))
