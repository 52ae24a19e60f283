"""Shares of errors by arm and family, how they grew, and what searches found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from interp.figures import labels, theme

_COLOURS = (
    theme.NEUTRAL,
    "#bdbdbd",
    theme.NEGATIVE,
    "#762a83",
    theme.POSITIVE,
    "#e08214",
    "#f4a582",
    theme.ACCENT,
)


_LETTERS, _LINES = 34, 4
_LEFT, _RIGHT, _BELOW, _PLOT = 64, 16, 56, 250
"""Margins of the growth of errors, and its height without them, in pixels."""
_SIGN, _NAME = 42, 22
"""Line and gaps beside a name in a legend, in pixels; letters in a line of it."""


@dataclass(frozen=True)
class Bar:
    """A share in per cent with its interval, what to say of it, and single draws beside it."""

    name: str
    share: float
    low: float
    high: float
    said: str
    marked: bool = False
    draws: Float[np.ndarray, "draw"] = field(default_factory=lambda: np.zeros(0))


def bars(rows: Sequence[Bar], *, titles: tuple[str, str]) -> go.Figure:
    """Draw horizontal bars from 0 per cent with intervals, the first on top, marked ones red.

    Args:
        rows: The bars.
        titles: Titles of the axis across, with unit, and of what the bars are.
    """
    figure = go.Figure()
    names = _apart([labels.wrapped(row.name, _LETTERS, _LINES) for row in rows])
    shares = np.nan_to_num(np.array([row.share for row in rows]))
    ends = np.array([(row.low, row.high) for row in rows]).reshape(-1, 2)
    figure.add_bar(
        x=shares, y=names, orientation="h", name="share", showlegend=False,
        marker={"color": [theme.POSITIVE if row.marked else theme.NEUTRAL for row in rows]},
        error_x={
            "type": "data", "array": np.maximum(ends[:, 1] - shares, 0),
            "arrayminus": np.maximum(shares - ends[:, 0], 0), "thickness": 1.2, "width": 4,
        },
        text=[row.said for row in rows], textposition="none",
        hovertemplate="%{y}: %{text}<extra></extra>",
    )  # fmt: skip
    for row, name in zip(rows, names, strict=True):
        if len(row.draws):
            figure.add_scatter(
                x=row.draws, y=[name] * len(row.draws), mode="markers", name=row.name,
                marker={"symbol": "line-ns-open", "size": 10, "color": "#444444"},
                showlegend=False, hovertemplate="one of them: %{x:.2f} %<extra></extra>",
            )  # fmt: skip
    most = max([1.0, *ends[:, 1], *(d for row in rows for d in row.draws)])
    figure.update_xaxes(
        title=labels.wrapped(titles[0], 26), range=[-0.01 * most, 1.05 * most], showgrid=True,
        nticks=6,
    )  # fmt: skip
    figure.update_yaxes(title=titles[1], autorange="reversed", type="category")
    lines = max((1 + name.count("<br>") for name in names), default=1)
    return theme.style(figure, height=120 + (14 + labels.LINE * lines) * max(1, len(rows)))


def _apart(names: Sequence[str]) -> list[str]:
    """Number names that were cut to the same text: rows of one name would be one row."""
    before = [names[:i].count(name) for i, name in enumerate(names)]
    return [f"{name} ({n + 1})" if n else name for name, n in zip(names, before, strict=True)]


@dataclass(frozen=True)
class Growth:
    """Errors found after so many queries."""

    name: str
    queries: Sequence[int]
    errors: Sequence[float]


def growth(rows: Sequence[Growth]) -> go.Figure:
    """Draw errors against queries, a line for each arm from 0 on."""
    figure = go.Figure()
    names = [labels.wrapped(row.name, _NAME) for row in rows]
    for row, name, colour in zip(rows, names, _COLOURS, strict=False):
        figure.add_scatter(
            x=[0, *row.queries], y=[0, *row.errors], mode="lines+markers", name=name,
            line={"color": colour}, marker={"size": 4},
            hovertemplate=f"{row.name}: %{{y:.1f}} errors in %{{x}} queries<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="queries", rangemode="tozero")
    figure.update_yaxes(title="errors found", rangemode="tozero")
    across, above = _legend_px(names)
    theme.style(figure, height=_PLOT + above + _BELOW)
    # A legend that makes its own room may not take more than half of the figure's height.
    figure.update_layout(
        legend={
            "orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"size": labels.SIZE},
            "entrywidth": across, "entrywidthmode": "pixels",
        },
        margin={"l": _LEFT, "r": _RIGHT, "t": above, "b": _BELOW, "autoexpand": False},
    )  # fmt: skip
    return figure


def _legend_px(names: Sequence[str]) -> tuple[float, int]:
    """Return the width of a name in a legend, and the legend's height in the narrowest window."""
    entry = max((labels.width_px(name) for name in names), default=0.0)
    columns = max(1, int((labels.NARROW - _LEFT - _RIGHT) // (entry + _SIGN)))
    lines = [1 + name.count("<br>") for name in names]
    rows = [max(lines[at : at + columns]) for at in range(0, len(lines), columns)]
    return entry, 12 + sum(4 + labels.LINE * row for row in rows)


@dataclass(frozen=True)
class Ends:
    """What a search ended with: scores in nats in the search and on fresh draws."""

    name: str
    searched: Float[np.ndarray, "found"]
    fresh: Float[np.ndarray, "found"]
    errors: Float[np.ndarray, "found"]
    hover: Sequence[str]


def again(rows: Sequence[Ends]) -> go.Figure:
    """Draw fresh scores against those of the search, with the line on which both are equal."""
    figure = go.Figure()
    most = max([1.0, *(float(v) for row in rows for v in (*row.searched, *row.fresh))])
    figure.add_scatter(
        x=[0, most], y=[0, most], mode="lines", name="equal", hoverinfo="skip", showlegend=False,
        line={"color": theme.NEUTRAL, "dash": "dot"},
    )  # fmt: skip
    for row, colour in zip(rows, (theme.POSITIVE, theme.NEGATIVE), strict=False):
        figure.add_scatter(
            x=row.searched, y=row.fresh, mode="markers", name=row.name,
            marker={"color": colour, "size": 8, "opacity": 0.7},
            error_y={"type": "data", "array": 1.96 * row.errors, "thickness": 1},
            text=list(row.hover), hovertemplate="%{text}: %{x:.2f}, fresh %{y:.2f}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="score in the search (nats)", rangemode="tozero")
    figure.update_yaxes(title="score on fresh draws (nats)")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return theme.style(figure, height=340)


def confident(texts: Sequence[str], odds: Sequence[float], hover: Sequence[str]) -> go.Figure:
    """Draw the log odds of the right answer of some inputs, the worst on top."""
    figure = go.Figure(
        go.Bar(
            x=list(odds), y=[f"{i + 1}. {theme.label(t, 36)}" for i, t in enumerate(texts)],
            orientation="h", marker_color=theme.POSITIVE, text=list(hover), textposition="none",
            hovertemplate="%{text}: %{x:.2f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title="log odds of the right answer (nats)", rangemode="tozero", nticks=6)
    figure.update_yaxes(title="input", autorange="reversed", type="category")
    return theme.style(figure, height=110 + 26 * max(1, len(texts)))
