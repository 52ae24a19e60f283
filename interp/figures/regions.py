"""Maps of named regions over two parameters, a phase diagram for instance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from interp.figures import theme

_COLOURS = ("#d9d9d9", theme.NEGATIVE, theme.POSITIVE, theme.ACCENT)


def regions(
    kinds: Sequence[Sequence[int]],
    names: Sequence[str],
    *,
    x: Sequence[float],
    y: Sequence[float],
    titles: tuple[str, str],
) -> go.Figure:
    """Draw which kind each cell is of.

    Args:
        kinds: Index into ``names``, one row for each of ``y``.
        names: What the kinds are called; up to four.
        x: Values along the lower axis, drawn as evenly spaced categories.
        y: Values along the left axis, first at the bottom, likewise.
        titles: Titles of the lower and the left axis.
    """
    colours = _COLOURS[: len(names)]
    edges = np.linspace(0, 1, len(names) + 1)
    scale = [[float(edge), colour] for i, colour in enumerate(colours) for edge in edges[i : i + 2]]
    hover = [[names[kind] for kind in row] for row in kinds]
    figure = go.Figure(
        go.Heatmap(
            z=np.array(kinds), x=[f"{v:.3g}" for v in x], y=[f"{v:.3g}" for v in y],
            zmin=-0.5, zmax=len(names) - 0.5, colorscale=scale, text=hover, xgap=1, ygap=1,
            colorbar={
                "tickvals": list(range(len(names))), "ticktext": list(names), "thickness": 12,
                "orientation": "h", "y": 1.02, "yanchor": "bottom", "len": 1,
            },
            hovertemplate="%{y} by %{x}: %{text}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title=titles[0], type="category")
    figure.update_yaxes(title=titles[1], type="category")
    return theme.style(figure, height=340)
