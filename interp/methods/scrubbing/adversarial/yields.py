"""Shares of inputs on which a model errs, with intervals, and their ratios (numpy only).

Source: Wilson (1927) for a share; Donner and Zou (2012), "Closed-form confidence intervals for
functions of the normal mean and standard deviation", for the ratio of two shares from the intervals
of both. Edits and searches make many inputs of one start: their number is divided by the design
effect of Kish (1965).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95


def independent(errors: ArrayLike, asked: ArrayLike) -> float:
    """Return how many independent inputs clusters of inputs are worth, at most as many as asked.

    Args:
        errors: Errors in each cluster.
        asked: Inputs of each.

    Returns:
        ``n`` over the design effect. Without any errors nothing tells how alike the inputs of a
        cluster are, and each cluster counts once.
    """
    wrong, size = np.asarray(errors, float), np.asarray(asked, float)
    wrong, size = wrong[size > 0], size[size > 0]
    n, clusters = float(size.sum()), len(size)
    if clusters == n:
        return n
    p = float(wrong.sum()) / n if n else 0.0
    if clusters < 2 or not 0 < p < 1:
        return float(clusters)
    between = clusters / (clusters - 1) * float(((wrong - p * size) ** 2).sum()) / n**2
    return min(n, max(p * (1 - p) / between, 1.0)) if between else n


Share = tuple[float, float, float]
"""A share and the ends of its interval."""


def ratio(top: Share, bottom: Share) -> Share:
    """Return the ratio of two independent shares with its interval.

    The upper end is infinite where the lower share may be 0; the ratio is not a number where both
    are 0.
    """
    (p, p_low, p_high), (q, q_low, q_high) = top, bottom
    value = p / q if q else (math.inf if p else math.nan)
    low = 0.0
    if p > 0:
        inner = (p * q) ** 2 - p_low * q_high * (2 * p - p_low) * (2 * q - q_high)
        # Written so that nothing vanishes below the line where q_high is 2 q.
        low = p_low * (2 * p - p_low) / (p * q + math.sqrt(max(inner, 0.0)))
    inner = (p * q) ** 2 - p_high * q_low * (2 * p - p_high) * (2 * q - q_low)
    below = q_low * (2 * q - q_low)
    high = (p * q + math.sqrt(max(inner, 0.0))) / below if below else math.inf
    return value, low, high


def rank(value: float, null: Sequence[float]) -> float:
    """Return the share of a null that is at least as large, the value itself counted with it."""
    return (1 + sum(other >= value for other in null)) / (1 + len(null))
