"""Signed parts of a sum: sorted bars, and the map of layers and heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from interp.axes import Grid
from interp.figures import theme
from interp.figures.heatmap import heatmap

_LABELS = 10
"""Columns of a map that can be labelled in a third of a narrow page."""


class Bar(NamedTuple):
    """One part of a sum.

    Attributes:
        name: Unlike that of any other bar, safe to draw.
        value: Its size.
        place: What a click on it reports, or None.
        text: Its size as it is written beside the bar; empty: a sign and two decimals.
    """

    name: str
    value: float
    place: tuple[int, int] | None = None
    text: str = ""


def signed(value: float) -> str:
    """Write a sign and two decimals; no sign before what rounds to zero."""
    text = f"{value:+.2f}"
    return text[1:] if float(text) == 0 else text


def lumped(
    bars: Sequence[Bar], kept: Sequence[int], place: tuple[int, int] | None = None
) -> list[Bar]:
    """Return the bars at ``kept`` in that order, and all others as one more, so the sum stays."""
    rest = [bar for i, bar in enumerate(bars) if i not in set(kept)]
    if len(rest) > 1:
        rest = [Bar(f"all others ({len(rest)})", sum(bar.value for bar in rest), place)]
    return [bars[i] for i in kept] + rest


def signed_bars(bars: Sequence[Bar], *, titles: tuple[str, str]) -> go.Figure:
    """Draw horizontal bars around 0, first on top: red positive, blue negative.

    ``titles`` are those of the value axis, which is its unit, and of the names. Clicks are
    reported where every bar has a place.
    """
    values = np.array([bar.value for bar in bars])
    places = [bar.place for bar in bars if bar.place is not None]
    most = largest(values)
    figure = go.Figure(
        go.Bar(
            x=values, y=[bar.name for bar in bars], orientation="h",
            marker_color=[theme.POSITIVE if v > 0 else theme.NEGATIVE for v in values],
            text=[bar.text or signed(bar.value) for bar in bars],
            textposition="outside", cliponaxis=False,
            hovertemplate=f"%{{y}}: %{{x:.4g}} {titles[0]}<extra></extra>",
            customdata=np.array(places) if len(places) == len(bars) else None,
            # A click on one bar must not make the numbers of the others unreadable; plotly wants
            # both fonts or reports no click.
            selected={"textfont": {"color": theme.NEUTRAL}},
            unselected={"marker": {"opacity": 0.5}, "textfont": {"color": theme.NEUTRAL}},
        )
    )  # fmt: skip
    figure.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1})
    # Room for the numbers beside the longest bar, on either side alike.
    figure.update_xaxes(title=titles[0], range=[-1.2 * most, 1.2 * most])
    figure.update_yaxes(title=titles[1], type="category", autorange="reversed")
    return theme.style(figure, height=90 + 24 * max(4, len(bars)))


def signed_map(
    values: Grid, *, rows: Sequence[str], cols: Sequence[str], title: str, hover: list[list[str]]
) -> go.Figure:
    """Draw a map whose colours diverge around 0 up to the largest number, whatever its size.

    Of many columns some are labelled, and the last.
    """
    figure = heatmap(
        values, rows=rows, cols=cols, titles=("layer", "component", title), hover=hover
    )
    most = largest(values)
    bar = {
        "tickvals": [-most, 0, most],
        "ticktext": [f"{-most:.3g}", "0", f"{most:.3g}"],
        "title": {"side": "right"},
    }
    figure.data[0].update(zmin=-most, zmax=most, colorbar=bar, meta=(list(rows), list(cols)))
    step, last = -(-len(cols) // _LABELS), len(cols) - 1
    if step > 1:
        shown = [*range(0, last - step + 1, step), last]
        figure.update_xaxes(tickvals=shown, ticktext=[cols[i] for i in shown], tickangle=-90)
    return figure


def largest(values: Float[np.ndarray, "*shape"]) -> float:
    """Return the largest size of the numbers, a limit of axes and colours; 1 where all are 0."""
    return float(np.abs(values).max(initial=0.0)) or 1.0
