"""One number on one scale: named anchors, other versions, and hypotheses at random beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from interp.figures import labels, theme

_LEFT, _RIGHT, _BOTTOM, _TOP = 190, 26, 52, 76
"""Margins in pixels; the names of the lanes stand in the left one."""
_ACROSS = labels.NARROW - _LEFT - _RIGHT
"""Pixels across in the narrowest window: what is apart there is apart everywhere."""
_ROOM = (8.0 - _LEFT, _ACROSS + _RIGHT - 4.0)
"""First and last pixel of what may be written on in the narrowest window."""
_LANE, _DOT = 50, 5.0
_LETTERS, _LONGEST = 25, 72
_THIS = "this hypothesis"
_STEPS = (5, 10, 20, 25, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Mark:
    """A named number, with the ends of its interval if it has one, and what to know about it.

    ``level`` is a number to compare it with that is its own: a bar across its lane.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    hint: str = ""
    level: Mark | None = None


@dataclass(frozen=True)
class Band:
    """A null: the same number for each of many explanations taken at random.

    ``note`` is said below the name in place of the number of draws, e.g. "better than 58 of 60".
    NaN draws are left out.
    """

    name: str
    draws: Float[np.ndarray, "draw"]
    note: str = ""


@dataclass(frozen=True)
class _Axis:
    """What is drawn in place, from ``low`` to ``high``; the unit; what is 0 % and what 100 %."""

    low: float
    high: float
    unit: str
    percent: tuple[Mark, Mark] | None

    def px(self, value: float) -> float:
        """Return the place of a value in the narrowest window, in pixels."""
        return _ACROSS * (self.clip(value) - self.low) / (self.high - self.low)

    def clip(self, value: float) -> float:
        return min(max(value, self.low), self.high)

    def told(self, value: float, interval: tuple[float, float] | None = None) -> str:
        """Write a number exactly, with its interval and what per cent it is."""
        text = f"{value:.4g}"
        text += f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else ""
        text += f" {theme.label(self.unit, 20)}"
        if self.percent is not None:
            zero, full = (end.value for end in self.percent)
            text += f", {100 * (value - zero) / (full - zero):.1f} % recovered"
        return text


def scale(
    value: float,
    interval: tuple[float, float] | None,
    anchors: Sequence[Mark],
    bands: Sequence[Band] = (),
    *,
    unit: str,
    title_of_x: str,
    versions: Sequence[Mark] = (),
    percent: tuple[Mark, Mark] | None = None,
    limits: tuple[float, float] | None = None,
    level: Mark | None = None,
) -> go.Figure:
    """Draw this hypothesis among everything that its number is to be compared with.

    From the top: the anchors' names on their line; this hypothesis; its other versions, a lane
    each; the nulls, a lane each, with a dot a draw, their 5 to 95 % and their median. Numbers
    beyond the limits stand at the edge with an arrow and are written out.

    Args:
        value: This hypothesis' number, in ``unit``; NaN if there is none yet.
        interval: Ends of its interval.
        anchors: Named points of the scale, in ``unit``; NaN ones are left out.
        bands: Nulls, in ``unit``.
        unit: Of every number, e.g. "nats".
        title_of_x: Title of the axis with unit and direction.
        versions: Other versions of the hypothesis, in ``unit``.
        percent: What is 0 % and what is 100 % recovered, for the axis above.
        limits: Least and largest value that is drawn in place. Otherwise, with ``percent``, as far
            beyond each of its two ends as they are apart; without, everything.
        level: What this hypothesis' number is compared with in its own lane.
    """
    anchors = [_sound(mark) for mark in anchors if math.isfinite(mark.value)]
    percent = percent if percent and _apart(*percent) else None
    this, *versions = map(_sound, (Mark(_THIS, value, interval, level=level), *versions))
    axis = _axis([this, *anchors, *versions, *(percent or ())], bands, limits, (unit, percent))
    figure = go.Figure()
    base = _anchors(figure, anchors, axis)
    lanes = [this, *versions, *bands]
    heights = [_high(lane) for lane in lanes]
    middles = base + np.cumsum([0, *heights[:-1]]) + np.array(heights) / 2 + 4
    depth = base + sum(heights) + 8
    for mark in anchors:
        _line(figure, axis.clip(mark.value), (base, depth), opacity=0.55)
    if math.isfinite(value):
        _line(figure, axis.clip(value), (base + _LANE / 2, depth), color=theme.POSITIVE)
    for i, (lane, at) in enumerate(zip(lanes, middles.tolist(), strict=True)):
        if isinstance(lane, Band):
            _band(figure, lane, axis, at)
        else:
            _dot(figure, lane, axis, at, symbol="circle-open" if i else "circle")
    figure.update_xaxes(title=title_of_x, range=[axis.low, axis.high], ticks="outside", nticks=6)
    figure.update_yaxes(visible=False, range=[depth, 0])
    top = _percents(figure, axis) if percent else 10
    theme.style(figure, height=int(top + depth + _BOTTOM))
    figure.update_xaxes(automargin=False)
    figure.update_layout(
        margin={"l": _LEFT, "r": _RIGHT, "t": top, "b": _BOTTOM, "autoexpand": False}
    )
    return figure


