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
    figure, given = go.Figure(), np.asarray(values, float)
    ends = np.array([one or (np.nan, np.nan) for one in intervals]).reshape(-1, 2)
    figure.add_scatter(
        x=given, y=list(names), mode="markers", name="value", showlegend=False,
        error_x={
            "array": ends[:, 1] - given, "arrayminus": given - ends[:, 0], "symmetric": False,
            "thickness": 2, "width": 0, "color": theme.NEGATIVE,
        },
        marker={"color": theme.NEGATIVE, "size": 9},
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )  # fmt: skip
    figure.add_vline(
        x=level[1], line={"color": theme.NEUTRAL, "dash": "dot"},
        annotation_text=level[0], annotation_position="top",
    )  # fmt: skip
    figure.update_xaxes(title=titles[0])
    order = list(names)[::-1]
    figure.update_yaxes(
        title=titles[1], type="category", categoryorder="array", categoryarray=order
    )
    theme.style(figure, height=160 + 34 * len(order))
    # The name of the level stands above the slices.
    figure.update_layout(margin_t=30)
    return figure
