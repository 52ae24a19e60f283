"""An answer of activation patching, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interp.analyses import _sweeps
from interp.axes import Grid as Effects
from interp.axes import Mask, PairGrid, PerPair
from interp.figures import curves, heatmap, theme
from interp.figures.named import NamedFigure
from interp.methods import effects
from interp.scores import Anchor, Interval, Score


def _no_grid() -> np.ndarray:
    return np.zeros((0, 0))


def _no_mask() -> np.ndarray:
    return np.zeros((0, 0), dtype=bool)


@dataclass(frozen=True)
class Result:
    """Effects by place, the metric of every single run, and the best cell's score.

    ``inert`` cells are 0 and ``forced`` cells 1 by the model's structure; neither is a finding.
    ``effect`` is 0 where the patch did nothing and 1 where it moved the metric by the whole gap
    between the corrupted and the clean run. ``low`` and ``high`` are NaN where there is no
    interval. ``values``, ``clean``, ``corrupted`` and ``least_gap`` are in ``unit``; a pair whose
    gap is below ``least_gap`` has nothing to recover (0 in answers from before there was one).
    ``clusters`` numbers each pair's group of words, which intervals resample; empty: single pairs.
    ``band_low`` and ``band_high`` hold for all cells at once, NaN where there is no band. ``exact``
    marks cells in the model's own precision; empty: all are. ``at`` is the one position where heads
    are patched, as sites print it, or empty.
    """

    site: str
    direction: str
    metric: str
    unit: str
    row_axis: str
    col_axis: str
    rows: tuple[str, ...]
    clean_tokens: tuple[tuple[str, ...], ...]
    corrupted_tokens: tuple[tuple[str, ...], ...]
    answers: tuple[str, ...]
    foils: tuple[str, ...]
    read: int
    held_out: tuple[bool, ...]
    values: PairGrid
    clean: PerPair
    corrupted: PerPair
    effect: Effects
    low: Effects
    high: Effects
    inert: Mask
    forced: Mask
    best: Score | None
    best_cell: tuple[int, ...]
    least_gap: float = 0.0
    clusters: tuple[int, ...] = ()
    band_low: Effects = field(default_factory=_no_grid)
    band_high: Effects = field(default_factory=_no_grid)
    exact: Mask = field(default_factory=_no_mask)
    arithmetic: _sweeps.Arithmetic = _sweeps.OWN
    at: str = ""
    joint: _sweeps.Joint | None = None

    @property
    def cols(self) -> list[str]:
        """Column labels; a position is named by its token where all pairs share it."""
        if self.col_axis == "head":
            return [f"H{i}" for i in range(self.effect.shape[1])]
        return theme.positions(tuple(_shared(at) for at in zip(*self.clean_tokens, strict=True)))


def _shared(texts: tuple[str, ...]) -> str:
    return texts[0] if len(set(texts)) == 1 else "*"


def place(result: Result, row: int, col: int) -> str:
    """Name a cell as sites print: ``L1H0.z@11``, ``L2H1.z``, ``L0.resid_pre@3``."""
    component = result.site.removesuffix("_pos")
    if result.col_axis == "head":
        return f"{result.rows[row]}H{col}.{component}{result.at}"
    return f"{result.rows[row]}.{component}@{col}"


def figures(result: Result) -> list[NamedFigure]:
    """Draw the map of effects and the two bare runs of each pair."""
    shape = result.effect.shape
    hover = [[_hover(result, i, j) for j in range(shape[1])] for i in range(shape[0])]
    done = result.direction == "denoising"
    n = len(result.clean)
    over = f"{len(set(result.clusters))} groups of words in " if result.clusters else ""
    several = (
        "Intervals come with the complete map."
        if result.best is None and n > 2
        else f"Means over {over}{n} pairs; hover for the 95 % bootstrap interval of each cell by "
        "itself."
        if np.isfinite(result.low).any()
        else f"{n} pair{'s' if n > 1 else ''}: no interval."
    )
    hatched = " Hatched cells cannot matter by the model's structure." if result.inert.any() else ""
    if result.forced.any():
        hatched += " Crossed cells are 1 by that structure and are no finding."
    into = "clean activation into the corrupted run" if done else "corrupted into the clean run"
    return [
        NamedFigure(
            "effects",
            f"Effect of patching {result.site.removesuffix('_pos')}{result.at} "
            f"({result.direction})",
            f"{result.direction.capitalize()}: {into}. Effect 0 = the patch did nothing, "
            f"1 = {'brought back' if done else 'lost'} the whole gap in {result.metric}. "
            f"{several}{hatched}{_stipple(result)}{_how(result)}",
            heatmap.heatmap(
                result.effect,
                rows=result.rows,
                cols=result.cols,
                titles=(result.row_axis, result.col_axis, "effect"),
                hover=hover,
                hatched=result.inert,
                crossed=result.forced,
                dotted=_different(result),
            ),
            selectable=True,
        ),
        NamedFigure(
            "runs",
            f"{result.metric[0].upper()}{result.metric[1:]} of the bare runs",
            f"Each pair's clean and corrupted run, without a patch, in {result.unit}."
            f"{_small(result)}",
            _runs(result),
        ),
    ]


def _runs(result: Result) -> Any:
    names = [f"{i}" for i in range(len(result.clean))]
    return curves.pairs(
        names,
        {"clean": result.clean, "corrupted": result.corrupted},
        titles=(f"{result.metric} ({result.unit})", "pair"),
    )


def _hover(result: Result, row: int, col: int) -> str:
    name = theme.label(place(result, row, col), 40)
    if result.inert[row, col]:
        return f"{name}: cannot matter"
    value = result.effect[row, col]
    if np.isnan(value):
        return f"{name}: not computed yet"
    text = f"{name}: effect {value:.3f}"
    if result.forced[row, col]:
        text += " by structure"
    if np.isfinite(result.low[row, col]):
        text += f" [{result.low[row, col]:.3f}, {result.high[row, col]:.3f}]"
    if result.band_low.size and np.isfinite(result.band_low[row, col]):
        low, high = result.band_low[row, col], result.band_high[row, col]
        text += f"<br>band for all cells at once [{low:.3f}, {high:.3f}]"
    if result.exact.size and not result.exact[row, col] and result.arithmetic.off is not None:
        text += f"<br>in {_COARSE[result.arithmetic.precision]}: may be off"
    mean = float(result.values[:, row, col].mean())
    return f"{text}<br>{result.metric} {mean:.3f} {result.unit}"


def verdict(result: Result) -> str:
    """Name the cells that carry the gap, with the scale of the claim."""
    if result.best is None:
        live = ~(result.inert | result.forced)
        done = int((np.isfinite(result.effect) & live).sum())
        if not live.any():
            return "No cell of this map tells anything: each is 0 or 1 by the model's structure."
        return f"{done} of {int(live.sum())} cells are computed; the rest are blank."
    size = np.where(result.inert | result.forced, -1.0, np.abs(result.effect))
    order = [np.unravel_index(int(i), size.shape) for i in np.argsort(-size, axis=None)]
    least = max(0.5 * float(size.max()), effects.LEAST_SAID)
    strong = [(int(r), int(c)) for r, c in order if size[r, c] >= least][:4]
    named = ", ".join(
        f"{place(result, r, c)} {_two(result.effect[r, c])}{_bounds(result, r, c)}"
        for r, c in strong
    )
    verb = "brought back" if result.direction == "denoising" else "lost"
    gap = (
        f"of the gap in {result.metric} "
        f"({result.corrupted.mean():.3g} corrupted to {result.clean.mean():.3g} clean, "
        f"{result.unit})"
    )
    rest = [
        float(size[r, c]) for r, c in order if (int(r), int(c)) not in strong and size[r, c] >= 0
    ]
    others = f"; every other cell that can vary stays within ±{max(rest):.2f}" if rest else ""
    if not strong:
        said = f"No patch moves as much as {effects.LEAST_SAID:g} {gap}."
    elif any(result.effect[r, c] < 0 for r, c in strong):
        back = "back" if result.direction == "denoising" else "away"
        said = f"Largest effects of one patch, as shares {gap} {verb} "
        said += f"(negative: not {back} but the other way): {named}{others}. {_note(result)}"
    else:
        said = f"Largest shares {verb} by one patch, {gap}: {named}{others}. {_note(result)}"
    more = [
        _rounded(result),
        _sweeps.different(result.band_low, result.band_high),
        result.joint.sentence if result.joint else "",
    ]
    return (
        f"{said}{_small(result)}"
        f"{effects.wrong_way(result.clean, result.corrupted, result.metric)}"
        f"{''.join(f' {one}' for one in more if one)}"
    )


def _rounded(result: Result) -> str:
    """Say beside the sentence which of its numbers are rounded, and how far these may be off."""
    if not result.arithmetic.deviation or (result.exact | result.inert).all():
        return ""
    what = f"in {_COARSE[result.arithmetic.precision]}"
    which = "Other cells than the largest" if result.arithmetic.precision == "screened" else "Cells"
    return f"{which} are {what}: {result.arithmetic.deviation}."


_COARSE = {"screened": "bfloat16", "bfloat16": "bfloat16", "tf32": "TF32"}


def _different(result: Result) -> Mask | None:
    if not result.band_low.size:
        return None
    known = np.isfinite(result.band_low)
    return known & ((result.band_low > 0) | (result.band_high < 0))


def _stipple(result: Result) -> str:
    """Say what the band for all cells at once found, or why there is none."""
    if result.best is None or len(result.clean) < 3:
        return ""
    if result.band_low.size and np.isfinite(result.band_low).any():
        return " Dotted cells differ from 0 by a band for all cells at once."
    return " A band for all cells at once takes 6 pairs or groups of words and a steady gap."


def _how(result: Result) -> str:
    return f" {result.arithmetic.sentence}" if result.arithmetic.sentence else ""


def _small(result: Result) -> str:
    said = effects.small_gaps(result.clean, result.corrupted, result.least_gap, result.unit)
    return said and f" {said}"


_two = _sweeps.two


def _note(result: Result) -> str:
    """Say what the best cell is worth on inputs that it was not chosen on."""
    best, n = result.best, len(result.clean)
    if best is None:
        return ""
    if isinstance(best.held_out, Anchor):
        spread = best.interval
        given = isinstance(spread, Interval)
        bounds = f" [{_two(spread.low)}, {_two(spread.high)}]" if given else ""
        return (
            f"Chosen on {best.n} search pairs, {place(result, *result.best_cell)} scores "
            f"{_two(best.held_out.value)}{bounds} {best.held_out.name}."
        )
    if n < 3:
        return f"{n} pair{'s' if n > 1 else ''}: no interval, and none held out."
    return f"No pair is held out: {best.held_out.reason}."


def _bounds(result: Result, row: int, col: int) -> str:
    low, high = result.low[row, col], result.high[row, col]
    return f" [{_two(low)}, {_two(high)}]" if np.isfinite(low) else ""


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say the clicked cell's number with its interval and draw its spread over pairs."""
    row, col = int(cell["0"]), int(cell["1"])
    said = _hover(result, row, col)
    name = place(result, row, col)
    return _sweeps.clicked(result, (row, col), said=said, name=name, what="with this patch")
