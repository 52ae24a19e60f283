"""Nulls in words, also those of so few draws that they have no percentiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interp.scores import Absent, Null

FEWEST = 20
"""Draws below which the range of a null is said, and the best rank that it allows."""


def rank_in_words(place: int, of: int) -> str:
    """Say a rank among random explanations; with few of them, the best rank that there is.

    Args:
        place: From 1, the best.
        of: The random ones, and the one that is ranked.
    """
    if of > FEWEST:
        return f"rank {place} of {of}"
    best = "the best possible" if place == 1 else f"where 1 of {of} is the best possible"
    return f"rank {place} of {of}, {best} with {_draws(of - 1)}"


def ends(draws: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the 5th and 95th percentile, of few draws the least and the largest."""
    low, high = np.quantile(draws, (0.05, 0.95) if len(draws) >= FEWEST else (0, 1)).tolist()
    return low, high


def null(name: str, draws: Sequence[float] | np.ndarray, place: int) -> Null | Absent:
    """Return a null with its percentiles; of few draws their range and rank in words."""
    low, high = ends(draws)
    if len(draws) >= FEWEST:
        return Null(name, low, float(np.median(draws)), high, len(draws))
    n = len(draws)
    found = f"they range from {low:.3g} to {high:.3g}"
    if low == high:
        found = f"it is {low:.3g}" if n == 1 else f"all are {low:.3g}"
    few = "is too few" if n == 1 else "are too few"
    return Absent(
        f"{_draws(n)} {few} for percentiles of {name}: {found}; {rank_in_words(place, n + 1)}"
    )


def _draws(n: int) -> str:
    return f"{n} draw" if n == 1 else f"{n} draws"
