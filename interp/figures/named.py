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
    """``selectable`` figures report clicks on their markers' customdata."""

    name: str
    title: str
    caption: str
    figure: go.Figure
    selectable: bool = False

    @property
    def csv(self) -> str:
        """The numbers that are drawn: row, column and value of a map; series, x and y of curves."""
        out = io.StringIO()
        writer = csv.writer(out)
        traces: list[Any] = list(self.figure.data)
        maps = [trace for trace in traces if trace.type == "heatmap"]
        if maps:
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
        rows, cols = layout.yaxis.ticktext, layout.xaxis.ticktext
        for (i, j), value in np.ndenumerate(np.asarray(trace.z)):
            yield _plain(rows[i]), _plain(cols[j]), "" if np.isnan(value) else float(value)


def _plain(label: Any) -> Any:
    """Undo what a label needs to be drawn: markup and escapes; a position keeps its index."""
    if not isinstance(label, str):
        return label
    return html.unescape(re.sub(r"<[^>]+>", " ", label)).strip()
