"""A figure with a stable name (links and exports use it) and a caption."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go


@dataclass(frozen=True)
class NamedFigure:
    """``selectable`` figures report clicks on their markers' customdata."""

    name: str
    title: str
    caption: str
    figure: go.Figure
    selectable: bool = False
