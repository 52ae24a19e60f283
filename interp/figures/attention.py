"""Attention patterns: one large, or those of all heads of a layer side by side.

Destinations (queries) run downward, sources (keys) to the right, as everywhere in the field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from interp.axes import Blocks, DestSrc, HeadDestSrc
from interp.figures import theme

MOST_CELLS = 10_000
_MASKED = "rgba(127,127,127,0.13)"
_MOST_MARKED, _MOST_LABELS = 5_200, 30
_WIDTH_PX, _MARKER_PX = 900, 30
_THUMBNAILS_PX, _TITLE_PX, _GAP = 480, 24, 0.16


def labels(tokens: Sequence[str], first: int = 0) -> list[str]:
    """Label positions by token and index, the first of them ``first``, so duplicates stay apart."""
    return [f"{theme.label(token, 10)} {first + i}" for i, token in enumerate(tokens)]


def pattern(
    values: DestSrc, *, tokens: Sequence[str], first: int, name: str, clicks: bool = True
) -> go.Figure:
    """Draw attention from each destination to each source; masked cells are NaN and stay grey.

    Args:
        values: Attention, 0 to 1.
        tokens: Text of each position drawn.
        first: Index of the first position drawn.
        name: What the hover calls the head.
        clicks: Whether a cell can be clicked; it reports (row, column, 0), a head has two numbers.
    """
    n = len(tokens)
    axis = labels(tokens, first)
    ends = [f"{theme.label(token, 30)} ({first + i})" for i, token in enumerate(tokens)]
    height = int(min(760, 150 + max(26 * n, 150)))
    figure = go.Figure(
        go.Heatmap(
            z=values.astype(np.float32), zmin=0, zmax=1, colorscale=theme.SEQUENTIAL,
            colorbar={"title": {"text": "attention", "side": "top"}, "thickness": 14},
            meta=[axis, axis], hoverinfo="skip", xgap=int(n <= 40), ygap=int(n <= 40), name=name,
        )
    )  # fmt: skip
    _add_cells(figure, values, [name, *ends], row_px=(height - 90) / n, clicks=clicks)
    step = math.ceil(n / _MOST_LABELS)
    shown = list(range((n - 1) % step, n, step))  # the last label is always there
    ticks: dict[str, Any] = {"tickvals": shown, "ticktext": [axis[i] for i in shown]}
    size = {"size": 11 if n <= 24 else 9}
    figure.update_xaxes(
        title="source (key)", range=[-0.5, n - 0.5], tickangle=0 if n <= 9 else -90, tickfont=size,
        **ticks,
    )  # fmt: skip
    figure.update_yaxes(title="destination (query)", range=[n - 0.5, -0.5], tickfont=size, **ticks)
    theme.style(figure, height=height)
    # Grey cells have no marker: a hover must not reach far into them.
    figure.update_layout(plot_bgcolor=_MASKED, margin_pad=0, hoverdistance=8)
    return figure


def _add_cells(
    figure: go.Figure, values: DestSrc, names: Sequence[str], *, row_px: float, clicks: bool
) -> None:
    """Lay invisible markers over the cells that are not masked: a bare map has no clicks.

    Markers have a size in pixels and cells have none, so a wide cell gets several in a row. They
    overlap where the page is narrow, and would be seen there if they were not quite transparent.
    """
    name, *ends = names
    rows, cols = np.nonzero(~np.isnan(values))
    size = min(max(row_px, 6), _MARKER_PX)
    wide = round(_WIDTH_PX / values.shape[1] / size)
    n = max(1, min(wide, _MOST_MARKED // max(1, len(rows))))
    hover = [
        f"{name}: from {ends[i]} to {ends[j]}: {values[i, j]:.2f}"
        for i, j in zip(rows, cols, strict=True)
    ]
    r, c, k = np.repeat(rows, n), np.repeat(cols, n), np.tile(np.arange(n), len(rows))
    figure.add_scatter(
        x=c + (k + 0.5) / n - 0.5, y=r, mode="markers", showlegend=False, name="cells",
        customdata=np.stack([r, c, 0 * r], axis=1) if clicks else None,
        text=[text for text in hover for _ in range(n)],
        hovertemplate="%{text}<extra></extra>",
        marker={"symbol": "square", "size": size, "opacity": 0, "color": theme.NEUTRAL},
        selected={"marker": {"opacity": 0.4}}, unselected={"marker": {"opacity": 0}},
    )  # fmt: skip


def block_size(n_heads: int, n_pos: int) -> int:
    """Return how many positions one cell of a thumbnail stands for, so that all fit."""
    return math.ceil(n_pos / max(1, math.isqrt(MOST_CELLS // n_heads)))


def in_blocks(values: DestSrc, size: int) -> Blocks:
    """Pool attention: from the mean destination of a block to all sources of a block together.

    A row sums to the mean of its destinations' sums; a block that is masked whole is NaN.
    """
    n = math.ceil(len(values) / size)
    padded = np.full((n * size, n * size), np.nan)
    padded[: len(values), : len(values)] = values
    blocks = padded.reshape(n, size, n, size)
    rows = np.minimum(size, len(values) - size * np.arange(n))
    total = np.nansum(blocks, axis=(1, 3)) / rows[:, None]
    return np.where(np.isnan(blocks).all(axis=(1, 3)), np.nan, total)


def thumbnails(
    patterns: HeadDestSrc,
    *,
    axis: Sequence[str],
    hover: Sequence[str],
    chosen: tuple[int, int],
) -> go.Figure:
    """Draw every head of a layer small, on one scale from 0 to 1; masked cells are NaN.

    Args:
        patterns: Attention of each head, pooled by ``in_blocks`` where it must be.
        axis: Label of each row and column of a pattern.
        hover: Hover text of each head.
        chosen: Layer, and the head that has a frame. A click reports layer and head.
    """
    heads, n = len(patterns), patterns.shape[-1]
    across = math.ceil(math.sqrt(heads))
    places = [((i % across) * (1 + _GAP), (i // across) * (1 + 2 * _GAP)) for i in range(heads)]
    centres = (np.arange(n) + 0.5) / n
    maps = [
        go.Heatmap(
            z=values.astype(np.float32), x=left + centres, y=top + centres, zmin=0, zmax=1,
            colorscale=theme.SEQUENTIAL, showscale=False, hoverinfo="skip", name=f"H{head}",
            colorbar={"title": {"text": "attention"}}, meta=[list(axis), list(axis)],
        )
        for head, (values, (left, top)) in enumerate(zip(patterns, places, strict=True))
    ]  # fmt: skip
    figure = go.Figure(maps)
    _add_heads(figure, places, layer=chosen[0], hover=hover)
    right, bottom = across * (1 + _GAP) - _GAP, places[-1][1] + 1.03
    title = _TITLE_PX * right / _THUMBNAILS_PX
    figure.update_xaxes(range=[-0.03, right + 0.03], visible=False)
    figure.update_yaxes(range=[bottom, -title], visible=False)
    theme.style(figure, height=int(20 + _THUMBNAILS_PX * (bottom + title) / right))
    # Wherever the pointer is, the nearest head is meant.
    figure.update_layout(margin_pad=0, hoverdistance=60, **_frames(places, chosen[1]))
    return figure


def _frames(places: Sequence[tuple[float, float]], chosen: int) -> dict[str, Any]:
    """Return a grey ground and a name for each head, and a frame for one."""
    boxes = [{"x0": x, "x1": x + 1, "y0": y, "y1": y + 1, "type": "rect"} for x, y in places]
    ground = {"fillcolor": _MASKED, "line": {"width": 0}, "layer": "below"}
    frame = {**boxes[chosen], "line": {"color": theme.ACCENT, "width": 2.5}}
    names = [f"<b>H{i}</b>" if i == chosen else f"H{i}" for i in range(len(places))]
    at = {"showarrow": False, "xanchor": "left", "yanchor": "bottom"}
    return {
        "shapes": [*({**box, **ground} for box in boxes), frame],
        "annotations": [
            {"x": x, "y": y, "text": name, **at} for (x, y), name in zip(places, names, strict=True)
        ],
    }


def _add_heads(
    figure: go.Figure,
    places: Sequence[tuple[float, float]],
    *,
    layer: int,
    hover: Sequence[str],
) -> None:
    """Cover each thumbnail with markers, three by three, that all stand for its head."""
    head, k = (a.ravel() for a in np.indices((len(places), 9)))
    left, top = np.array(places)[head].T
    figure.add_scatter(
        x=left + (k % 3 + 0.5) / 3, y=top + (k // 3 + 0.5) / 3,
        mode="markers", showlegend=False, name="cells",
        customdata=np.stack([np.full_like(head, layer), head], axis=1),
        text=[hover[int(i)] for i in head], hovertemplate="%{text}<extra></extra>",
        marker={"symbol": "square", "size": _MARKER_PX, "opacity": 0, "color": theme.NEUTRAL},
        selected={"marker": {"opacity": 0.3}}, unselected={"marker": {"opacity": 0}},
    )  # fmt: skip


def thin_labels(figure: Any, *, most: tuple[int, int]) -> None:
    """Make a map of layers and heads fit a narrow column: label every second one, say.

    Args:
        figure: A map as ``interp.figures.heatmap`` draws it; its numbers keep all labels.
        most: Labels of the row axis and the column axis.
    """
    axes = (figure.layout.yaxis, figure.layout.xaxis)
    figure.data[0].update(meta=[list(axis.ticktext) for axis in axes], colorbar_thickness=8)
    for axis, limit in zip(axes, most, strict=True):
        step = math.ceil(len(axis.ticktext) / limit)
        axis.update(tickvals=axis.tickvals[::step], ticktext=axis.ticktext[::step])
    # Markers that are sized for the whole width overlap here, and must not add up to grey.
    hidden = {"marker": {"opacity": 0}}
    figure.update_traces(**hidden, unselected=hidden, selector={"name": "cells"})
