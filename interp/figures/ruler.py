"""The ruler that every score is drawn on, always the same, so that it is learned once."""

from __future__ import annotations

import plotly.graph_objects as go

from interp.figures import theme
from interp.scores import Absent, Anchor, Interval, Null, Score


def ruler(score: Score) -> go.Figure:
    """Draw floor, ceiling, constant guess, null band, interval, held-out value and the score."""
    figure = go.Figure()
    if isinstance(score.null, Null):
        figure.add_shape(
            type="rect", x0=score.null.low, x1=score.null.high, y0=-0.35, y1=0.35,
            fillcolor=theme.NEUTRAL, opacity=0.25, line_width=0,
        )  # fmt: skip
        figure.add_scatter(
            x=[score.null.median], y=[0], mode="markers", showlegend=False,
            marker={"symbol": "line-ns-open", "size": 14, "color": theme.NEUTRAL},
            hovertemplate=f"null: {_part(score.null)}<extra></extra>",
        )  # fmt: skip
    ticks = [a for a in (score.floor, score.ceiling, score.constant) if isinstance(a, Anchor)]
    low, high = _limits(score)
    near, below = 0.3 * (high - low), -1.0
    before = -float("inf")
    for tick in sorted(ticks, key=lambda a: a.value):
        # Names of ticks that stand close go below one another.
        below = below - 0.45 if tick.value - before < near else -1.0
        before = tick.value
        figure.add_shape(
            type="line",
            x0=tick.value,
            x1=tick.value,
            y0=-0.6,
            y1=0.6,
            line={"color": theme.NEUTRAL},
        )
        figure.add_annotation(x=tick.value, y=below, text=tick.name, showarrow=False)
    held = isinstance(score.held_out, Anchor)
    if isinstance(score.interval, Interval):
        figure.add_shape(
            type="line", x0=score.interval.low, x1=score.interval.high, y0=0, y1=0,
            line={"color": theme.NEGATIVE if held else theme.POSITIVE, "width": 3},
        )  # fmt: skip
    if isinstance(score.held_out, Anchor):
        figure.add_scatter(
            x=[score.held_out.value], y=[0], mode="markers", showlegend=False,
            marker={"symbol": "diamond-open", "size": 12, "color": theme.NEGATIVE},
            hovertemplate=f"{score.held_out.name}: %{{x:.3f}}<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=[score.value], y=[0], mode="markers", showlegend=False,
        marker={"size": 13, "color": theme.POSITIVE},
        hovertemplate=f"{theme.label(score.name, 80)}: %{{x:.3f}}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title=f"{score.unit}", range=_limits(score))
    figure.update_yaxes(visible=False, range=[-1.4 - 0.45 * (len(ticks) > 1), 0.9])
    return theme.style(figure, height=150)


def _limits(score: Score) -> list[float]:
    points = [score.floor.value, score.ceiling.value, score.value]
    points += [a.value for a in (score.constant, score.held_out) if isinstance(a, Anchor)]
    if isinstance(score.interval, Interval):
        points += [score.interval.low, score.interval.high]
    if isinstance(score.null, Null):
        points += [score.null.low, score.null.high]
    pad = 0.35 * (max(points) - min(points))
    return [min(points) - pad, max(points) + pad]


def in_words(score: Score) -> list[tuple[str, str]]:
    """List every part of the scale as (name, what it is); absent ones together, with reasons."""
    parts: list[tuple[str, Anchor | Null | Interval | Absent]] = [
        ("floor", score.floor),
        ("ceiling", score.ceiling),
        ("constant guess", score.constant),
        ("null", score.null),
        ("interval", score.interval),
        ("held out", score.held_out),
    ]
    told = [("value", f"{score.value:.3f} {score.unit} (n = {score.n})")]
    told += [(name, _part(part)) for name, part in parts if not isinstance(part, Absent)]
    # Two parts often lack for one reason: it is said once.
    lacking: dict[str, list[str]] = {}
    for name, part in parts:
        if isinstance(part, Absent):
            lacking.setdefault(part.reason, []).append(name)
    reasons = [f"{' and '.join(names)} ({reason})" for reason, names in lacking.items()]
    return told + ([("absent", "; ".join(reasons))] if reasons else [])


def _part(part: Anchor | Null | Interval) -> str:
    match part:
        case Anchor(name, value):
            return f"{value:.3g}: {name}"
        case Interval(low, high, level, method):
            return f"{low:.3f} to {high:.3f} ({level:.0%}, {method})"
        case Null(name, low, median, high, n):
            return f"{low:.3f} to {high:.3f} (5 to 95 %), median {median:.3f}: {name}, n = {n}"