def _sound(mark: Mark) -> Mark:
    """Leave out an interval that is not known."""
    return (
        mark if mark.interval and np.isfinite(mark.interval).all() else replace(mark, interval=None)
    )


def _high(lane: Mark | Band) -> int:
    """Return the height of a lane in pixels: a band's name and note may need more."""
    return max(_LANE, labels.LINE * (1 + _said(lane).count("<br>")) + 8)


def _said(lane: Mark | Band) -> str:
    """Write the name of a lane as it stands beside it; of a long one the beginning."""
    if isinstance(lane, Mark):
        name = lane.name if len(lane.name) <= _LONGEST else lane.name[: _LONGEST - 1] + "…"
        return labels.wrapped(name, _LETTERS)
    return labels.wrapped(f"{lane.name},", _LETTERS, 2) + "<br>" + _noted(lane)


def _noted(band: Band) -> str:
    """Write what is said of a null: its note, or how many draws it has."""
    n = int(np.isfinite(band.draws).sum())
    return labels.wrapped(band.note or (f"n = {n}" if n else "none computed yet"), _LETTERS, 2)


def _apart(zero: Mark, full: Mark) -> bool:
    return math.isfinite(full.value - zero.value) and zero.value != full.value


def _axis(
    marks: Sequence[Mark],
    bands: Sequence[Band],
    limits: tuple[float, float] | None,
    rest: tuple[str, tuple[Mark, Mark] | None],
) -> _Axis:
    """Choose what is drawn in place."""
    marks = [*marks, *(mark.level for mark in marks if mark.level is not None)]
    ends = [end for mark in marks for end in (mark.value, *(mark.interval or ()))]
    every = np.array([*ends, *(x for band in bands for x in np.ravel(band.draws))], float)
    every = every[np.isfinite(every)]
    if limits is None and rest[1] is not None:
        low, high = sorted(end.value for end in rest[1])
        limits = low - (high - low), high + (high - low)
    if limits is not None:
        every = every[(limits[0] <= every) & (every <= limits[1])]
    low, high = (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)
    pad = 0.035 * (high - low) or 0.5 * abs(high) or 0.5
    return _Axis(low - pad, high + pad, *rest)


def _anchors(figure: go.Figure, anchors: Sequence[Mark], axis: _Axis) -> float:
    """Draw the anchors with their names; return how far below the top their line is."""
    names = [f"{theme.label(mark.name, 36)} {mark.value:.3g}" for mark in anchors]
    at = [axis.px(mark.value) for mark in anchors]
    placed = labels.flags(at, [labels.width_px(name) + 6 for name in names], _ROOM)
    base = 20.0 + labels.LINE * (1 + max((flag.level for flag in placed), default=0))
    for mark, name, flag in zip(anchors, names, placed, strict=True):
        x, y = axis.clip(mark.value), base - 12 - labels.LINE * (flag.level + 0.5)
        _line(figure, x, (y - 7, base), dash="solid")
        figure.add_annotation(
            x=x, y=y, text=name, showarrow=False, xshift=3 * flag.side, borderpad=0,
            xanchor="left" if flag.side > 0 else "right", font={"size": labels.SIZE},
        )  # fmt: skip
        _arrow(figure, mark.value, axis, base)
    figure.add_shape(
        type="line", x0=axis.low, x1=axis.high, y0=base, y1=base, line={"color": theme.NEUTRAL}
    )
    look = {"symbol": "line-ns-open", "size": 12, "color": theme.NEUTRAL}
    _points(figure, "anchors", anchors, (axis, base), look)
    return base


