"""Maps of named regions over two parameters, a phase diagram for instance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from interp.figures import theme

_TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
_COLOURS = ("#d9d9d9", theme.NEGATIVE, theme.POSITIVE, theme.ACCENT)


def regions(
    kinds: Sequence[Sequence[int]],
    names: Sequence[str],
    *,
    x: Sequence[float],
    y: Sequence[float],
    titles: tuple[str, str],
) -> go.Figure:
    """Draw which kind each cell is of, over two logarithmic axes.

    Args:
        kinds: Index into ``names``, one row for each of ``y``.
        names: What the kinds are called; up to four.
        x: Values along the lower axis, evenly spaced in their logarithm.
        y: Values along the left axis, likewise.
        titles: Titles of the lower and the left axis.
    """
    colours = _COLOURS[: len(names)]
    edges = np.linspace(0, 1, len(names) + 1)
    scale = [[float(edge), colour] for i, colour in enumerate(colours) for edge in edges[i : i + 2]]
    hover = [
        [f"{right:.3g}, {up:.3g}: {names[kind]}" for right, kind in zip(x, row, strict=True)]
        for up, row in zip(y, kinds, strict=True)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=np.array(kinds), x=np.log10(x), y=np.log10(y), zmin=-0.5, zmax=len(names) - 0.5,
            colorscale=scale, showscale=False, text=hover, xgap=1, ygap=1,
            hovertemplate="%{text}<extra></extra>",
        )
    )  # fmt: skip
    for name, colour in zip(names, colours, strict=True):
        marker = {"color": colour, "symbol": "square", "size": 11}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name)
    for axis, values, title in (("x", x, titles[0]), ("y", y, titles[1])):
        ticks = [v for v in _TICKS if min(values) * 0.99 <= v <= max(values) * 1.01]
        figure.update_layout(
            {
                f"{axis}axis": {
                    "title": title,
                    "tickvals": [float(np.log10(v)) for v in ticks],
                    "ticktext": [f"{v:g}" for v in ticks],
                }
            }
        )
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return theme.style(figure, height=360)
