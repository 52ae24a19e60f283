"""One number a slice of the inputs, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from interp.figures import theme


def slices(
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    *,
    titles: tuple[str, str],
    level: tuple[str, float],
) -> go.Figure:
    """Draw a point a slice, first on top, with its interval, and a named dotted level.

    Args:
        names: What the slices are, all different.
        values: The numbers; NaN is not drawn.
        intervals: Ends of each interval, or None.
        titles: Of the value axis (with unit) and of the slices.
        level: Name and place of the level, e.g. the number over all inputs.
    """
    figure = go.Figure()
    for name, ends in zip(names, intervals, strict=True):
        if ends is not None:
            figure.add_scatter(
                x=list(ends), y=[name, name], mode="lines", name=f"interval of {name}",
                line={"color": theme.NEGATIVE, "width": 2}, hoverinfo="skip", showlegend=False,
            )  # fmt: skip
    figure.add_scatter(
        x=np.asarray(values), y=list(names), mode="markers", name="value", showlegend=False,
        marker={"color": theme.NEGATIVE, "size": 9},
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )  # fmt: skip
    figure.add_vline(
        x=level[1], line={"color": theme.NEUTRAL, "dash": "dot"}, annotation_text=level[0]
    )
    figure.update_xaxes(title=titles[0])
    order = list(names)[::-1]
    figure.update_yaxes(
        title=titles[1], type="category", categoryorder="array", categoryarray=order
    )
    return theme.style(figure, height=140 + 34 * len(order))
