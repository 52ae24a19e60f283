"""From one number to another in named steps: which claim costs how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from interp.figures import labels, theme
from interp.figures.ablation import told

_LEFT, _RIGHT, _BOTTOM, _TOP = 230, 20, 52, 10
_ACROSS = labels.NARROW - _LEFT - _RIGHT
"""Pixels across in the narrowest window."""
_LETTERS, _LINES, _INDENT, _DEEPEST = 31, 5, 14, 6
_BAR, _PAD = 20, 12
_BESIDE = 10
"""Pixels between a bar and its number."""
_CUT = 4.0
"""Totals that are more than so many times what the steps span are drawn without their way to 0."""

_Row = tuple[str, tuple[float, float], float]
"""What is written beside a bar, from where to where that is, and its place down."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        label: What it is, a sentence.
        before: The number before it.
        after: The number with it.
        interval: Ends of the interval of ``after - before``.
        hint: What else to know, on hover.
        depth: How far its label is indented: 0 for what hangs at the root.
    """

    label: str
    before: float
    after: float
    interval: tuple[float, float] | None = None
    hint: str = ""
    depth: int = 0


def waterfall(
    steps: Sequence[Step],
    *,
    unit: str,
    title: str,
    ends: tuple[str, str] = ("the model", "the hypothesis"),
) -> go.Figure:
    """Draw the first number, a floating bar a step, and the last number, from above.

    Red steps raise the number and blue ones lower it; each is written out, with its interval drawn
    at its end. Where a step begins elsewhere than the one above ended no line joins them. Steps
    with a NaN are named and have no bar.

    Args:
        steps: In order, numbers in ``unit``.
        unit: E.g. "nats".
        title: Of the axis, with unit and direction.
        ends: Names of the first number (``before`` of the first step) and the last.
    """
    rows = [labels.wrapped(s.label, _LETTERS - 2 * _deep(s), _LINES) for s in steps]
    rows = [labels.wrapped(ends[0], _LETTERS), *rows, labels.wrapped(ends[1], _LETTERS)]
    least = [0, *(1 for _ in steps), 0]
    lines = [1 + max(row.count("<br>"), n) for row, n in zip(rows, least, strict=True)]
    heights = [max(_BAR, labels.LINE * n) + _PAD for n in lines]
    at = np.cumsum([0, *heights[:-1]]) + np.array(heights) / 2
    figure = go.Figure()
    _named(figure, rows, at, steps)
    known = [(s, y) for s, y in zip(steps, at[1:-1], strict=True) if _known(s)]
    low, high = 0.0, 1.0
    if known:
        first, last = known[0][0].before, known[-1][0].after
        written = [(f"{first:.3g}", (first, first), at[0])]
        # In two lines, so that the bars have the room.
        written += [(_change(s).replace(" [", "<br>["), _reach(s), y) for s, y in known]
        written += [(f"{last:.3g}", (last, last), at[-1])]
        low, high = _range(written)
        if low <= 0 <= high:
            # The numbers at both ends stand beside bars from 0.
            for i in (0, -1):
                text, (value, _), y = written[i]
                written[i] = text, (min(value, 0.0), max(value, 0.0)), y
        _totals(figure, ((first, at[0]), (last, at[-1])), ends, from_zero=low <= 0 <= high)
        _bars(figure, known, unit)
        _joined(
            figure,
            [(first, at[0]), *((s.after, y) for s, y in known)],
            [*((s.before, y) for s, y in known), (last, at[-1])],
        )
        _written(figure, written, (low, high))
    figure.update_xaxes(title=title, range=[low, high], ticks="outside", nticks=6)
    figure.update_yaxes(visible=False, range=[sum(heights), 0])
    theme.style(figure, height=int(sum(heights)) + _TOP + _BOTTOM)
    figure.update_xaxes(automargin=False)
    figure.update_layout(
        margin={"l": _LEFT, "r": _RIGHT, "t": _TOP, "b": _BOTTOM, "autoexpand": False},
        barmode="overlay", showlegend=False,
    )  # fmt: skip
    return figure


def _named(
    figure: go.Figure,
    rows: Sequence[str],
    at: Float[np.ndarray, "row"],
    steps: Sequence[Step],
) -> None:
    """Write what each row is at its left: the first number, the steps, the last number."""
    for row, y, step in zip(rows, at, [None, *steps, None], strict=True):
        figure.add_annotation(
            xref="paper", x=0, y=y, xanchor="left", align="left", showarrow=False, text=row,
            xshift=8 - _LEFT + (_INDENT * _deep(step) if step else 0),
            font={"size": labels.SIZE, "weight": "normal" if step else "bold"},
        )  # fmt: skip


def _deep(step: Step) -> int:
    return min(step.depth, _DEEPEST)


def _known(step: Step) -> bool:
    return math.isfinite(step.before) and math.isfinite(step.after)


def _reach(step: Step) -> tuple[float, float]:
    """Return the least and the largest number that a step shows."""
    bounds = [step.before + end for end in step.interval or () if math.isfinite(end)]
    return min(step.before, step.after, *bounds), max(step.before, step.after, *bounds)


def _range(rows: Sequence[_Row]) -> tuple[float, float]:
    """Choose the limits: from 0 unless the steps would be too small to see; every text fits."""
    low, high = min(row[1][0] for row in rows), max(row[1][1] for row in rows)
    span = (high - low) or abs(high) or 1.0
    if max(abs(low), abs(high)) <= _CUT * span:
        low, high = min(low, 0.0), max(high, 0.0)
    pad = 0.04 * ((high - low) or span)
    low, high = low - (pad if low else 0.0), high + pad
    for _ in rows:
        # Room for one text may take that to the left of another bar.
        lacking = [row for row in rows if _side(row[0], row[1], (low, high)) == 0]
        if not lacking:
            break
        for text, (_, right), _ in lacking:
            share = min(_needs(text) / _ACROSS, 0.9)
            high = max(high, (right - share * low) / (1 - share))
    return low, high


def _needs(text: str) -> float:
    """Return the pixels within the axes that a text beside a bar needs at the right."""
    return labels.width_px(text) + 2 * _BESIDE - _RIGHT


def _side(text: str, reach: tuple[float, float], limits: tuple[float, float]) -> int:
    """Return the side of a bar on which there is room for a text: 1, -1, or 0 for neither."""
    low, high = limits
    left, right = (_ACROSS * (end - low) / (high - low) for end in reach)
    if _needs(text) <= _ACROSS - right + 1e-6:
        return 1
    return -1 if labels.width_px(text) + _BESIDE <= left else 0


def _totals(
    figure: go.Figure,
    values: Sequence[tuple[float, float]],
    ends: tuple[str, str],
    *,
    from_zero: bool,
) -> None:
    """Draw the first and the last number, each with a bar from 0 if 0 is drawn."""
    if from_zero:
        for value, y in values:
            figure.add_shape(
                type="rect", x0=0, x1=value, y0=y - _BAR / 2, y1=y + _BAR / 2, line_width=0,
                fillcolor=theme.NEUTRAL, opacity=0.6,
            )  # fmt: skip
    look = {"symbol": "line-ns-open", "size": _BAR, "color": theme.NEUTRAL, "line": {"width": 3}}
    figure.add_scatter(
        x=[value for value, _ in values], y=[y for _, y in values], mode="markers", name="ends",
        text=[labels.wrapped(end, 60) for end in ends], marker=look,
        hovertemplate="%{text}: %{x:.4g}<extra></extra>",
    )  # fmt: skip


def _bars(figure: go.Figure, steps: Sequence[tuple[Step, float]], unit: str) -> None:
    """Draw a bar a step, and a marker at its end with the interval."""
    change = np.array([s.after - s.before for s, _ in steps])
    ends = np.array([s.interval or (np.nan, np.nan) for s, _ in steps]).reshape(-1, 2)
    y = [at for _, at in steps]
    colours = [theme.POSITIVE if up > 0 else theme.NEGATIVE for up in change]
    names = [labels.wrapped(s.label, 60, 5) for s, _ in steps]
    hover = [_exactly(s, unit) for s, _ in steps]
    places = [[i] for i in range(len(steps))]
    figure.add_bar(
        x=change, base=[s.before for s, _ in steps], y=y, width=_BAR, orientation="h",
        name="change", marker={"color": colours, "opacity": 0.85, "line": {"width": 0}}, text=names,
        textposition="none", hovertext=hover, customdata=places,
        hovertemplate="%{text}<br>%{hovertext}<extra></extra>",
        selected={"marker": {"opacity": 1.0}}, unselected={"marker": {"opacity": 0.5}},
    )  # fmt: skip
    figure.add_scatter(
        x=[s.after for s, _ in steps], y=y, mode="markers", name="after", text=names,
        error_x={
            "array": ends[:, 1] - change, "arrayminus": change - ends[:, 0], "symmetric": False,
            "thickness": 1.5, "width": 5, "color": theme.NEUTRAL,
        },
        marker={"size": 9, "color": colours, "line": {"width": 1, "color": "white"}},
        hovertext=hover, customdata=places, hovertemplate="%{text}<br>%{hovertext}<extra></extra>",
        selected={"marker": {"opacity": 1.0}}, unselected={"marker": {"opacity": 0.5}},
    )  # fmt: skip


def _joined(
    figure: go.Figure,
    starts: Sequence[tuple[float, float]],
    stops: Sequence[tuple[float, float]],
) -> None:
    """Join each number to the same number in the row below."""
    for (start, above), (stop, below) in zip(starts, stops, strict=True):
        if math.isclose(start, stop, rel_tol=1e-9, abs_tol=1e-12):
            figure.add_shape(
                type="line", x0=start, x1=stop, y0=above, y1=below, layer="below",
                line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"},
            )  # fmt: skip


def _written(figure: go.Figure, rows: Sequence[_Row], limits: tuple[float, float]) -> None:
    """Write each number beside its bar."""
    for text, reach, y in rows:
        side = _side(text, reach, limits)
        figure.add_annotation(
            x=reach[side > 0], y=y, text=text, showarrow=False, xshift=_BESIDE * side,
            xanchor="left" if side > 0 else "right", font={"size": labels.SIZE},
        )  # fmt: skip


def _change(step: Step) -> str:
    return told(step.after - step.before, *(step.interval or (math.nan, math.nan)))


def _exactly(step: Step, unit: str) -> str:
    text = f"{_change(step)} {theme.label(unit, 20)}: from {step.before:.4g} to {step.after:.4g}"
    return text + (f"<br>{labels.wrapped(step.hint, 60, 5)}" if step.hint else "")
