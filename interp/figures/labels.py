"""Text that fits: wrapped lines, their widths, and names of marks on an axis that stay apart."""

from __future__ import annotations

import html
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SIZE, LINE = 12, 16
"""Size and height of a line of such text, in pixels."""
NARROW = 520
"""Pixels across that a figure has in the narrowest window, or beside a form in a wide one."""
_LETTER = 7.0
"""Width of a letter in pixels, rather too much: a reader's own font may be a wide one."""
_GAP, _CLEAR = 10, 4
"""Between two names, and between a name and a line, in pixels."""
_PIVOTS = 8
"""At most so many ways of splitting the marks into a left and a right part are tried, and one."""


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
    pivots = {round(share * len(at) / _PIVOTS) for share in range(_PIVOTS + 1)}
    tried = [
        _placed(order, at, widths, room, firm=firm)
        for pivot in sorted(pivots)
        for order in _orders(upwards[:pivot], upwards[pivot:])
        for firm in (True, False)
    ]
    return min(tried, key=lambda outcome: outcome[0])[1]


def _orders(left: Sequence[int], right: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Return orders in which to place marks, with the side that each had better be on.

    Names to the right of their marks are placed from the right, so that each is above the lines of
    those before it; names to the left from the left.
    """
    return [
        [(i, -1) for i in west] + [(i, 1) for i in east[::-1]]
        for west, east in ((left, right), (right, left))
    ]


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
        highest = max((flag.level for flag in found.values()), default=-1) + 1
        for flag in _choices((at[i], widths[i]), better, highest, firm=firm):
            crossings = _crossings(flag, found.values())
            if crossings is None:
                continue
            outcome = (_cut(flag, room), crossings, flag)
            best = outcome if best is None or outcome[:2] < best[:2] else best
            if best[:2] == (0, 0):
                break
        # One level above all others nothing is in the way.
        assert best is not None
        missing, crossed, found[i] = missing + best[0], crossed + best[1], best[2]
    placed = tuple(found[i] for i in range(len(order)))
    levels = [0, *(flag.level for flag in placed)]
    return (missing, crossed, max(levels), sum(levels)), placed


def _choices(mark: tuple[float, float], better: int, highest: int, *, firm: bool) -> list[Flag]:
    """List what a name can do, what is better first."""
    sides, levels = (better, -better), range(highest + 1)
    each = [Flag(*mark, level, side) for side in sides for level in levels]
    return each if firm else sorted(each, key=lambda flag: flag.level)


def _cut(flag: Flag, room: tuple[float, float]) -> float:
    """Return how many pixels of a name are outside the room."""
    low, high = flag.span
    return max(0.0, room[0] - low) + max(0.0, high - room[1])


def _crossings(flag: Flag, others: Iterable[Flag]) -> int | None:
    """Count the lines that would run through other marks' names; None if names would overlap."""
    at, _, level, side = flag
    low, high = flag.span
    crossings = 0
    for other in others:
        begin, end = other.span
        if other.level == level:
            apart = (at <= other.at and side < other.side) or (at >= other.at and side > other.side)
            if not apart and low < end + _GAP and begin < high + _GAP:
                return None
        # A line that is on its own side of the text's mark only touches the edge of the text.
        elif other.level < level:
            crossings += (at - other.at) * other.side > 0 and begin - _CLEAR < at < end + _CLEAR
        else:
            crossings += (other.at - at) * side > 0 and low - _CLEAR < other.at < high + _CLEAR
    return crossings
