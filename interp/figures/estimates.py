"""What lies under a mean: how it was reached, its inputs one by one, what it is good for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int

from interp.figures import labels, theme
from interp.figures.scale import Mark
from interp.figures.scatter import Dots, scatter

MOST_POINTS = 2000
"""Inputs that are drawn one by one; of more, so many at even distances."""
_BARS, _FAR, _WITH_SD = 60, 4, 60
"""Bars at most; how many times the 99th percentile they reach; inputs that show their spread."""
_HEIGHT = 320
LEVELS_PX = 190
"""Margin in pixels for the names of levels."""
_ABOVE: dict[str, Any] = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
_LOOKS = (
    (theme.NEGATIVE, "circle"),
    ("#e08214", "square-open"),
    ("#762a83", "diamond-open"),
    (theme.NEUTRAL, "circle-open"),
    (theme.ACCENT, "triangle-up-open"),
)
"""All but the first are open, so that equal points are seen through each other."""
_FULL_SIZE, _OPEN_SIZE = 8, 12


def running(
    done: Int[np.ndarray, "batch"],
    mean: Float[np.ndarray, "batch"],
    low: Float[np.ndarray, "batch"],
    high: Float[np.ndarray, "batch"],
    *,
    marks: Sequence[Mark],
    title: str,
) -> go.Figure:
    """Draw an estimate and its interval as evaluations come in, between named levels.

    Args:
        done: Evaluations (references × draws) after each batch.
        mean: The estimate after each, in the unit of ``title``; NaN is left out.
        low: Lower end of its interval; NaN where there is none.
        high: Upper end.
        marks: Floor, ceiling and other levels, in the same unit.
        title: Of the upward axis, with unit and direction.
    """
    there = np.isfinite(mean)
    done, mean, low, high = (np.asarray(part)[there] for part in (done, mean, low, high))
    figure = go.Figure()
    one = {"mode": "lines", "hoverinfo": "skip", "showlegend": False, "line": {"width": 0}}
    figure.add_scatter(x=done, y=low, name="low", **one)
    figure.add_scatter(
        x=done, y=high, name="high", fill="tonexty", fillcolor="rgba(178,24,43,0.2)", **one
    )
    figure.add_scatter(
        x=done, y=mean, mode="lines+markers", name="this hypothesis", showlegend=False,
        line={"color": theme.POSITIVE}, marker={"size": 5 if len(done) > 1 else 9},
        # The band needs two points; the ends of the interval are among the numbers anyhow.
        error_y={
            "array": high - mean, "arrayminus": mean - low, "symmetric": False,
            "visible": len(done) < 2, "color": theme.POSITIVE,
        },
        hovertext=[f"{a:.4g}, {b:.4g}" for a, b in zip(low, high, strict=True)],
        hovertemplate="after %{x:,}: %{y:.4g} [%{hovertext}]"
        "<extra></extra>",
    )  # fmt: skip
    known = [mark for mark in marks if np.isfinite(mark.value)]
    every = np.concatenate([mean, low, high, [mark.value for mark in known]])
    every = every[np.isfinite(every)]
    bottom, top = (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)
    pad = 0.08 * (top - bottom) or 0.5
    levels(figure, known, (bottom - pad, top + pad), _HEIGHT)
    figure.update_xaxes(
        title="evaluations: references × draws", range=[0, 1.03 * max([1, *done])], nticks=6
    )
    figure.update_yaxes(title=title, range=[bottom - pad, top + pad])
    theme.style(figure, height=_HEIGHT)
    figure.update_layout(margin_r=LEVELS_PX)
    return figure


def levels(
    figure: go.Figure, marks: Sequence[Mark], limits: tuple[float, float], height: int
) -> None:
    """Draw named levels, their names at the right, outside, below one another.

    Args:
        figure: Its right margin is to be ``LEVELS_PX`` wide.
        marks: The levels.
        limits: Ends of the upward axis.
        height: Of the figure, in pixels.
    """
    per_px = (limits[1] - limits[0]) / (height - 70)
    free = np.inf
    ordered = sorted(marks, key=lambda mark: -mark.value)
    for i, mark in enumerate(ordered):
        # Never so low that those that follow would be cut.
        left = limits[0] + labels.LINE * per_px * (len(ordered) - i - 0.5)
        at = max(min(mark.value, free), left)
        free = at - labels.LINE * per_px
        figure.add_shape(
            type="line", xref="paper", x0=0, x1=1, y0=mark.value, y1=mark.value, layer="below",
            line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"},
        )  # fmt: skip
        figure.add_annotation(
            xref="paper", x=1, xanchor="left", xshift=14, yanchor="middle", showarrow=False,
            y=at, text=f"{theme.label(mark.name, 20)} {mark.value:.3g}",
            font={"size": labels.SIZE}, hovertext=labels.wrapped(mark.name, 60),
        )  # fmt: skip


def against(
    model: Float[np.ndarray, "input"],
    scrubbed: Float[np.ndarray, "input"],
    sd: Float[np.ndarray, "input"],
    kinds: Sequence[str],
    names: Sequence[str],
    *,
    titles: tuple[str, str],
) -> go.Figure:
    """Draw each input: the model's number across, the scrubbed model's mean upwards.

    Args:
        model: The model's number, e.g. its logit difference, in logits.
        scrubbed: Mean over the draws, in the same unit.
        sd: Standard deviation over the draws; drawn where there are few inputs.
        kinds: What each input is, e.g. its label; the two commonest have a colour of their own.
        names: What each input is called on hover.
        titles: Titles of the axis across and upwards, with unit.
    """
    at = np.linspace(0, len(model) - 1, min(len(model), MOST_POINTS)).round()
    shown = [int(i) for i in np.unique(at)]
    common = [kind for kind, _ in Counter(kinds).most_common(3)]
    common = common if len(set(kinds)) <= 3 else [*common[:2], None]
    parts: list[tuple[Dots, Float[np.ndarray, "point"]]] = []
    for kind in common:
        here = [i for i in shown if (kinds[i] if kinds[i] in common else None) == kind]
        hover = [
            f"{labels.wrapped(names[i], 60)}<br>{model[i]:.4g} → {scrubbed[i]:.4g} ± {sd[i]:.2g}"
            for i in here
        ]
        name = "other" if kind is None else theme.label(kind, 30)
        parts.append((Dots(name, model[here], scrubbed[here], hover), sd[here]))
    figure = scatter([dots for dots, _ in parts], titles=titles, agree="as the model", height=400)
    drawn: list[Any] = list(figure.data)[1:]
    for trace, (dots, spread) in zip(drawn, parts, strict=True):
        there = np.isfinite(dots.x) & np.isfinite(dots.y)
        trace.update(
            marker={"size": 6 if len(shown) > _WITH_SD else 9},
            error_y={
                "array": spread[there], "visible": len(shown) <= _WITH_SD, "width": 0,
                "thickness": 1, "color": theme.NEUTRAL,
            },
        )  # fmt: skip
    if len(shown) < len(model):
        _note(figure, f"{len(shown):,} of {len(model):,} inputs drawn, at even distances")
    return figure


def changes(
    values: Float[np.ndarray, "input"], *, delta: float, title: str, unit: str = "nats"
) -> go.Figure:
    """Draw how many inputs change by how much, and the shares that change by more than ``delta``.

    Args:
        values: Change of each input's loss, scrubbed minus model, in ``unit``; > 0 is worse.
        delta: What counts as a change, in ``unit``, > 0.
        title: Of the axis across, with unit and direction.
        unit: Of both.
    """
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    sizes = np.abs(known) if known.size else np.zeros(1)
    # A few far ones must not squash the others: the outermost bars hold what is beyond.
    most = min(float(sizes.max()), max(20 * delta, _FAR * float(np.percentile(sizes, 99))))
    # Bars end at ±delta, so that none has two colours; exactly delta is no change.
    wide = max(2 * delta, 2 * most / _BARS)
    above = np.nextafter(delta, np.inf) + wide * np.arange(max(0, int((most - delta) / wide)) + 2)
    edges = np.concatenate([-delta - wide * np.arange(len(above))[::-1], above])
    counts = np.histogram(np.clip(known, edges[0], edges[-1]), edges)[0]
    figure, middle = go.Figure(), len(above) - 1
    parts = {
        f"better by more than {delta:g} {unit}": (slice(0, middle), theme.NEGATIVE),
        "neither": (slice(middle, middle + 1), theme.NEUTRAL),
        f"worse by more than {delta:g} {unit}": (slice(middle + 1, None), theme.POSITIVE),
    }
    for name, (part, colour) in parts.items():
        lows, highs, heights = edges[:-1][part], edges[1:][part], counts[part]
        some = heights > 0
        share = f"{heights.sum() / known.size:.1%}" if known.size else "–"
        figure.add_bar(
            x=((lows + highs) / 2)[some], y=heights[some], width=(highs - lows)[some],
            name=f"{theme.label(name, 60)}: {share}", showlegend=True,
            marker={"color": colour, "line": {"width": 1, "color": colour}},
            hovertext=[f"{a:.3g} to {b:.3g}" for a, b in zip(lows[some], highs[some], strict=True)],
            hovertemplate="%{y} inputs change by %{hovertext}<extra></extra>",
        )  # fmt: skip
    there = np.flatnonzero(counts)
    low = min(-2 * delta, float(edges[there[0]]) if len(there) else 0.0)
    high = max(2 * delta, float(edges[there[-1] + 1]) if len(there) else 0.0)
    pad = 0.03 * (high - low)
    figure.update_xaxes(title=title, range=[low - pad, high + pad])
    figure.update_yaxes(
        title="inputs (log scale)", type="log", dtick=1,
        range=[-0.3, 0.15 + np.log10(max(2, counts.max()))],
    )  # fmt: skip
    figure.update_layout(barmode="overlay", legend=_ABOVE)
    theme.style(figure, height=300)
    beyond, missing = int(np.sum(sizes > edges[-1])), np.size(values) - known.size
    notes = [f"outermost bars: {beyond:,} further out"] if beyond else []
    notes += [f"left out for want of a number: {missing:,}"] if missing else []
    if notes:
        _note(figure, "; ".join(notes))
    return figure


def _note(figure: go.Figure, text: str) -> None:
    """Write a line below the axis."""
    figure.add_annotation(
        xref="paper", yref="paper", x=1, y=0, yshift=-50, xanchor="right", yanchor="top",
        text=labels.wrapped(text, 100, 2), showarrow=False, font={"size": labels.SIZE},
        align="right",
    )  # fmt: skip
    figure.update_layout(margin_b=76)


def success(
    x: Float[np.ndarray, "hypothesis"],
    y: Float[np.ndarray, "hypothesis"],
    kinds: Sequence[str],
    names: Sequence[str],
    *,
    titles: tuple[str, str],
    correlation: str,
    mark: Mark | None = None,
) -> go.Figure:
    """Draw hypotheses: scrubbed score across, what they are good for upwards.

    Args:
        x: The scrubbed score, in the unit of its title.
        y: The downstream score, in the unit of its title.
        kinds: What each is, e.g. "right" or "random"; a colour and a symbol each.
        names: What each is called on hover.
        titles: Titles of both axes, with units.
        correlation: The correlation with its interval, in words.
        mark: A named place on the axis across.
    """
    figure = go.Figure()
    for k, kind in enumerate(dict.fromkeys(kinds)):
        here = [i for i, one in enumerate(kinds) if one == kind and np.isfinite(x[i] + y[i])]
        colour, symbol = _LOOKS[k % len(_LOOKS)]
        figure.add_scatter(
            x=np.asarray(x, float)[here], y=np.asarray(y, float)[here], mode="markers",
            name=theme.label(kind, 40), text=[labels.wrapped(names[i], 60) for i in here],
            hovertemplate="%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>", showlegend=True,
            marker={
                "color": colour, "symbol": symbol, "opacity": 0.8,
                "size": _OPEN_SIZE if symbol.endswith("-open") else _FULL_SIZE,
                "line": {"width": 2 if symbol.endswith("-open") else 0},
            },
        )  # fmt: skip
    figure.update_xaxes(title=titles[0])
    figure.update_yaxes(title=titles[1])
    figure.update_layout(legend=_ABOVE)
    theme.style(figure, height=400)
    if mark is not None and np.isfinite(mark.value):
        _across(figure, mark, np.asarray(x, float))
    _note(figure, correlation)
    return figure


def _across(figure: go.Figure, mark: Mark, x: Float[np.ndarray, "point"]) -> None:
    """Draw a vertical line, its name between the figure and the legend, towards the middle."""
    every = np.append(x[np.isfinite(x)], mark.value)
    middle = (every.min() + every.max()) / 2
    figure.add_vline(x=mark.value, line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"})
    figure.add_annotation(
        x=mark.value, xanchor="left" if mark.value <= middle else "right", y=1, yref="paper",
        yanchor="bottom", text=theme.label(mark.name, 40),
        showarrow=False, font={"size": labels.SIZE},
    )  # fmt: skip
    figure.update_layout(legend_y=1.08)
