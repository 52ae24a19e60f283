"""Loss against bits of many hypotheses, how a search went, and the best ones with their scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float, Int

from interp.figures import labels, theme
from interp.figures.estimates import LEVELS_PX
from interp.figures.estimates import levels as drawn_levels
from interp.figures.scale import Mark

MOST_POINTS = 2000
"""Hypotheses that are drawn; of more, so many at even distances."""
_ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
_ROW, _LEFT, _RIGHT, _HEIGHT, _LEGEND = 44, 190, 16, 420, 66


@dataclass(frozen=True)
class Best:
    """A hypothesis of the front.

    Attributes:
        name: What it is called: its number, its claims and its bits.
        said: What it claims, for hover.
        bits: Its price.
        search: Mean objective on the inputs searched, in nats.
        held_out: The same on those held out; NaN where not computed yet.
        interval: Ends of its interval; NaN where there is none.
        null: The same of random hypotheses with the same tree.
        band: Ends between which these are drawn; NaN where there are none.
        note: What is said beside the name of its null, e.g. "rank 1 of 41".
    """

    name: str
    said: str
    bits: float
    search: float
    held_out: float = float("nan")
    interval: tuple[float, float] = (float("nan"), float("nan"))
    null: Float[np.ndarray, "null"] = field(default_factory=lambda: np.zeros(0))
    band: tuple[float, float] = (float("nan"), float("nan"))
    note: str = ""


def front(
    bits: Float[np.ndarray, "evaluation"],
    values: Float[np.ndarray, "evaluation"],
    best: Sequence[Best],
    levels: Sequence[Mark],
    *,
    title: str,
) -> go.Figure:
    """Draw every hypothesis evaluated, and the front on the inputs searched and on the others.

    Args:
        bits: Price of each.
        values: Mean objective on the inputs searched, in nats.
        best: The front; a click reports the number of one.
        levels: What the objective is read against, each with the name of its half.
        title: Of the upward axis, with unit and direction.
    """
    figure = go.Figure()
    at = np.unique(np.linspace(0, len(bits) - 1, min(len(bits), MOST_POINTS)).round().astype(int))
    figure.add_scatter(
        x=bits[at], y=values[at], mode="markers", name="evaluated, on inputs searched",
        marker={"size": 5, "color": theme.NEUTRAL, "opacity": 0.35},
        hovertemplate="%{x:.1f} bits, %{y:.3g}<extra></extra>",
    )  # fmt: skip
    order = sorted(range(len(best)), key=lambda i: best[i].bits)
    _front(figure, best, order, ("search", "the best, on inputs searched"))
    if any(np.isfinite(one.held_out) for one in best):
        _front(figure, best, order, ("held_out", "the same, on inputs held out"))
    shown = [*values[at], *(one.interval[1] for one in best), *(mark.value for mark in levels)]
    top = 1.06 * float(np.nanmax(shown))
    drawn_levels(figure, levels, (-0.04 * top, top), _HEIGHT)
    title_of_x = "bits (what is let through, and what it takes to name the sites)"
    figure.update_xaxes(title=labels.wrapped(title_of_x, 34))
    figure.update_yaxes(title=title, range=[-0.04 * top, top])
    figure.update_layout(legend=_ABOVE)
    theme.style(figure, height=_HEIGHT)
    figure.update_layout(margin_r=LEVELS_PX)
    return figure


def _front(
    figure: go.Figure, best: Sequence[Best], order: Sequence[int], what: tuple[str, str]
) -> None:
    search = what[0] == "search"
    colour, symbol = (theme.POSITIVE, "diamond") if search else (theme.NEGATIVE, "circle")
    y = np.array([best[i].search if search else best[i].held_out for i in order])
    ends = np.array([best[i].interval for i in order]).reshape(-1, 2)
    figure.add_scatter(
        x=[best[i].bits for i in order], y=y, mode="lines+markers", name=what[1],
        line={"color": colour, "width": 1, "dash": "solid" if search else "dot"},
        error_y=None if search else {
            "array": ends[:, 1] - y, "arrayminus": y - ends[:, 0], "symmetric": False,
            "thickness": 1.5, "width": 0, "color": colour,
        },
        marker={"size": 10, "symbol": symbol, "color": colour},
        customdata=[[i] for i in order],
        text=[f"{best[i].name}<br>{labels.wrapped(best[i].said, 70, 8)}" for i in order],
        hovertemplate="%{text}<br>%{x:.1f} bits, %{y:.3g}<extra></extra>",
        # A click dims what was not clicked; it must stay readable.
        selected={"marker": {"opacity": 1.0}}, unselected={"marker": {"opacity": 0.6}},
    )  # fmt: skip


def path(
    current: Float[np.ndarray, "evaluation"],
    best: Float[np.ndarray, "evaluation"],
    start: Int[np.ndarray, "evaluation"],
    *,
    title: str,
) -> go.Figure:
    """Draw where a search stood at each evaluation, a line for each start, and the best so far.

    Args:
        current: What is minimised, in nats, of the hypothesis that the search was at.
        best: The least until then.
        start: Number of the start.
        title: Of the upward axis, with unit and direction.
    """
    figure, at = go.Figure(), np.arange(1, len(current) + 1)
    for number in np.unique(start).tolist():
        here = _corners(current, start == number)
        figure.add_scatter(
            x=at[here], y=current[here], mode="lines", name="where the search is",
            legendgroup="current", showlegend=number == 0, line={"color": theme.NEGATIVE},
            hovertemplate=f"start {number + 1}, evaluation %{{x}}: %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    here = _corners(best, np.ones(len(best), bool))
    figure.add_scatter(
        x=at[here], y=best[here], mode="lines", name="best so far",
        line={"color": theme.POSITIVE, "dash": "dot"},
        hovertemplate="best until %{x}: %{y:.4g}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title="hypotheses evaluated", rangemode="tozero")
    figure.update_yaxes(title=title, rangemode="tozero")
    figure.update_layout(legend=_ABOVE)
    return theme.style(figure, height=320)


def _corners(
    values: Float[np.ndarray, "evaluation"], among: Bool[np.ndarray, "evaluation"]
) -> Int[np.ndarray, "corner"]:
    """Return the ends of runs of equal values: the line through them is the whole line."""
    at = np.flatnonzero(among)
    if len(at) < 3:
        return at
    level = np.diff(values[at]) == 0
    inside = level[:-1] & level[1:]
    return at[np.concatenate([[True], ~inside, [True]])]


def ranked(best: Sequence[Best], levels: Sequence[Mark], *, title: str, band: str) -> go.Figure:
    """Draw the best hypotheses, first on top: searched, held out, and random ones like each.

    Args:
        best: The hypotheses; a click reports the number of one.
        levels: What the objective is read against.
        title: Of the axis across, with unit and direction.
        band: What the bands of random hypotheses reach over.
    """
    figure, rows = go.Figure(), np.arange(len(best))
    for i, one in enumerate(best):
        if len(one.null):
            figure.add_shape(
                type="rect", x0=one.band[0], x1=one.band[1], y0=i - 0.3, y1=i + 0.3, layer="below",
                fillcolor=theme.NEUTRAL, opacity=0.25, line_width=0,
            )  # fmt: skip
    null = [(float(np.median(one.null)), i) for i, one in enumerate(best) if len(one.null)]
    figure.add_scatter(
        x=[x for x, _ in null], y=[i for _, i in null], mode="markers",
        name=f"trees like it at random: median, {band}",
        marker={"symbol": "line-ns-open", "size": 18, "color": theme.NEUTRAL},
        text=[f"{best[i].name}, trees like it at random ({best[i].note})" for _, i in null],
        hovertemplate="%{text}: median %{x:.3g}<extra></extra>",
    )  # fmt: skip
    ends = np.array([one.interval for one in best]).reshape(-1, 2)
    held = np.array([one.held_out for one in best])
    shared = {"y": rows, "mode": "markers", "customdata": rows[:, None]}
    figure.add_scatter(
        x=held, name="inputs held out, 95 %", **shared,
        error_x={
            "array": ends[:, 1] - held, "arrayminus": held - ends[:, 0], "symmetric": False,
            "thickness": 2, "width": 0, "color": theme.NEGATIVE,
        },
        marker={"size": 10, "color": theme.NEGATIVE}, text=[one.name for one in best],
        hovertemplate="%{text}, held out: %{x:.3g}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[one.search for one in best], name="inputs searched", **shared,
        marker={"size": 10, "symbol": "diamond-open", "color": theme.POSITIVE},
        text=[one.name for one in best], hovertemplate="%{text}, searched: %{x:.3g}<extra></extra>",
    )  # fmt: skip
    known = np.array([*held, *ends[:, 1], *(one.search for one in best), *(x for x, _ in null)])
    tails = [one.band[1] for one in best]
    known = np.array([*known, *(mark.value for mark in levels), *tails], float)
    top = 1.04 * float(np.max(known[np.isfinite(known)], initial=0.0)) or 1.0
    above = _names_above(figure, levels, (-0.02 * top, top))
    figure.update_xaxes(title=labels.wrapped(title, 34), range=[-0.02 * top, top], nticks=6)
    figure.update_yaxes(
        title="hypothesis",
        tickvals=rows,
        ticktext=[labels.wrapped(one.name, 24) for one in best],
        range=[len(best) - 0.4, -0.6],
    )
    depth = _ROW * max(1, len(best))
    theme.style(figure, height=depth + above + _LEGEND + 64)
    figure.update_layout(
        legend={**_ABOVE, "x": 1, "xanchor": "right", "y": 1 + above / depth},
        margin={"l": _LEFT, "r": _RIGHT, "t": above + _LEGEND, "b": 64, "autoexpand": False},
    )
    return figure


def _names_above(figure: go.Figure, levels: Sequence[Mark], limits: tuple[float, float]) -> int:
    """Draw named levels across, their names above; return the pixels that the names need."""
    known = [mark for mark in levels if np.isfinite(mark.value)]
    names = [f"{theme.label(mark.name, 20)} {mark.value:.3g}" for mark in known]
    across = labels.NARROW - _LEFT - _RIGHT
    at = [across * (mark.value - limits[0]) / (limits[1] - limits[0]) for mark in known]
    room = (8.0 - _LEFT, across + _RIGHT - 4.0)
    placed = labels.flags(at, [labels.width_px(name) + 6 for name in names], room)
    for mark, name, flag in zip(known, names, placed, strict=True):
        up = 8 + labels.LINE * flag.level
        figure.add_shape(
            type="line", x0=mark.value, x1=mark.value, yref="paper", y0=0, y1=1, layer="below",
            line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"},
        )  # fmt: skip
        figure.add_annotation(
            x=mark.value, yref="paper", y=1, yshift=up, yanchor="bottom", text=name,
            xanchor="left" if flag.side > 0 else "right", xshift=3 * flag.side, showarrow=False,
            borderpad=0, font={"size": labels.SIZE},
        )  # fmt: skip
    return 12 + labels.LINE * (1 + max((flag.level for flag in placed), default=0))
