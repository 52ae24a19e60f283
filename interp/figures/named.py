"""A figure with a stable name (links and exports use it), a caption, and its numbers as CSV."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go


@dataclass(frozen=True)
class NamedFigure:
    """A figure and what is said of it.

    ``selectable`` figures report clicks on their markers' customdata. ``texts`` are (label, plain
    text), shown below the figure to be read and copied. ``wide`` figures need the page's width.
    """

    name: str
    title: str
    caption: str
    figure: go.Figure
    selectable: bool = False
    texts: tuple[tuple[str, str], ...] = ()
    wide: bool = False

    @property
    def csv(self) -> str:
        """The numbers that are drawn: row, column and value of a map; series, x and y of points.

        Columns of numbers are headed by the titles of the axes or of the colours, which have the
        unit. Several maps in one figure are told apart by a first column, the name of each.
        Points whose hover text tells them apart have it, and those with an interval its ends.
        """
        out = io.StringIO()
        writer = csv.writer(out)
        traces: list[Any] = list(self.figure.data)
        maps = [trace for trace in traces if trace.type == "heatmap"]
        if maps:
            many = len(maps) > 1
            value = _title(maps[0].colorbar, "value")
            writer.writerow((*(["map"] if many else []), "row", "column", value))
            for one in maps:
                named = [_plain(one.name)] if many else []
                writer.writerows((*named, *cell) for cell in self._cells(one))
        else:
            writer.writerows(self._points([trace for trace in traces if not _guides(trace)]))
        return out.getvalue()

    def _points(self, traces: list[Any]) -> Iterator[list[Any]]:
        layout: Any = self.figure.layout
        # An axis that is not drawn only keeps points apart.
        axes = [axis for axis in "xy" if layout[f"{axis}axis"].visible is not False]
        named = any(_names(trace) for trace in traces)
        bounded = any(_bounds(trace) for trace in traces)
        yield [
            "series",
            *(["point"] if named else []),
            *(_title(layout[f"{axis}axis"], axis) for axis in axes),
            *(["low", "high"] if bounded else []),
        ]
        for trace in traces:
            names, bounds = _names(trace), _bounds(trace)
            for i in range(len(trace.x)):
                row = [_plain(trace.name or "")]
                row += [_plain(names[i]) if names else ""] if named else []
                row += [_plain(trace[axis][i]) for axis in axes]
                row += (bounds[i] if bounds else ["", ""]) if bounded else []
                yield row

    def _cells(self, trace: Any) -> Iterator[tuple[str, str, float | str]]:
        layout: Any = self.figure.layout
        # A map whose axes cannot show every label has them as meta.
        rows, cols = trace.meta or (layout.yaxis.ticktext, layout.xaxis.ticktext)
        for (i, j), value in np.ndenumerate(np.asarray(trace.z)):
            yield _plain(rows[i]), _plain(cols[j]), "" if np.isnan(value) else float(value)


def _guides(trace: Any) -> bool:
    """Whether a trace only guides the eye: a line without points that says nothing on hover."""
    return trace.type == "scatter" and trace.mode == "lines" and trace.hoverinfo == "skip"


def _title(owner: Any, otherwise: str) -> str:
    """Return the title of an axis or a colour bar."""
    return " ".join(str(_plain(owner.title.text or "")).split()) or otherwise


def _names(trace: Any) -> Sequence[str]:
    """Return what the hover text calls each point, if it calls them anything."""
    told = isinstance(trace.text, tuple | list) and "%{text}" in (trace.hovertemplate or "")
    return trace.text if told else ()


def _bounds(trace: Any) -> list[list[Any]]:
    """Return both ends of each point's interval, empty where there is none, if any has one."""
    for axis in "xy":
        error = trace[f"error_{axis}"]
        if error.array is not None:
            at = np.asarray(trace[axis], float)
            below = error.array if error.arrayminus is None else error.arrayminus
            ends = np.stack([at - np.asarray(below, float), at + np.asarray(error.array, float)], 1)
            return [["" if np.isnan(end) else float(end) for end in both] for both in ends]
    return []


def _plain(label: Any) -> Any:
    """Undo what a label needs to be drawn: markup and escapes; a position keeps its index."""
    if not isinstance(label, str):
        return label
    return html.unescape(re.sub(r"<[^>]+>", " ", label)).strip()
