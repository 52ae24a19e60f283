"""One number against another, with the line on which they agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from interp.figures import theme

_LOOKS = (
    (theme.POSITIVE, "diamond", 11),
    (theme.NEGATIVE, "circle", 9),
    (theme.ACCENT, "square", 9),
)


class Dots(NamedTuple):
    """Points of one kind.

    Attributes:
        name: What they are, for the legend.
        x: Where they are across.
        y: Where they are upwards.
        hover: Hover text of each, already safe.
        places: What a click on each reports, or empty.
    """

    name: str
    x: Float[np.ndarray, "point"]
    y: Float[np.ndarray, "point"]
    hover: Sequence[str]
    places: Sequence[tuple[int, int]] = ()


def scatter(
    dots: Sequence[Dots],
    *,
    titles: tuple[str, str],
    agree: str,
    least: float = 0.0,
    height: int = 380,
) -> go.Figure:
    """Draw points of up to three kinds and the line of equal numbers, on equal limits.

    Args:
        dots: The points; NaN ones are not drawn.
        titles: Titles of the axis across and the axis upwards, with their unit.
        agree: Name of the line.
        least: Limits reach at least so far to both sides of 0.
        height: In pixels.
    """
    each = np.concatenate([np.asarray(part) for one in dots for part in (one.x, one.y)] or [[]])
    each = each[np.isfinite(each)]
    low, high = (float(f(each)) if each.size else 0.0 for f in (np.min, np.max))
    low, high = min(low, 0.0 if least else low), max(high, least)
    pad = 0.08 * ((high - low) or 1.0)
    ends = [low - pad, high + pad]
    figure = go.Figure()
    figure.add_scatter(
        x=ends, y=ends, mode="lines", name=agree, hoverinfo="skip",
        line={"color": theme.NEUTRAL, "dash": "dot"},
    )  # fmt: skip
    for one, (colour, symbol, size) in zip(dots, _LOOKS, strict=False):
        there = np.isfinite(one.x) & np.isfinite(one.y)
        figure.add_scatter(
            x=np.asarray(one.x)[there], y=np.asarray(one.y)[there], mode="markers", name=one.name,
            text=[text for text, here in zip(one.hover, there, strict=True) if here],
            hovertemplate="%{text}<extra></extra>",
            customdata=np.array(one.places)[there] if len(one.places) else None,
            marker={
                "color": colour, "symbol": symbol, "size": size, "opacity": 0.75,
                "line": {"width": 1, "color": "white"},
            },
            # A click dims what was not clicked; it must stay readable.
            selected={"marker": {"opacity": 1.0}}, unselected={"marker": {"opacity": 0.5}},
        )  # fmt: skip
    figure.update_xaxes(title=titles[0], range=ends)
    figure.update_yaxes(title=titles[1], range=ends)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return theme.style(figure, height=height)
