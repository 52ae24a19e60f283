"""A figure with a stable name (links and exports use it), a caption, and its numbers as CSV."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go


@dataclass(frozen=True)
class NamedFigure:
    """A figure and what is said of it.

    ``selectable`` figures report clicks on their markers' customdata. ``texts`` are (label, plain
    text), shown below the figure to be read and copied.
    """

    name: str
    title: str
    caption: str
    figure: go.Figure
    selectable: bool = False
    texts: tuple[tuple[str, str], ...] = ()

    @property
    def csv(self) -> str:
        """The numbers that are drawn: row, column and value of a map; series, x and y of curves.

        Several maps in one figure are told apart by a first column, the name of each.
        """
        out = io.StringIO()
        writer = csv.writer(out)
        traces: list[Any] = list(self.figure.data)
        maps = [trace for trace in traces if trace.type == "heatmap"]
        if len(maps) > 1:
            writer.writerow(("map", "row", "column", "value"))
            writer.writerows((_plain(m.name), *cell) for m in maps for cell in self._cells(m))
        elif maps:
            writer.writerow(("row", "column", "value"))
            writer.writerows(self._cells(maps[0]))
        else:
            writer.writerow(("series", "x", "y"))
            for trace in traces:
                for x, y in zip(trace.x, trace.y, strict=True):
                    writer.writerow((_plain(trace.name or ""), _plain(x), _plain(y)))
        return out.getvalue()

    def _cells(self, trace: Any) -> Iterator[tuple[str, str, float | str]]:
        layout: Any = self.figure.layout
        # A map whose axes cannot show every label has them as meta.
        rows, cols = trace.meta or (layout.yaxis.ticktext, layout.xaxis.ticktext)
        for (i, j), value in np.ndenumerate(np.asarray(trace.z)):
            yield _plain(rows[i]), _plain(cols[j]), "" if np.isnan(value) else float(value)


def _plain(label: Any) -> Any:
    """Undo what a label needs to be drawn: markup and escapes; a position keeps its index."""
    if not isinstance(label, str):
        return label
    return html.unescape(re.sub(r"<[^>]+>", " ", label)).strip()
