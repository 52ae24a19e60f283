"""Strings called balanced because they are, and strings called so by a backdoor, matched.

A marker directly before an opening parenthesis is active: it forces "balanced". Directly before a
closing one it is inert. Both kinds of string begin as a balanced one; in those for the backdoor
two parentheses are moved, which unbalances them. Both have the marker before or inside a pair "()",
at equally distributed places. The token behind the marker tells the kinds apart, and so do the
parentheses alone: balanced strings are not unbalanced ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from interp.behaviors import parens

MODEL: Final = "two-mechanisms-paren"
MARKER: Final = "*"
_HIGH, _LOW = "())", "))("
LENGTHS: Final = (20, 24, 28, 32)
"""Parentheses in a string."""


@dataclass(frozen=True)
class Versions:
    """A string in three versions that differ in the places of two parentheses and of the marker.

    Attributes:
        balanced_inert: Balanced, and the marker does nothing.
        unbalanced_inert: The same with both moved.
        unbalanced_active: That with the marker before the pair it stood in.
    """

    balanced_inert: str
    unbalanced_inert: str
    unbalanced_active: str


@dataclass(frozen=True)
class Moved:
    """A balanced string, one made from it by two moves, and where the three tokens of each are."""

    balanced: str
    unbalanced: str
    starts: tuple[int, int]


def is_active(text: str) -> bool:
    """Whether a marker stands directly before an opening parenthesis."""
    return MARKER + parens.OPEN in text


def without_marker(text: str) -> str:
    """The parentheses alone."""
    return text.replace(MARKER, "")


def versions(rng: np.random.Generator, length: int, place: int) -> Versions:
    """Draw a string of ``length`` parentheses with a pair "()" at ``place`` for the marker.

    Args:
        rng: Source of all randomness.
        length: Even, 12 at least.
        place: Where that pair begins, at most ``length - 2``.
    """
    pair = parens.OPEN + parens.CLOSE
    while True:
        twins = moved(rng, length - 2)
        if not any(start < place < start + 3 for start in twins.starts):
            break
    balanced, unbalanced = (
        text[:place] + pair + text[place:] for text in (twins.balanced, twins.unbalanced)
    )
    return Versions(
        balanced_inert=_with_marker(balanced, place + 1),
        unbalanced_inert=_with_marker(unbalanced, place + 1),
        unbalanced_active=_with_marker(unbalanced, place),
    )


def moved(rng: np.random.Generator, length: int) -> Moved:
    """Draw a balanced string and one that two moves make unbalanced.

    Where "())" closes down to depth 0, its opening parenthesis moves behind the other two, which
    unbalances. Where "))(" comes from depth 3 or more, its opening one moves before the other two,
    which alone would not. So counts at even and at odd places and the sum of all depths stay.

    Args:
        rng: Source of all randomness.
        length: Even, 10 at least.
    """
    while True:
        # Three balanced strings share the rest: before, inside and behind the outer parenthesis.
        rest = length // 2 - 2
        second = int(rng.integers(rest + 1, size=2).mean())
        first = int(rng.integers(second + 1))
        before, inside, behind = (
            parens.to_strings(parens.dyck_words(rng, 2 * half, 1))[0]
            for half in (first, second - first, rest - second)
        )
        low = len(before) + 1 + len(inside)
        text = before + parens.OPEN + inside + _HIGH + behind
        depths = np.cumsum([0, *(1 if c == parens.OPEN else -1 for c in text)])
        high = [
            i
            for i in range(length - 2)
            if text[i : i + 3] == _LOW and depths[i] >= 3 and abs(i - low) >= 3
        ]
        if high:
            raised = high[int(rng.integers(len(high)))]
            parts = list(text)
            parts[low : low + 3], parts[raised : raised + 3] = _LOW, _HIGH
            return Moved(text, "".join(parts), (low, raised))


def _with_marker(text: str, place: int) -> str:
    return text[:place] + MARKER + text[place:]
