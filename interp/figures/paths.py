"""A small graph of who writes into whom, earlier layers below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from interp.figures import theme

_ROW_PX = 92
_STAGGER = 0.15
"""Nodes that stand alone in their row swing to the sides, so that no line runs through one."""


@dataclass(frozen=True)
class Node:
    """A component: its name, its height, and what its row is called."""

    name: str
    level: int
    row: str


@dataclass(frozen=True)
class Edge:
    """A path from one node to another, its label, its effect, and its hover text."""

    sender: str
    receiver: str
    label: str
    effect: float
    hover: str


def graph(nodes: Sequence[Node], edges: Sequence[Edge]) -> go.Figure:
    """Draw components and the paths between them: colour is the sign, width the size of an effect.

    Args:
        nodes: Components, each once.
        edges: Paths; both ends are among the nodes.
    """
    places = _places(nodes, edges)
    figure = go.Figure()
    for edge in edges:
        (x0, y0), (x1, y1) = places[edge.sender], places[edge.receiver]
        colour = theme.POSITIVE if edge.effect >= 0 else theme.NEGATIVE
        middle = (x0 + x1) / 2, (y0 + y1) / 2
        figure.add_scatter(
            x=[x0, middle[0], x1], y=[y0, middle[1], y1], mode="lines", showlegend=False,
            line={"color": colour, "width": 1.5 + 5 * min(1.0, abs(edge.effect))},
            opacity=0.75, text=[edge.hover] * 3, hovertemplate="%{text}<extra></extra>",
            name=f"{edge.sender} to {edge.receiver}",
        )  # fmt: skip
    _label_edges(figure, edges, places)
    xs, ys = zip(*(places[node.name] for node in nodes), strict=True)
    figure.add_scatter(
        x=xs, y=ys, mode="markers+text", text=[_beside(n.name) for n in nodes],
        # A label stands on the side to which its node swings, away from the lines.
        textposition=["middle left" if x < 0 else "middle right" for x in xs],
        showlegend=False, hoverinfo="skip", name="components", cliponaxis=False,
        marker={"size": 13, "color": theme.NEUTRAL, "line": {"width": 2, "color": "white"}},
    )  # fmt: skip
    rows = {places[node.name][1]: node.row for node in nodes}
    figure.update_xaxes(visible=False, range=[-1.4, 1.4])
    figure.update_yaxes(
        title="layer", tickmode="array", tickvals=list(rows), ticktext=list(rows.values()),
        range=[-0.5, max(rows) + 0.5],
    )  # fmt: skip
    return theme.style(figure, height=70 + _ROW_PX * len(rows))


def _places(nodes: Sequence[Node], edges: Sequence[Edge]) -> dict[str, tuple[float, float]]:
    """Give each node its place: a row a level; those that only send are spread over the width."""
    reading = {edge.receiver for edge in edges}
    levels = sorted({node.level for node in nodes})
    rows = [[n.name for n in nodes if n.level == at and n.name in reading] for at in levels]
    ends = [node.name for node in nodes if node.name not in reading]
    across = {name: x for row in rows if len(row) > 1 for name, x in _spread(row)}
    across |= dict(_spread(ends)) if len(ends) > 1 else {}
    return {
        node.name: (across.get(node.name, _STAGGER if y % 2 else -_STAGGER), float(y))
        for node in nodes
        for y in [levels.index(node.level)]
    }


def _spread(names: Sequence[str]) -> list[tuple[str, float]]:
    return [(name, 0.7 * (2 * i / (len(names) - 1) - 1)) for i, name in enumerate(names)]


def _beside(name: str) -> str:
    """Write a name with room towards its node on either side."""
    return f"  <b>{theme.label(name, 24)}</b>  "


def _label_edges(
    figure: go.Figure, edges: Sequence[Edge], places: dict[str, tuple[float, float]]
) -> None:
    """Write labels beside the lines, those of one pair of nodes together."""
    together: dict[tuple[str, str], list[str]] = {}
    for edge in edges:
        together.setdefault((edge.sender, edge.receiver), []).append(edge.label)
    for (sender, receiver), labels in together.items():
        (x0, y0), (x1, y1) = places[sender], places[receiver]
        # Nearer to the sender, where lines that end in one receiver are apart; outside of what the
        # lines enclose, and on the side to which the line does not lean.
        x, lean = x0 + 0.28 * (x1 - x0), (x1 > x0) - (x1 < x0)
        side = -1 if x0 + x1 < -0.1 else 1
        figure.add_annotation(
            x=x, y=y0 + 0.28 * (y1 - y0), text="<br>".join(labels), showarrow=False,
            xanchor="left" if side > 0 else "right", xshift=10 * side, yshift=-9 * lean * side,
            align="left" if side > 0 else "right", font={"size": 12},
        )  # fmt: skip
