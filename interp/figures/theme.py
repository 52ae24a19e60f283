"""One look for every figure: fonts, colours, labels.

Effects are drawn red = positive, blue = negative, white = 0 with symmetric limits; probabilities
on a single-hue scale. Both survive the common colour blindnesses. Backgrounds are transparent, so
that a figure sits in the light and the dark theme alike.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go

DIVERGING = "RdBu_r"
SEQUENTIAL = "Blues"
POSITIVE, NEGATIVE, NEUTRAL, ACCENT = "#b2182b", "#2166ac", "#7f7f7f", "#1b7837"
FONT = "Source Sans Pro, DejaVu Sans, sans-serif"
_LONGEST = 12
_ACROSS = 45
"""Letters of all column labels together that fit side by side in the narrowest window."""


def label(text: str, longest: int = _LONGEST) -> str:
    """Make a token safe and short enough for an axis or hover text.

    Plotly reads a subset of HTML in labels, so a token ``<b>`` must be escaped. A leading space
    shows as a middle dot and a line break as its sign; a long token is cut with an ellipsis.
    """
    shown = text.replace("\n", "⏎").replace("\t", "⇥")
    if shown.startswith(" "):
        shown = "·" + shown[1:]
    if len(shown) > longest:
        shown = shown[: longest - 1] + "…"
    # Quotes are no markup in a label, and plotly would show their escapes.
    return html.escape(shown, quote=False)


def positions(tokens: tuple[str, ...]) -> list[str]:
    """Label positions by token and index, so that duplicates stay apart.

    Labels of many positions are written upwards, in one line each.
    """
    if crowded(tokens):
        return [f"{label(token)} {i}" for i, token in enumerate(tokens)]
    longest = _LONGEST if len(tokens) <= 8 else 7
    return [f"{label(token, longest)}<br><sub>{i}</sub>" for i, token in enumerate(tokens)]


def crowded(tokens: Sequence[str]) -> bool:
    """Whether the labels of so many columns must be written upwards to stay apart."""
    return len(tokens) > 8 and sum(min(len(t), _LONGEST) for t in tokens) > _ACROSS


def style(figure: go.Figure, *, height: int) -> go.Figure:
    """Apply the common layout; ``height`` in pixels."""
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        font={"family": FONT, "size": 13},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"font": {"family": FONT}},
        dragmode=False,
        clickmode="event+select",
    )
    figure.update_xaxes(automargin=True, fixedrange=True, showgrid=False, zeroline=False)
    figure.update_yaxes(automargin=True, fixedrange=True, showgrid=False, zeroline=False)
    return figure
