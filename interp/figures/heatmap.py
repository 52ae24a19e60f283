"""Heatmaps of layers, heads and positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from interp.axes import Grid, Mask
from interp.figures import theme

_MOST_MARKED = 4000
_MARKER_PX, _WIDTH_PX = 30, 900
_MOST_LABELS = 40


def heatmap(
    values: Grid,
    *,
    rows: Sequence[str],
    cols: Sequence[str],
    titles: tuple[str, str, str],
    hover: Sequence[Sequence[str]],
    limits: tuple[float, float] | None = None,
    text: Sequence[Sequence[str]] | None = None,
    hatched: Mask | None = None,
    crossed: Mask | None = None,
    dotted: Mask | None = None,
) -> go.Figure:
    """Draw a grid with rows upward and one cell per (row, col); NaN cells stay empty.

    Args:
        values: The numbers.
        rows: Row labels, bottom first.
        cols: Column labels.
        titles: Titles of the row axis, the column axis and the colour bar (with its unit).
        hover: Hover text of each cell, already safe.
        limits: Colour limits of a sequential scale; without them the scale diverges around 0
            with symmetric limits, at least ±1: effects have a natural unit, and a map that
            fills in keeps its colours.
        text: Text in each cell, already safe.
        hatched: Cells drawn with a stroke instead of a colour: they cannot matter.
        crossed: Cells drawn with a cross over their colour: they are 1 by structure.
        dotted: Cells drawn with a dot in the middle: they differ from 0.
    """
    finite = np.abs(values[np.isfinite(values)])
    most = max(float(finite.max()) if finite.size else 0.0, 1.0)
    low, high = limits or (-most, most)
    shown = values if hatched is None else np.where(hatched, np.nan, values)
    figure = go.Figure(
        go.Heatmap(
            z=shown.astype(np.float32),
            zmin=low,
            zmax=high,
            colorscale=theme.SEQUENTIAL if limits else theme.DIVERGING,
            colorbar={"title": {"text": titles[2], "side": "top"}, "thickness": 14},
            text=text,
            texttemplate="%{text}" if text is not None else None,
            textfont={"size": 10},
            hoverinfo="skip",
            xgap=1,
            ygap=1,
        )
    )
    marks = ((hatched, "line-ne-open"), (crossed, "x-thin-open"), (dotted, "circle"))
    for marked, symbol in marks:
        if marked is not None and marked.any():
            _add_marks(figure, marked, symbol)
    _add_click_targets(figure, values.shape, hover)
    upwards = _label_axes(figure, rows, cols, titles)
    return theme.style(figure, height=int(min(700, 130 + 60 * upwards + 34 * max(3, len(rows)))))


def _label_axes(
    figure: go.Figure, rows: Sequence[str], cols: Sequence[str], titles: tuple[str, str, str]
) -> bool:
    """Label both axes; return whether column labels are written upwards, as many long ones are."""
    upwards = not any("<br>" in col for col in cols) and theme.crowded(cols)
    step = math.ceil(len(cols) / _MOST_LABELS)
    if step > 1:
        # Not every column can be labelled; the numbers keep all labels.
        figure.data[0].update(meta=[list(rows), list(cols)])
    figure.update_xaxes(
        title=titles[1], tickmode="array", tickvals=list(range(len(cols)))[::step],
        ticktext=list(cols)[::step], range=[-0.5, len(cols) - 0.5],
        tickangle=-90 if upwards else 0, tickfont={"size": 11},
    )  # fmt: skip
    figure.update_yaxes(
        title=titles[0], tickmode="array", tickvals=list(range(len(rows))), ticktext=list(rows),
        range=[-0.5, len(rows) - 0.5],
    )  # fmt: skip
    return upwards


def _add_marks(figure: go.Figure, marked: Mask, symbol: str) -> None:
    (r, c), dot = np.nonzero(marked), symbol == "circle"
    figure.add_scatter(
        x=c, y=r, mode="markers", hoverinfo="skip", showlegend=False,
        marker={"symbol": symbol, "color": theme.NEUTRAL, "opacity": 0.6}
        | ({"size": 6, "line": {"color": "white", "width": 1}} if dot else {"size": 9}),
        # A click dims what was not clicked; hatching must stay.
        unselected={"marker": {"opacity": 0.6}},
    )  # fmt: skip


def _add_click_targets(
    figure: go.Figure, shape: tuple[int, ...], hover: Sequence[Sequence[str]]
) -> None:
    """Lay near-transparent markers over the cells: a bare heatmap reports no clicks.

    Markers have a size in pixels and cells have none, so a wide cell gets several in a row.
    """
    if shape[0] * shape[1] > _MOST_MARKED:
        figure.data[0].update(hoverinfo="text", hovertext=hover)
        return
    cells = shape[0] * shape[1]
    n = max(1, min(round(_WIDTH_PX / shape[1] / _MARKER_PX), _MOST_MARKED // cells))
    r, c, k = (axis.ravel() for axis in np.indices((*shape, n)))
    figure.add_scatter(
        x=c + (k + 0.5) / n - 0.5, y=r, mode="markers", showlegend=False, name="cells",
        customdata=np.stack([r, c], axis=1),
        text=[hover[i][j] for i, j in zip(r, c, strict=True)],
        hovertemplate="%{text}<extra></extra>",
        marker={"symbol": "square", "size": _MARKER_PX, "opacity": 0.01, "color": theme.NEUTRAL},
        selected={"marker": {"opacity": 0.25}}, unselected={"marker": {"opacity": 0.01}},
    )  # fmt: skip
