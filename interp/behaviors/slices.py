"""Inputs split by a score of each, so that a mean over all can be read slice by slice.

A mean may hide two kinds of inputs. Any number an input has can split them: the gap between its
runs, the metric of one run, the length of its prompt, the effect of a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Real

from interp.errors import BadInput
from interp.scores import Absent, Interval

Scores = Real[np.ndarray, "input"]
SAME = 1e-6
"""Scores that differ by less, relative to their size, differ by rounding."""


@dataclass(frozen=True)
class Slice:
    """Inputs whose scores lie together.

    Attributes:
        label: The score's name with the range, e.g. "gap 0.50 to 1.25".
        low: Smallest score of a member; NaN in the slice of inputs without a score.
        high: Largest score of a member, likewise.
        members: Which inputs, counted from 0, ascending.
    """

    label: str
    low: float
    high: float
    members: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.members)


@dataclass(frozen=True)
class Measured:
    """What was measured on the inputs of a slice, with its interval or why there is none."""

    slice: Slice
    value: float
    interval: Interval | Absent


Measure = Callable[[np.ndarray], tuple[float, Interval | Absent]]
"""From the indices of some inputs to a number and its interval."""


def by_quantile(name: str, scores: Scores, parts: int) -> tuple[Slice, ...]:
    """Split inputs into up to ``parts`` slices of about equally many, lowest scores first.

    Equal scores, up to rounding, are never separated: there are fewer slices where many are equal.
    Inputs whose score is no number are the last slice. Every input is in exactly one slice.

    Args:
        name: What the score is, for labels.
        scores: One number an input.
        parts: How many slices, 1 or more.

    Raises:
        BadInput: ``parts`` is less than 1.
    """
    if parts < 1:
        raise BadInput(f"{parts} slices were asked for.", "", "Ask for 1 or more.")
    known = np.flatnonzero(np.isfinite(scores))
    order = known[np.argsort(scores[known], kind="stable")]
    ranked = scores[order]
    # A cut stands where the score rises: the nearest such place to where equal parts would end.
    rises = 1 + np.flatnonzero(np.diff(ranked) > SAME * np.maximum(1, np.abs(ranked[1:])))
    wanted = np.arange(1, parts) * len(order) / parts
    cuts = {int(rises[np.abs(rises - at).argmin()]) for at in wanted} if len(rises) else set[int]()
    return _sliced(name, scores, np.split(order, sorted(cuts)))


def by_threshold(name: str, scores: Scores, at: float) -> tuple[Slice, ...]:
    """Split inputs into those whose score is below ``at`` and the others; empty ones are left out.

    Inputs whose score is no number are the last slice. Every input is in exactly one slice.
    """
    known = np.isfinite(scores)
    below = np.flatnonzero(known & (scores < at))
    above = np.flatnonzero(known & (scores >= at))
    return _sliced(name, scores, [below, above])


def measured(slices: Sequence[Slice], measure: Measure) -> tuple[Measured, ...]:
    """Measure every slice by itself."""
    return tuple(Measured(s, *measure(np.array(s.members, dtype=int))) for s in slices)


def _sliced(name: str, scores: Scores, groups: Sequence[np.ndarray]) -> tuple[Slice, ...]:
    slices: list[Slice] = []
    for group in groups:
        if len(group):
            low, high = float(scores[group].min()), float(scores[group].max())
            label = f"{name} {_number(low)} to {_number(high)}"
            slices.append(Slice(label, low, high, tuple(int(i) for i in np.sort(group))))
    lost = tuple(int(i) for i in np.flatnonzero(~np.isfinite(scores)))
    if lost:
        slices.append(Slice(f"no {name}", float("nan"), float("nan"), lost))
    return tuple(slices)


def _number(value: float) -> str:
    """Write three significant digits, without a minus before zero."""
    return f"{value + 0.0:.3g}"
