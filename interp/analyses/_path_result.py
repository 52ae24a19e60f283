"""What path patching finds, and how it is drawn and read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.analyses import _paths, _sweeps
from interp.axes import Grid as Effects
from interp.axes import Mask, PairGrid, PerPair
from interp.figures import curves, heatmap
from interp.figures.named import NamedFigure
from interp.methods import effects
from interp.methods.paths import name
from interp.scores import Score

LEAST = 0.05
"""Share of the gap below which a sender is not worth following."""


@dataclass(frozen=True)
class Result:
    """Effects by sender, the metric of every single run, and the best sender's score.

    ``rows`` are layers, ``cols`` heads, the MLP and the embeddings (which stand in the lowest row);
    ``inert`` cells are no senders or not upstream of any receiver, and 0. ``effect`` is 0 where
    what was sent did nothing and 1 where it moved the metric by the whole gap. ``low`` and
    ``high`` are NaN where there is no interval. ``values``, ``clean``, ``corrupted`` and
    ``least_gap`` are in ``unit``. ``key_heads`` counts the heads that have keys and values of
    their own; ``parallel`` is whether attention and MLP read one stream. ``clusters`` numbers each
    pair's group of words, which intervals resample; empty: single pairs.
    """

    receivers: tuple[str, ...]
    via: str
    direction: str
    metric: str
    unit: str
    rows: tuple[str, ...]
    cols: tuple[str, ...]
    key_heads: int
    parallel: bool
    values: PairGrid
    clean: PerPair
    corrupted: PerPair
    effect: Effects
    low: Effects
    high: Effects
    inert: Mask
    best: Score | None
    best_cell: tuple[int, ...]
    least_gap: float
    clusters: tuple[int, ...]

    @property
    def order(self) -> list[tuple[int, int]]:
        """Senders that can matter and are computed, the largest effect first."""
        size = np.where(self.inert | np.isnan(self.effect), -1.0, np.abs(self.effect))
        ranked = np.argsort(-size, axis=None, kind="stable")
        cells = [divmod(int(i), size.shape[1]) for i in ranked]
        return [cell for cell in cells if size[cell] >= 0]

    def name(self, row: int, col: int) -> str:
        """Name a sender: ``L5H3``, ``MLP 4``, ``embeddings``."""
        return name(row, self.cols[col])

    def inputs(self, row: int, col: int) -> list[tuple[str, str]]:
        """List what a sender itself reads: in words, and as a receiver."""
        return _paths.inputs_of(row, self.cols, col, self.key_heads)


def figures(result: Result) -> list[NamedFigure]:
    """Draw the map of senders and the two bare runs of each pair."""
    rows, cols = (range(size) for size in result.effect.shape)
    hover = [[_hover(result, i, j) for j in cols] for i in rows]
    lost, n = result.direction == "noising", len(result.clean)
    what, into = (
        ("corrupted minus clean", "clean") if lost else ("clean minus corrupted", "corrupted")
    )
    over = f"{len(set(result.clusters))} groups of words in " if result.clusters else ""
    several = (
        "Intervals come with the complete map."
        if result.best is None and n > 2
        else f"Means over {over}{n} pairs; hover for the 95 % bootstrap interval of each sender by "
        "itself."
        if np.isfinite(result.low).any()
        else f"{n} pair{'s' if n > 1 else ''}: no interval."
    )
    return [
        NamedFigure(
            "effects",
            f"What each sender writes into {_paths.readers(result.receivers)} ({result.direction})",
            f"{result.direction.capitalize()}: {what} output, sent into the {into} run "
            f"{_paths.way(result.via)}; only the receivers read it. Effect 0 = it did nothing, 1 = "
            f"{'lost' if lost else 'brought back'} the whole gap in {result.metric}, below 0 = it "
            f"pushes the other way. {several} "
            "Hatched cells are not upstream of a receiver; the embeddings are written before L0. "
            "Click a sender to go on from there.",
            heatmap.heatmap(
                result.effect,
                rows=result.rows,
                cols=result.cols,
                titles=("sender's layer", "sender", "effect"),
                hover=hover,
                hatched=result.inert,
            ),
            selectable=True,
        ),
        NamedFigure(
            "runs",
            f"{result.metric[0].upper()}{result.metric[1:]} of the bare runs",
            f"Each pair's clean and corrupted run, with nothing sent, in {result.unit}."
            f"{_small(result)}",
            curves.pairs(
                [f"{i}" for i in range(n)],
                {"clean": result.clean, "corrupted": result.corrupted},
                titles=(f"{result.metric} ({result.unit})", "pair"),
            ),
        ),
    ]


def _hover(result: Result, row: int, col: int) -> str:
    sender, value = result.name(row, col), result.effect[row, col]
    if result.inert[row, col]:
        none = result.cols[col] == "embed" and row > 0
        return f"L{row}: no embeddings here" if none else f"{sender}: not upstream"
    if np.isnan(value):
        return f"{sender}: not computed yet"
    text = f"{sender}: effect {_paths.decimals(value, 3)}"
    if np.isfinite(result.low[row, col]):
        bounds = (result.low[row, col], result.high[row, col])
        text += " [{}, {}]".format(*(_paths.decimals(bound, 3) for bound in bounds))
    mean = _paths.decimals(float(result.values[:, row, col].mean()), 3)
    return f"{text}<br>{result.metric} {mean} {result.unit}"


def _small(result: Result) -> str:
    said = effects.small_gaps(result.clean, result.corrupted, result.least_gap, result.unit)
    return said and f" {said}"


def told(result: Result, row: int, col: int) -> str:
    low, high = result.low[row, col], result.high[row, col]
    bounds = f" [{_paths.two(low)}, {_paths.two(high)}]" if np.isfinite(low) else ""
    return f"{_paths.two(result.effect[row, col])}{bounds}"


def verdict(result: Result) -> str:
    """Name the senders that carry the gap, with the scale of the claim and the next step."""
    if result.best is None:
        done, live = len(result.order), int((~result.inert).sum())
        return f"{done} of {live} senders are computed; the rest are blank."
    most = abs(float(result.effect[result.order[0]]))
    strong = [c for c in result.order if abs(result.effect[c]) >= max(0.5 * most, LEAST)][:4]
    gap = (
        f"the gap in {result.metric} ({result.corrupted.mean():.3g} corrupted to "
        f"{result.clean.mean():.3g} clean, {result.unit})"
    )
    end = _small(result) + effects.wrong_way(result.clean, result.corrupted, result.metric)
    where = f"{_paths.way(result.via)} into {_paths.readers(result.receivers)}"
    if not strong:
        blind = result.via == "direct" and "MLP" in result.cols
        through = ", or it goes through MLPs" if blind else ""
        value = _paths.decimals(float(result.effect[result.order[0]]), 3)
        first = f"{result.name(*result.order[0])}, has {value}"
        return (
            f"No sender moves {LEAST:g} or more of {gap} by itself {where}: the largest, {first}."
            f" Either many write a little{through}, or the receivers do not matter here.{end}"
        )
    rest = [abs(float(result.effect[cell])) for cell in result.order if cell not in strong]
    chosen = name(result.best_cell[0], result.cols[result.best_cell[1]])
    others = f"; every other sender stays within ±{max(rest):.2f}" if rest else ""
    return (
        f"{_shares(result, strong, where, gap)}{others}. "
        f"{_paths.worth(result.best, chosen, len(result.clean))} {_onward(result)}{end}"
    )


def _shares(result: Result, strong: list[tuple[int, int]], where: str, gap: str) -> str:
    """Name the strongest senders, those that widen the gap apart from those that close it."""
    with_it, against = (
        ", ".join(
            f"{result.name(*cell)} {told(result, *cell)}"
            for cell in strong
            if (result.effect[cell] > 0) == positive
        )
        for positive in (True, False)
    )
    if not with_it:
        return f"Largest pushes the other way by one sender, {where}, in shares of {gap}: {against}"
    verb = "lost" if result.direction == "noising" else "brought back"
    first = f"Largest shares {verb} by one sender, {where}, of {gap}: {with_it}"
    return f"{first}; pushing the other way: {against}" if against else first


def onward(result: Result) -> tuple[int, int] | None:
    """Return the strongest sender worth following: its interval, if there are any, leaves 0 out."""
    given = np.isfinite(result.low)
    distinct = ~given | (result.low > 0) | (result.high < 0)
    worth = (c for c in result.order if abs(result.effect[c]) >= LEAST and distinct[c])
    return next(worth, None)


def _onward(result: Result) -> str:
    cell = onward(result)
    if cell is None:
        return "None of them is distinct from 0: no interval leaves it out. Next: ask more pairs."
    if not result.inputs(*cell):
        return "The embeddings write it: the walk ends here."
    if cell == result.order[0]:
        return f"Next: who writes into {result.name(*cell)}?"
    return (
        f"Next: who writes into {result.name(*cell)}, {told(result, *cell)}? It is the strongest "
        "whose interval leaves 0 out."
    )


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say the clicked sender's number with its interval and draw its spread over pairs."""
    row, col = int(cell["0"]), int(cell["1"])
    said = _hover(result, row, col)
    name = result.name(row, col)
    return _sweeps.clicked(result, (row, col), said=said, name=name, what="with this sent")
