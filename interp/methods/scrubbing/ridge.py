"""A ridge classifier in closed form: least squares on one-hot targets (no torch).

Source: Hoerl & Kennard (1970) for ridge regression; Allen (1974) for the leave-one-out error,
``residual / (1 - leverage)``, which chooses the penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Squared weight of one standard deviation, relative to the number of training inputs."""
_VARIES = 1e-6
"""Spread of a column, relative to the largest number, below which it is rounding alone."""


@dataclass(frozen=True, eq=False)
class Basis:
    """Training and test inputs along the principal axes of the training inputs.

    Attributes:
        train: Orthogonal columns; centred, from columns of standard deviation 1.
        test: The test inputs on the same axes.
        power: Squared length of each training column.
    """

    train: Float[np.ndarray, "train axis"]
    test: Float[np.ndarray, "test axis"]
    power: Float[np.ndarray, "axis"]


def basis(
    train: Float[np.ndarray, "train column"], test: Float[np.ndarray, "test column"]
) -> Basis:
    """Standardise columns by the training inputs, drop constant ones, and turn to their axes.

    Cost: the eigenvectors of a symmetric matrix, inputs or columns wide, whichever are fewer.
    """
    scale = train.std(0)
    varies = scale > _VARIES * np.abs(train).max(initial=0.0)
    x, y = ((one[:, varies] - train[:, varies].mean(0)) / scale[varies] for one in (train, test))
    dual = x.shape[1] > len(x)
    power, axes = np.linalg.eigh(x @ x.T if dual else x.T @ x)
    kept = power > 1e-10 * max(power.max(initial=0.0), 1.0)
    power, axes = power[kept], axes[:, kept]
    if dual:
        axes = x.T @ axes / np.sqrt(power)
    return Basis(x @ axes, y @ axes, power)


def scores(
    of: Basis, codes: Int[np.ndarray, "train"], classes: int
) -> Float[np.ndarray, "test class"]:
    """Score the classes of the test inputs, with the penalty that leave-one-out finds best.

    The largest score is the class predicted.

    Args:
        of: The inputs.
        codes: Class of each training input, from 0.
        classes: Number of classes.
    """
    targets = np.eye(classes)[codes]
    mean, n = targets.mean(0), len(codes)
    along = of.train.T @ (targets - mean)
    best, found = np.inf, mean + of.test @ np.zeros_like(along)
    for penalty in PENALTIES:
        shrunk = 1 / (of.power + penalty * n)
        fitted = mean + of.train @ (shrunk[:, None] * along)
        leverage = 1 / n + (of.train**2 * shrunk).sum(1)
        error = float((((targets - fitted) / (1 - leverage)[:, None]) ** 2).sum())
        if error < best:
            best, found = error, mean + of.test @ (shrunk[:, None] * along)
    return found
