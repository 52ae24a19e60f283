"""Lines and points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from interp.figures import theme

_COLOURS = (theme.NEGATIVE, theme.POSITIVE, theme.ACCENT, "#762a83", "#e08214")


def lines(
    x: Sequence[float | str],
    ys: dict[str, np.ndarray],
    *,
    titles: tuple[str, str],
    y_range: tuple[float, float] | None = None,
    level: tuple[str, float] | None = None,
) -> go.Figure:
    """Draw named lines over shared x, and a named dotted level; titles with units."""
    figure = go.Figure()
    for (name, y), colour in zip(ys.items(), _COLOURS * (len(ys) // 5 + 1), strict=False):
        figure.add_scatter(
            x=list(x), y=np.asarray(y), mode="lines+markers", name=name, line={"color": colour}
        )
    if level is not None:
        name, at = level
        figure.add_hline(
            y=at, line={"color": theme.NEUTRAL, "dash": "dot"},
            annotation_text=name, annotation_position="top left",
        )  # fmt: skip
    figure.update_xaxes(title=titles[0])
    figure.update_yaxes(title=titles[1], range=y_range)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return theme.style(figure, height=320)


def spread(
    values: np.ndarray, *, title: str, marks: dict[str, float], hover: Sequence[str]
) -> go.Figure:
    """Draw one point a value along a line, with named vertical marks."""
    figure = go.Figure(
        go.Scatter(
            x=np.asarray(values), y=np.linspace(-0.3, 0.3, len(values)), mode="markers",
            marker={"color": theme.NEGATIVE, "size": 8, "opacity": 0.6}, text=list(hover),
            hovertemplate="%{text}: %{x:.3f}<extra></extra>", showlegend=False,
        )
    )  # fmt: skip
    for name, at in marks.items():
        figure.add_vline(x=at, line={"color": theme.NEUTRAL, "dash": "dot"}, annotation_text=name)
    figure.update_xaxes(title=title)
    figure.update_yaxes(visible=False, range=[-1, 1])
    return theme.style(figure, height=190)


def bars(names: Sequence[str], values: np.ndarray, *, titles: tuple[str, str]) -> go.Figure:
    """Draw horizontal bars, first on top; titles of the value axis (with unit) and the names."""
    figure = go.Figure(
        go.Bar(
            x=np.asarray(values), y=[f"{i + 1}. {name}" for i, name in enumerate(names)],
            orientation="h", marker_color=theme.NEGATIVE,
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title=titles[0], range=[0, 1.02])
    # Else names that read as numbers, "1. 60", would be placed by their value.
    figure.update_yaxes(title=titles[1], autorange="reversed", type="category")
    return theme.style(figure, height=100 + 26 * len(names))


def pairs(
    names: Sequence[str], series: dict[str, np.ndarray], *, titles: tuple[str, str]
) -> go.Figure:
    """Draw one row a pair with a point a series; titles of the value axis (with unit) and rows."""
    figure = go.Figure()
    for (name, values), colour in zip(series.items(), (theme.POSITIVE, theme.NEUTRAL), strict=True):
        figure.add_scatter(
            x=np.asarray(values), y=list(names), mode="markers", name=name,
            marker={"color": colour, "size": 9},
            hovertemplate=f"pair %{{y}}, {name}: %{{x:.3f}}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title=titles[0])
    figure.update_yaxes(title=titles[1], type="category", showticklabels=len(names) <= 30)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return theme.style(figure, height=150 + 14 * len(names) if len(names) <= 20 else 300)
