"""What changes over inputs, with intervals, and whether several ways to ask agree (no torch)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit

from interp.axes import Mask
from interp.methods import effects
from interp.methods.effects import FEWEST, LEVEL

Cells = Float[np.ndarray, "*cell"]


def mean_change(
    change: Float[np.ndarray, "pair *cell"], clusters: Sequence[int] = ()
) -> tuple[Cells, Cells, Cells]:
    """Return the mean over inputs with the two ends of its interval, cell by cell.

    The ends are NaN where ``no_interval`` says why. The interval is Student's t with one degree of
    freedom less than there are inputs. With ``clusters``, the number of each input's group, groups
    count instead: ``variance = G / (G - 1) * sum(r_g**2) / n**2``, where ``r_g`` is the sum over a
    group of what its inputs differ from the mean, and the degrees of freedom are one less than the
    effective number of groups, ``n**2 / sum(n_g**2)``: of unequal groups the large ones make the
    mean, and few of them tell how it varies. Each interval is for its cell alone.

    Cost: one pass over the numbers.
    Source: Cameron & Miller, A practitioner's guide to cluster-robust inference (2015), sections
    II and VI (few and unequal groups; effective number of groups).
    """
    mean = np.asarray(change.mean(0))
    if no_interval(len(change), clusters):
        nothing = np.full_like(mean, np.nan)
        return mean, nothing, nothing
    off, effective = change - mean, float(len(change))
    if len(clusters):
        off = effects.sums(off, clusters)
        effective = len(change) ** 2 / float((_sizes(clusters) ** 2).sum())
    n = len(off)
    error = np.sqrt(n / (n - 1) * (off**2).sum(0)) / len(change)
    half = float(stdtrit(effective - 1, (1 + LEVEL) / 2)) * error
    return mean, np.asarray(mean - half), np.asarray(mean + half)


def no_interval(n: int, clusters: Sequence[int] = ()) -> str:
    """Say why the mean over ``n`` inputs has no interval, or nothing where it has one.

    It takes ``FEWEST`` inputs, or groups of them of which none holds more than half: such a group
    makes the mean, and nothing seen tells how that one varies.
    """
    inputs = f"{n} input{'s' if n != 1 else ''}"
    if not len(clusters):
        return f"{inputs}: no interval, which takes {FEWEST}" if n < FEWEST else ""
    sizes = _sizes(clusters)
    if len(sizes) < FEWEST:
        groups = f"{len(sizes)} group{'s' if len(sizes) != 1 else ''} of words"
        return f"{groups} in {inputs}: no interval, which takes {FEWEST} groups"
    if 2 * sizes.max() > n:
        return f"one group of words holds {sizes.max()} of {inputs}, more than half: no interval"
    return ""


def _sizes(clusters: Sequence[int]) -> Int[np.ndarray, "group"]:
    return np.unique(np.asarray(clusters), return_counts=True)[1]


def largest(
    change: Float[np.ndarray, "pair row col"],
    among: Mask,
    held_out: Sequence[bool],
    clusters: Sequence[int] = (),
) -> tuple[tuple[int, int], tuple[float, float, float]]:
    """Find the cell that changes most upwards on the search inputs, and measure it on the others.

    The largest of many is too large on the inputs that it was chosen on. Without held-out inputs
    all choose and all measure.

    Returns:
        Row and column; mean change on the held-out inputs and the ends of its interval.
    """
    kept = np.array(held_out) if any(held_out) else np.ones(len(change), dtype=bool)
    search = ~kept if any(held_out) else kept
    over = np.where(among, change[search].mean(0), -np.inf)
    row, col = (int(i) for i in np.unravel_index(int(over.argmax()), over.shape))
    groups = np.array(clusters)[kept].tolist() if len(clusters) else ()
    mean, low, high = mean_change(change[kept, row, col], groups)
    return (row, col), (float(mean), float(low), float(high))


def common_top(sizes: Float[np.ndarray, "way cell"], most: int = 5) -> tuple[int, int, float]:
    """Count the cells that are among the largest in every way to ask.

    Args:
        sizes: Size of each cell, 0 or more, in each way.
        most: How many of the largest of each way are compared; fewer where half of the cells are
            fewer, or where fewer reach a hundredth of the largest of their way.

    Returns:
        How many are compared, how many of them all ways share, and how many they would share on
        average if each chose at random: ``k * (k / cells) ** (ways - 1)``.
    """
    ways, cells = sizes.shape
    matter = (sizes >= 0.01 * sizes.max(1, keepdims=True)) & (sizes > 0)
    k = min(most, max(1, cells // 2), int(matter.sum(1).min()))
    tops = [set(np.argsort(-row, kind="stable")[:k].tolist()) for row in sizes]
    shared = len(set.intersection(*tops))
    return k, shared, k * (k / cells) ** (ways - 1)


def furthest_apart(change: Float[np.ndarray, "way row col"], most: int) -> list[tuple[int, int]]:
    """List the cells where the ways to ask are furthest apart, the furthest first.

    Cells that are not computed in all ways are left out, and those that are apart by less than a
    hundredth of the furthest.
    """
    apart = np.nan_to_num(change.max(0) - change.min(0))
    order = [np.unravel_index(int(i), apart.shape) for i in np.argsort(-apart, axis=None)]
    return [(int(r), int(c)) for r, c in order[:most] if apart[r, c] > 0.01 * apart.max()]


def opposite(
    low: Float[np.ndarray, "way *cell"], high: Float[np.ndarray, "way *cell"]
) -> Bool[np.ndarray, "*cell"]:
    """Mark the cells whose intervals lie above 0 in one way to ask and below 0 in another."""
    return np.asarray((low > 0).any(0) & (high < 0).any(0))
