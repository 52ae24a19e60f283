"""What stands where a figure will be."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from interp.figures import labels, theme


def placeholder(titles: tuple[str, str], said: str = "Not computed yet") -> go.Figure:
    """Draw axes without numbers under the titles that they will have, and a line in the middle.

    Args:
        titles: Of the axis across and upwards; an upward axis without one is not drawn.
        said: The line.
    """
    figure = theme.style(go.Figure(), height=140)
    bare: dict[str, Any] = {
        "range": [0, 1],
        "showticklabels": False,
        "ticks": "",
        "showline": False,
    }
    figure.update_xaxes(title=titles[0], **bare)
    figure.update_yaxes(title=titles[1], visible=bool(titles[1]), **bare)
    figure.add_annotation(
        xref="paper", yref="paper", x=0.5, y=0.5, text=said, showarrow=False,
        font={"size": labels.SIZE + 2, "color": theme.NEUTRAL},
    )  # fmt: skip
    return figure
