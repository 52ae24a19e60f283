"""Texts as rows of tokens, coloured by a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from interp.axes import Grid
from interp.figures import heatmap, theme

_MOST_TEXT = 24
"""Tokens a row beyond which cells are too narrow for text."""
_WIDTH_PX = 500
"""Width of the cells of a row in a narrow window."""
_EVERY = ((12, 1), (40, 5), (100, 10))
"""Up to so many columns, and how far apart their labels are; 20 beyond."""


def token_rows(
    values: Grid,
    *,
    rows: Sequence[str],
    texts: Sequence[Sequence[str]],
    first: int,
    titles: tuple[str, str],
    most: float,
    hover: Sequence[Sequence[str]],
) -> go.Figure:
    """Draw one row a text, bottom first, and one cell a token; NaN cells stay empty.

    Args:
        values: The numbers, 0 or more.
        rows: Name of each row.
        texts: Tokens of each row, fewer where it is shorter.
        first: Position of the first column.
        titles: Titles of the rows and of the colour bar (with its unit).
        most: The number that has the full colour.
        hover: Hover text of each cell, already safe.
    """
    n = values.shape[1]
    cols = [str(first + i) for i in range(n)]
    labels = [[theme.label(t, 6) for t in row] + [""] * (n - len(row)) for row in texts]
    figure = heatmap.heatmap(
        values,
        rows=rows,
        cols=cols,
        titles=(titles[0], "position", titles[1]),
        limits=(0.0, most),
        text=labels if n <= _MOST_TEXT else None,
        hover=hover,
    )
    every = next((every for most_cols, every in _EVERY if n <= most_cols), 20)
    ticks = [i for i in range(n) if (first + i) % every == 0]
    gap = 1 if n <= _MOST_TEXT else 0
    figure.update_traces(meta=[list(rows), cols], xgap=gap, selector={"type": "heatmap"})
    # Markers that overlap would darken what is under them; a click finds the nearest one. Where
    # there is no token there is nothing to click, and a map that fills in is drawn faster.
    size = max(4, min(30, _WIDTH_PX // n))
    traces: list[Any] = list(figure.data)
    for cells in (trace for trace in traces if trace.name == "cells"):
        there = np.isfinite(values)[tuple(np.asarray(cells.customdata).T)]
        kept = {name: np.asarray(cells[name])[there] for name in ("x", "y", "customdata", "text")}
        cells.update(marker={"size": size}, **kept)
    figure.update_xaxes(tickvals=ticks, ticktext=[cols[i] for i in ticks])
    return figure
