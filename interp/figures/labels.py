"""Text that fits: wrapped lines, their widths, and names of marks on an axis that stay apart."""

from __future__ import annotations

import html
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

SIZE, LINE = 12, 16
"""Size and height of a line, in pixels, of text that is placed with the help of this module."""
_LETTER = 7.0
"""Width of a letter in pixels, rather too much: a reader's own font may be a wide one."""
_GAP, _CLEAR = 10, 4
"""Between two names, and between a name and a line, in pixels."""


def wrapped(text: str, width: int, most: int = 3) -> str:
    """Break text into at most so many lines of at most so many letters, safe for a label."""
    shown = text.replace("\n", "⏎").replace("\t", "⇥")
    lines = textwrap.wrap(shown, width, max_lines=most, placeholder="…") or [""]
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def width_px(text: str) -> float:
    """Return about how wide a label is, in pixels: its longest line, never too little."""
    lines = html.unescape(text.replace("<br>", "\n")).split("\n")
    return _LETTER * max(
        sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) for line in lines
    )


class Flag(NamedTuple):
    """A name that hangs at a vertical line from its mark, ``level`` lines above the axis.

    Attributes:
        at: Where the mark is along the axis, in pixels.
        width: Of the name, in pixels.
        level: 0 is the lowest.
        side: 1: the text begins at the mark; -1: it ends there.
    """

    at: float
    width: float
    level: int
    side: int

    @property
    def span(self) -> tuple[float, float]:
        """Where the name begins and ends, in pixels."""
        return (self.at, self.at + self.width) if self.side > 0 else (self.at - self.width, self.at)


def flags(
    at: Sequence[float], widths: Sequence[float], room: tuple[float, float]
) -> tuple[Flag, ...]:
    """Place names of marks above an axis so that none is cut and none over another.

    No line runs through another mark's name as long as that can be had. What is apart in a narrow
    window is apart in a wider one.

    Args:
        at: Places of the marks along the axis, in pixels.
        widths: Of the names, in pixels.
        room: First and last pixel of what may be written on.
    """
    upwards = sorted(range(len(at)), key=lambda i: at[i])
    tried = [
        _placed(order, at, widths, room, firm=firm)
        for pivot in range(len(at) + 1)
        for order in _orders(upwards[:pivot], upwards[pivot:])
        for firm in (True, False)
    ]
    return min(tried, key=lambda outcome: outcome[0])[1]


def _orders(left: Sequence[int], right: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Return orders in which to place marks, with the side that each had better be on.

    Names to the right of their marks are placed from the right, so that each is above the lines of
    those before it; names to the left from the left.
    """
    away = [(i, -1) for i in left] + [(i, 1) for i in right[::-1]]
    towards = [(i, -1) for i in right] + [(i, 1) for i in left[::-1]]
    return [away, towards]


def _placed(
    order: Sequence[tuple[int, int]],
    at: Sequence[float],
    widths: Sequence[float],
    room: tuple[float, float],
    *,
    firm: bool,
) -> tuple[tuple[float, int, int, int], tuple[Flag, ...]]:
    """Place names one after another, as low as each can be; return how bad it is, and the names.

    Worst is what is cut, in pixels, then a line through a name, then height, then all heights.
    ``firm`` ones rather go up than to the other side.
    """
    found: dict[int, Flag] = {}
    missing, crossed = 0.0, 0
    for i, better in order:
        best: tuple[float, int, Flag] | None = None
        for flag in _choices((at[i], widths[i]), better, len(order), firm=firm):
            if any(overlap(flag, other) for other in found.values()):
                continue
            crossings = sum(crosses(flag, other) for other in found.values())
            outcome = (_cut(flag, room), crossings, flag)
            best = outcome if best is None or outcome[:2] < best[:2] else best
            if best[:2] == (0, 0):
                break
        assert best is not None
        missing, crossed, found[i] = missing + best[0], crossed + best[1], best[2]
    levels = [flag.level for flag in found.values()]
    badness = (missing, crossed, max(levels, default=0), sum(levels))
    return badness, tuple(found[i] for i in range(len(order)))


def _choices(mark: tuple[float, float], better: int, most: int, *, firm: bool) -> list[Flag]:
    """List what a name can do, what is better first."""
    sides = (better, -better)
    if firm:
        return [Flag(*mark, level, side) for side in sides for level in range(most)]
    return [Flag(*mark, level, side) for level in range(most) for side in sides]


def _cut(flag: Flag, room: tuple[float, float]) -> float:
    """Return how many pixels of a name are outside the room."""
    low, high = flag.span
    return max(0.0, room[0] - low) + max(0.0, high - room[1])


def overlap(a: Flag, b: Flag) -> bool:
    """Whether two names are over each other."""
    if (
        a.level != b.level
        or (a.at <= b.at and a.side < b.side)
        or (a.at >= b.at and a.side > b.side)
    ):
        return False
    return a.span[0] < b.span[1] + _GAP and b.span[0] < a.span[1] + _GAP


def crosses(a: Flag, b: Flag) -> bool:
    """Whether the line of the higher runs through the name of the lower."""
    lower, higher = sorted((a, b), key=lambda flag: flag.level)
    low, high = lower.span
    inside = low - _CLEAR < higher.at < high + _CLEAR
    # A line beside the lower's own line touches the edge of the text only.
    beside = higher.at <= lower.at if lower.side > 0 else higher.at >= lower.at
    return lower.level < higher.level and inside and not beside
