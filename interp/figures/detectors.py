"""How well numbers tell two kinds of inputs apart: their histograms, and one dot a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from interp.figures import labels, theme

_BARS, _LANE, _LETTERS = 50, 36, 32
FEW = 20
"""Draws below which percentiles say no more than the range."""
_LOOKS = ((theme.NEGATIVE, ""), ("#e08214", "/"))


@dataclass(frozen=True)
class Row:
    """A detector.

    Attributes:
        name: What it looks at.
        value: Its AUROC; NaN where there is none (yet).
        bounds: Ends of its interval, if it has one.
        draws: The same of many taken at random, in place of one value.
        hint: What to know about it, on hover.
        main: Whether it is what was asked for.
    """

    name: str
    value: float
    bounds: tuple[float, float] | None = None
    draws: Float[np.ndarray, "draw"] | None = None
    hint: str = ""
    main: bool = False


def spread(draws: Float[np.ndarray, "draw"]) -> tuple[float, float, float, str]:
    """Return lower end, median and upper end of draws, and what the ends are: of few the range.

    Args:
        draws: At least one, all finite.
    """
    ends, said = ((0.0, 1.0), "range") if len(draws) < FEW else ((0.05, 0.95), "5 to 95 %")
    low, median, high = (float(end) for end in np.quantile(draws, (ends[0], 0.5, ends[1])))
    return low, median, high, said


def separated(
    values: Mapping[str, Float[np.ndarray, "input"]],
    *,
    title: str,
    limits: tuple[float, float],
    marks: Mapping[str, float],
) -> go.Figure:
    """Draw two histograms over each other, as shares of each kind.

    Args:
        values: A number of every input, by kind; two kinds.
        title: Of the axis across.
        limits: What is drawn in place; the outermost bars hold what is beyond.
        marks: Named values to compare with.
    """
    figure, edges = go.Figure(), np.linspace(*limits, _BARS + 1)
    wide, beyond, top = edges[1] - edges[0], 0, 0.0
    for (name, numbers), (colour, pattern) in zip(values.items(), _LOOKS, strict=True):
        known = numbers[~np.isnan(numbers)]
        beyond += int(((known < limits[0]) | (known > limits[1])).sum())
        counts = np.histogram(np.clip(known, *limits), edges)[0]
        shares = counts / max(1, len(known))
        top = max(top, float(shares.max()))
        some = counts > 0
        hover = [
            f"{n:,} of {len(known):,}: {low:.2f} to {low + wide:.2f}"
            for n, low in zip(counts[some], edges[:-1][some], strict=True)
        ]
        figure.add_bar(
            x=((edges[:-1] + edges[1:]) / 2)[some], y=shares[some], width=wide,
            name=theme.label(name, 60), opacity=0.6, text=hover, textposition="none",
            marker={"color": colour, "pattern": {"shape": pattern}},
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    for name, at in marks.items():
        figure.add_vline(x=at, line={"color": theme.NEUTRAL, "dash": "dot", "width": 1})
        figure.add_annotation(
            x=at, y=1, yref="paper", yanchor="bottom", text=theme.label(name, 30), showarrow=False,
            font={"size": labels.SIZE},
        )  # fmt: skip
    note = f" ({beyond:,} beyond the ends are in the outermost bars)" if beyond else ""
    figure.update_xaxes(
        title=labels.wrapped(title + note, 60), range=[limits[0] - wide, limits[1] + wide]
    )
    figure.update_yaxes(title="share of inputs", range=[0, 1.08 * top or 1])
    figure.update_layout(
        barmode="overlay", legend={"orientation": "h", "y": 1.1, "yanchor": "bottom", "x": 0}
    )
    return theme.style(figure, height=320)


def dots(rows: Sequence[Row], *, title: str) -> go.Figure:
    """Draw detectors one below another, with intervals; nulls as points, and their spread.

    Args:
        rows: The detectors, first on top.
        title: Of the axis across, an AUROC from 0 to 1.
    """
    figure = go.Figure()
    figure.add_vline(x=0.5, line={"color": theme.NEUTRAL, "dash": "dot", "width": 1})
    for at, row in enumerate(rows):
        if row.draws is not None:
            _null(figure, row, at, row.draws)
        elif np.isfinite(row.value):
            _dot(figure, row, at)
    names = [labels.wrapped(row.name, _LETTERS, 2) for row in rows]
    figure.update_xaxes(title=title, range=[-0.02, 1.02], nticks=6, showgrid=True)
    figure.update_yaxes(
        title="detector", tickvals=list(range(len(rows))),
        ticktext=[f"<b>{name}</b>" if row.main else name
                  for name, row in zip(names, rows, strict=True)],
        range=[len(rows) - 0.4, -0.6],
    )  # fmt: skip
    return theme.style(figure, height=70 + _LANE * len(rows))


def _dot(figure: go.Figure, row: Row, at: int) -> None:
    low, high = row.bounds or (np.nan, np.nan)
    colour = theme.POSITIVE if row.main else theme.NEGATIVE
    told = f"{row.name}: {row.value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if row.bounds else "")
    figure.add_scatter(
        x=[row.value], y=[at], mode="markers", name=theme.label(row.name, 60), showlegend=False,
        marker={"size": 12 if row.main else 9, "color": colour},
        error_x={
            "array": [high - row.value], "arrayminus": [row.value - low], "symmetric": False,
            "thickness": 3, "width": 0, "color": colour, "visible": row.bounds is not None,
        },
        text=[_hover(told, row.hint)], hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _null(figure: go.Figure, row: Row, at: int, every: Float[np.ndarray, "draw"]) -> None:
    draws = np.sort(every[np.isfinite(every)])
    if not len(draws):
        return
    low, median, high, ends = spread(draws)
    figure.add_shape(
        type="rect", x0=low, x1=high, y0=at - 0.32, y1=at + 0.32, layer="below",
        fillcolor=theme.NEUTRAL, opacity=0.25, line_width=0,
    )  # fmt: skip
    apart = 0.25 * np.sin(2.4 * np.arange(len(draws)))
    told = f"{row.name}: median {median:.3f}, {ends} {low:.3f} to {high:.3f}"
    figure.add_scatter(
        x=draws, y=at + apart, mode="markers", name=theme.label(row.name, 60), showlegend=False,
        marker={"size": 5, "color": theme.NEUTRAL, "opacity": 0.8},
        text=[_hover(told, row.hint)] * len(draws),
        hovertemplate="%{x:.3f}<br>%{text}<extra></extra>",
    )  # fmt: skip


def _hover(told: str, hint: str) -> str:
    return labels.wrapped(told, 60) + (f"<br>{labels.wrapped(hint, 60, 5)}" if hint else "")