def _points(
    figure: go.Figure,
    name: str,
    marks: Sequence[Mark],
    at: tuple[_Axis, float],
    marker: dict[str, Any],
) -> None:
    """Draw marks on one line, with exact numbers on hover."""
    axis, y = at
    ends = np.array([mark.interval or (np.nan, np.nan) for mark in marks]).reshape(-1, 2)
    x = np.array([mark.value for mark in marks], float)
    hints = [f"<br>{labels.wrapped(mark.hint, 60, 5)}" if mark.hint else "" for mark in marks]
    figure.add_scatter(
        x=x, y=[y] * len(x), mode="markers", name=labels.wrapped(name, 80, 1), showlegend=False,
        error_x={
            "array": ends[:, 1] - x, "arrayminus": x - ends[:, 0], "symmetric": False,
            "thickness": 3, "width": 0, "color": marker["color"],
        } if any(mark.interval for mark in marks) else None,
        marker=marker,
        text=[labels.wrapped(mark.name, 60) for mark in marks],
        hovertext=[
            axis.told(mark.value, mark.interval) + hint
            for mark, hint in zip(marks, hints, strict=True)
        ],
        hovertemplate="%{text}: %{hovertext}<extra></extra>",
    )  # fmt: skip


def _dot(figure: go.Figure, mark: Mark, axis: _Axis, at: float, *, symbol: str) -> None:
    """Draw one hypothesis in its lane, with its number beside it."""
    main = symbol == "circle"
    _named(figure, mark, at)
    if mark.level is not None:
        look = {"symbol": "line-ns-open", "size": 34, "color": theme.NEUTRAL, "line": {"width": 3}}
        _points(figure, mark.level.name, [mark.level], (axis, at), look)
    if not math.isfinite(mark.value):
        return
    look = {"symbol": symbol, "size": 12, "color": theme.POSITIVE}
    _points(figure, _THIS if main else "versions", [mark], (axis, at), look)
    _arrow(figure, mark.value, axis, at)
    text = f"{mark.value:.3g}"
    text += f" [{mark.interval[0]:.3g}, {mark.interval[1]:.3g}]" if mark.interval else ""
    ends = (mark.value, *(mark.interval or ()))
    left, right, width = axis.px(min(ends)), axis.px(max(ends)), labels.width_px(text) + 22
    side = 1 if right + width < _ACROSS + _RIGHT else -1 if left > width else 0
    figure.add_annotation(
        x=axis.clip((max if side > 0 else min)(ends) if side else mark.value), y=at,
        text=f"<b>{text}</b>" if main else text, showarrow=False, xshift=12 * side,
        yshift=0 if side else 15, font={"size": labels.SIZE},
        xanchor="left" if side > 0 else "right" if side else "center",
    )  # fmt: skip


def _band(figure: go.Figure, band: Band, axis: _Axis, at: float) -> None:
    """Draw a null in its lane."""
    draws = np.ravel(np.asarray(band.draws, float))
    draws = np.sort(draws[np.isfinite(draws)])
    _named(figure, band, at)
    if not len(draws):
        return
    low, median, high = (float(x) for x in np.percentile(draws, (5, 50, 95)))
    figure.add_shape(
        type="rect", x0=axis.clip(low), x1=axis.clip(high), y0=at - 17, y1=at + 17,
        fillcolor=theme.NEUTRAL, opacity=0.25, line_width=0, layer="below",
    )  # fmt: skip
    name = labels.wrapped(band.name, 80, 1)
    figure.add_scatter(
        x=draws, y=at + _stacked(draws, axis), mode="markers", name=name, showlegend=False,
        marker={"size": _DOT, "color": theme.NEGATIVE, "opacity": 0.75},
        text=["one draw"] * len(draws), hovertext=[axis.told(float(draw)) for draw in draws],
        hovertemplate="%{text}: %{hovertext}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[median], y=[at], mode="markers", name=name, showlegend=False, text=["median"],
        marker={
            "symbol": "line-ns-open", "size": 34, "color": theme.NEGATIVE, "line": {"width": 2}
        },
        hovertext=[f"{axis.told(median)}; 5 to 95 %: {low:.4g} to {high:.4g}"],
        hovertemplate="%{text}: %{hovertext}<extra></extra>",
    )  # fmt: skip
    for side in (draws[draws < axis.low], draws[draws > axis.high]):
        if len(side):
            _arrow(figure, float(side[0]), axis, at, f"{len(side)} of {len(draws)} beyond")


