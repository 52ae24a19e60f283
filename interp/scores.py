"""A score and the scale without which it means nothing.

A *score* claims explanatory success. It is shown with a named floor and ceiling, the best
constant guess, a null distribution, an interval, the number of inputs, and its value on inputs
that were not used to choose it; whichever of these is missing says why (``Absent``).
A raw measurement (a probability, a logit difference) is not a score and needs only its unit.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Absent:
    """A part of the scale that is missing, and why."""

    reason: str


@dataclass(frozen=True)
class Anchor:
    """A named point of the scale, in the score's unit."""

    name: str
    value: float


@dataclass(frozen=True)
class Interval:
    """An interval, its confidence level (0 to 1) and how it was made."""

    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True)
class Null:
    """5th, 50th and 95th percentile of the score of ``n`` explanations taken at random."""

    name: str
    low: float
    median: float
    high: float
    n: int


@dataclass(frozen=True)
class Score:
    """One claim of success with its scale; ``value`` is unclipped, it may leave the scale.

    The interval belongs to the held-out value where there is one, else to ``value``.
    """

    name: str
    value: float
    unit: str
    n: int
    floor: Anchor
    ceiling: Anchor
    constant: Anchor | Absent
    null: Null | Absent
    interval: Interval | Absent
    held_out: Anchor | Absent
