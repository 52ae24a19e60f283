"""The same numbers in several ways: maps side by side on one scale, points with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from interp.axes import Grid, PerPair
from interp.figures import theme

MOST_CELLS = 10_000
"""Cells of all maps together that get markers to click."""
_WIDTH_PX, _MARKER_PX = 640, 26
_GAP, _HEADS, _ACROSS = 0.035, 8, 4
"""Gap between maps; heads that are labelled in each; labels that fit without being turned."""
_STYLES = ((theme.NEUTRAL, "square"), ("#e08214", "diamond"), ("#762a83", "circle"))
"""Colour and symbol of each way: neither red nor blue, which mean a sign elsewhere."""


def signed(value: float) -> str:
    """Write a sign and three digits, and 0 for what rounds to it."""
    return "0" if abs(value) < 5e-5 else f"{value:+.3g}"


def told(value: float, low: float, high: float) -> str:
    """Write a change with its interval, if it has one."""
    bounds = f" [{signed(low)}, {signed(high)}]" if math.isfinite(low) else ""
    return f"{signed(value)}{bounds}"


def side_by_side(
    maps: Mapping[str, Grid],
    *,
    rows: Sequence[str],
    cols: Sequence[str],
    titles: tuple[str, str, str],
    most: float,
    hover: Sequence[Sequence[Sequence[str]]],
) -> go.Figure:
    """Draw maps beside each other, first row below, on one scale that diverges around 0.

    A click reports row, column and map. NaN cells stay empty.

    Args:
        maps: The numbers, by name.
        rows: Row labels, which stand at the first map.
        cols: Column labels; of many some are drawn, and always those that number no head.
        titles: Titles of the row axis, the column axes and the colour bar (with its unit).
        most: Size of the numbers that have the full colour.
        hover: Hover text of each map's cells, already safe.
    """
    n = len(maps)
    figure = make_subplots(
        rows=1, cols=n, shared_yaxes=True, horizontal_spacing=_GAP, subplot_titles=list(maps)
    )
    ticks = [-most, -most / 2, 0, most / 2, most]
    bar = {
        "title": {"text": titles[2], "side": "top"},
        "thickness": 12,
        "tickvals": ticks,
        "ticktext": [f"{tick:.3g}" for tick in ticks],
    }
    edges = _edges(cols)
    for k, (name, values) in enumerate(maps.items()):
        figure.add_trace(
            go.Heatmap(
                x=edges, y=np.arange(len(rows)), z=values.astype(np.float32), zmin=-most,
                zmax=most, colorscale=theme.DIVERGING, showscale=k == n - 1, colorbar=bar,
                hoverinfo="skip", xgap=1, ygap=1, name=name, meta=[list(rows), list(cols)],
            ),
            row=1, col=k + 1,
        )  # fmt: skip
        figure.add_trace(_targets(k, n, edges, hover[k]), row=1, col=k + 1)
    theme.style(figure, height=int(min(720, 150 + 34 * max(3, len(rows)))))
    # Subplot titles stand above the maps.
    figure.update_layout(margin_t=30)
    shown = _shown(cols)
    figure.update_xaxes(
        title=titles[1], tickvals=((edges[1:] + edges[:-1]) / 2)[shown],
        ticktext=[cols[i] for i in shown], tickangle=0 if len(shown) <= _ACROSS else -90,
        tickfont={"size": 11}, range=[edges[0], edges[-1]],
    )  # fmt: skip
    figure.update_yaxes(
        title=titles[0], tickvals=list(range(len(rows))), ticktext=list(rows),
        range=[-0.5, len(rows) - 0.5],
    )  # fmt: skip
    for k in range(1, n):
        figure.update_yaxes(visible=False, row=1, col=k + 1)
    return figure


def _edges(cols: Sequence[str]) -> Float[np.ndarray, "edge"]:
    """Return where columns begin and end: beside many heads the others are drawn wider."""
    wide = max(1.0, sum(col[:1] == "H" for col in cols) / _HEADS)
    return np.cumsum([0.0, *(1.0 if col[:1] == "H" else wide for col in cols)])


def _shown(cols: Sequence[str]) -> list[int]:
    """Choose the columns that are labelled: some heads, and each that is none."""
    heads = [i for i, col in enumerate(cols) if col[:1] == "H"]
    step = max(1, math.ceil(len(heads) / _HEADS))
    return [*heads[::step], *(i for i in range(len(cols)) if i not in heads)]


def _targets(
    which: int,
    maps: int,
    edges: Float[np.ndarray, "edge"],
    hover: Sequence[Sequence[str]],
) -> go.Scatter:
    """Return invisible markers over the cells: a bare map reports no clicks.

    Markers have a size in pixels and cells have none, so a wide cell gets several in a row.
    """
    rows, cols, pixel = len(hover), len(edges) - 1, _WIDTH_PX / maps / edges[-1]
    size = max(6.0, min(pixel, _MARKER_PX))
    room = MOST_CELLS // (maps * rows * cols)
    many = [max(1, min(round(float(w) * pixel / size), room)) for w in np.diff(edges)]
    c = np.repeat(np.arange(cols), many)
    at = np.concatenate([(np.arange(n) + 0.5) / n for n in many]) * np.diff(edges)[c] + edges[c]
    r, c, at = np.repeat(np.arange(rows), len(c)), np.tile(c, rows), np.tile(at, rows)
    return go.Scatter(
        x=at, y=r, mode="markers", showlegend=False, name="cells",
        customdata=np.stack([r, c, np.full_like(r, which)], axis=1),
        text=[hover[int(i)][int(j)] for i, j in zip(r, c, strict=True)],
        hovertemplate="%{text}<extra></extra>",
        marker={"symbol": "square", "size": size, "opacity": 0, "color": theme.NEUTRAL},
        selected={"marker": {"opacity": 0.4}}, unselected={"marker": {"opacity": 0}},
    )  # fmt: skip


def ways(
    names: Sequence[str],
    series: Mapping[str, tuple[PerPair, PerPair, PerPair]],
    *,
    titles: tuple[str, str],
) -> go.Figure:
    """Draw one row a name, first on top, with a point a series and its interval, around 0.

    Args:
        names: Of the rows, all different.
        series: Values and both ends of their intervals (NaN: none), one a row, by name.
        titles: Titles of the value axis (with unit) and of the rows.
    """
    figure = go.Figure()
    # Within a row points are stacked upwards, so the last comes first.
    styled = list(zip(series.items(), _STYLES, strict=False))[::-1]
    for (name, (values, low, high)), (colour, symbol) in styled:
        figure.add_scatter(
            x=values, y=list(names), mode="markers", name=name, orientation="h",
            error_x={
                "array": high - values, "arrayminus": values - low, "symmetric": False,
                "thickness": 1.5, "width": 3, "color": colour,
            },
            marker={"color": colour, "symbol": symbol, "size": 9},
            hovertemplate=f"%{{y}}, {name}: %{{x:.3f}}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1})
    figure.update_xaxes(title=titles[0])
    figure.update_yaxes(
        title=titles[1], type="category", categoryorder="array", categoryarray=list(names)[::-1],
        showgrid=True, gridcolor="rgba(127,127,127,0.15)",
    )  # fmt: skip
    figure.update_layout(
        scattermode="group", scattergap=0.3,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "reversed"},
    )  # fmt: skip
    return theme.style(figure, height=130 + 40 * max(2, len(names)))


def spreads(
    series: Mapping[str, Float[np.ndarray, "pair"]],
    *,
    title: str,
    marks: Mapping[str, float],
    hover: Sequence[str],
) -> go.Figure:
    """Draw one row a series, first on top, one point a value, with named vertical marks."""
    figure = go.Figure()
    for (name, values), (colour, symbol) in zip(series.items(), _STYLES, strict=False):
        figure.add_scatter(
            x=np.asarray(values), y=[name] * len(values), mode="markers", name=name,
            showlegend=False, text=list(hover),
            marker={"color": colour, "symbol": symbol, "size": 8, "opacity": 0.5},
            hovertemplate=f"%{{text}}, {name}: %{{x:.3f}}<extra></extra>",
        )  # fmt: skip
    for name, at in marks.items():
        figure.add_vline(
            x=at, line={"color": theme.NEUTRAL, "dash": "dot"},
            annotation_text=name, annotation_position="top",
        )  # fmt: skip
    figure.update_xaxes(title=title)
    figure.update_yaxes(
        title="taken out by", type="category", categoryorder="array",
        categoryarray=list(series)[::-1],
    )  # fmt: skip
    theme.style(figure, height=150 + 34 * len(series))
    # The names of the marks stand above the rows.
    figure.update_layout(margin_t=30)
    return figure