def _stacked(draws: Float[np.ndarray, "draw"], axis: _Axis) -> Float[np.ndarray, "draw"]:
    """Return how far from the middle of its lane each draw stands, so that none hides another."""
    bins = np.array([round(axis.px(draw) / _DOT) for draw in draws])
    firsts = np.searchsorted(bins, bins)
    rank = np.arange(len(draws)) - firsts
    step = min(_DOT, 30 / max(1, int(rank.max())))
    return np.where(rank % 2, 1, -1) * ((rank + 1) // 2) * step


def _named(figure: go.Figure, lane: Mark | Band, at: float) -> None:
    """Write the name of a lane at the left, outside."""
    name = f"{lane.name}, {lane.note}" if isinstance(lane, Band) and lane.note else lane.name
    figure.add_annotation(
        xref="paper", x=0, xanchor="right", xshift=-10, y=at, showarrow=False, align="right",
        text=_said(lane), hovertext=labels.wrapped(name, 60, 8),
        font={"size": labels.SIZE, "weight": "bold" if lane.name == _THIS else "normal"},
    )  # fmt: skip


def _line(
    figure: go.Figure,
    x: float,
    ends: tuple[float, float],
    *,
    color: str = theme.NEUTRAL,
    dash: str = "dot",
    opacity: float = 1.0,
) -> None:
    """Draw a thin vertical line."""
    figure.add_shape(
        type="line", x0=x, x1=x, y0=ends[0], y1=ends[1], opacity=opacity, layer="below",
        line={"color": color, "width": 1, "dash": dash},
    )  # fmt: skip


def _arrow(figure: go.Figure, value: float, axis: _Axis, at: float, text: str = "") -> None:
    """Point to a value that is beyond the edge."""
    if axis.low <= value <= axis.high:
        return
    right = value > axis.high
    words = (text, "▶") if right else ("◀", text)
    figure.add_annotation(
        x=axis.high if right else axis.low, y=at, text=" ".join(words).strip(), showarrow=False,
        xanchor="right" if right else "left", font={"size": labels.SIZE},
        hovertext=axis.told(value),
    )  # fmt: skip


def _percents(figure: go.Figure, axis: _Axis) -> int:
    """Draw the axis of per cents above; return the margin that it needs, in pixels."""
    assert axis.percent is not None
    zero, full = axis.percent
    each = (full.value - zero.value) / 100
    ends = sorted(((axis.low - zero.value) / each, (axis.high - zero.value) / each))
    step = next((s for s in _STEPS if (ends[1] - ends[0]) / s <= 6), 2000)
    ticks = np.arange(math.ceil(ends[0] / step), math.floor(ends[1] / step) + 1) * step
    # An axis without a trace is not drawn.
    figure.add_scatter(
        x=[None], y=[None], xaxis="x2", mode="lines", hoverinfo="skip", showlegend=False
    )
    figure.update_layout(
        xaxis2={
            "overlaying": "x", "side": "top", "range": [axis.low, axis.high], "ticks": "outside",
            "tickvals": zero.value + ticks * each,
            "ticktext": [f"{tick} %".replace("-", "−") for tick in ticks],
            "title": {
                "text": f"recovered<br>0 % = {theme.label(zero.name, 30)}, "
                f"100 % = {theme.label(full.name, 30)}",
                "standoff": 6,
            },
        }
    )  # fmt: skip
    return _TOP
