"""What ablation finds, and how it is drawn and read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.axes import AblationGrid, AblationPairGrid, Mask, PerPair
from interp.figures import ablation as drawn
from interp.figures.named import NamedFigure
from interp.methods import effects
from interp.methods.changes import (
    common_top,
    furthest_apart,
    largest,
    mean_change,
    no_interval,
    opposite,
)
from interp.methods.pools import ABLATIONS

TOP, SHOWN, TOLD = 5, 10, 3
"""Components that are compared between the ways, drawn, and told in words."""
SAME = 0.5
"""Share of draws with the same answer from which it is said that they keep it."""


@dataclass(frozen=True)
class Result:
    """The metric of every input, bare and with each component taken out, and what that changes.

    Attributes:
        metric: Its name in words.
        unit: Of ``values``, ``clean``, ``corrupted``, ``change``, ``low`` and ``high``.
        pool: "clean" or "corrupted": where mean and resample take activations from.
        averaged: What the mean is over, in words.
        draws: Runs of an input that resample is the mean over; of some it may be fewer.
        same_answer: Share of the draws from the clean pool whose prompt has the same answer.
        rows: Layers.
        cols: Components of each: heads, the attention as a whole, the MLP if there is one.
        clean_tokens: Texts of each clean prompt's tokens.
        values: With a component taken out, by zero, mean and resample (mean over draws).
        clean: Bare clean runs.
        corrupted: Bare corrupted runs.
        change: Mean over inputs of ``values - clean``.
        low: Lower end of its 95 % interval; NaN where there is none.
        high: Upper end.
        held_out: Inputs that do not choose what the sentence names, or empty.
        clusters: Number of each input's group of words, or empty.
        fewest_draws: Runs that resample is the mean over for the input that has fewest; 0:
            ``draws``.
    """

    metric: str
    unit: str
    pool: str
    averaged: str
    draws: int
    same_answer: float
    rows: tuple[str, ...]
    cols: tuple[str, ...]
    clean_tokens: tuple[tuple[str, ...], ...]
    values: AblationPairGrid
    clean: PerPair
    corrupted: PerPair
    change: AblationGrid
    low: AblationGrid
    high: AblationGrid
    held_out: tuple[bool, ...]
    clusters: tuple[int, ...]
    fewest_draws: int = 0

    @property
    def falls(self) -> bool:
        """Whether taking out what helps makes the metric smaller."""
        return self.metric in (effects.METRICS["logit_diff"][0], effects.METRICS["prob"][0])

    @property
    def units(self) -> Mask:
        """Heads and MLPs: components that hold no other."""
        return np.tile(np.array([col != "attn" for col in self.cols]), (len(self.rows), 1))

    def name(self, row: int, col: int) -> str:
        """Name a component: ``L1H0``, ``L1 attn``, ``L1 MLP``."""
        part = self.cols[col]
        return f"{self.rows[row]}{part}" if part[0] == "H" else f"{self.rows[row]} {part}"


def figures(result: Result) -> list[NamedFigure]:
    """Draw the three maps on one scale, and where they differ most."""
    gap = abs(float(result.clean.mean() - result.corrupted.mean()))
    finite = result.change[np.isfinite(result.change)]
    most = max(float(np.abs(finite).max(initial=0.0)), gap) or 1.0
    cells = range(len(result.rows)), range(len(result.cols))
    hover = [
        [[_hover(result, k, i, j) for j in cells[1]] for i in cells[0]]
        for k in range(len(ABLATIONS))
    ]
    named = {name: result.change[k] for k, name in enumerate(ABLATIONS)}
    return [
        NamedFigure(
            "changes",
            f"Change of the {result.metric} when a component is taken out",
            _caption(result),
            drawn.side_by_side(
                named,
                rows=result.rows,
                cols=result.cols,
                titles=("layer", "component", result.unit),
                most=most,
                hover=hover,
            ),
            selectable=True,
        ),
        _differences(result),
    ]


def _caption(result: Result) -> str:
    n, draws = len(result.clean), f"{result.draws} draw{'s' if result.draws > 1 else ''}"
    if 0 < result.fewest_draws < result.draws:
        draws = f"{result.fewest_draws} to {draws}, as many as there are others"
    if result.metric == effects.METRICS["kl"][0]:
        means = "red: the outputs are others without it"
    else:
        means = f"{'blue' if result.falls else 'red'}: the component helped"
    taken = (
        "its own corrupted partner"
        if result.pool == "corrupted"
        else f"another clean prompt of its length (mean of {draws})"
    )
    over = f"{len(set(result.clusters))} groups of words in " if result.clusters else ""
    spread = (
        f"Hover for the 95 % interval over {over}{n} inputs. It is each component's own: of those "
        "that do nothing one in 20 leaves out 0 all the same."
        if np.isfinite(result.low).any()
        else f"{why[0].upper()}{why[1:]}."
        if (why := no_interval(n, result.clusters))
        else "Intervals come with each component's last run."
    )
    return (
        f"Taken out minus clean, at all positions at once; {means}. Clean "
        f"{result.clean.mean():.3g}, corrupted {result.corrupted.mean():.3g} {result.unit}. Zero: "
        f"its output is 0. Mean: its mean over {result.averaged}. Resample: what it gives on "
        f"{taken}. attn{' and MLP' if 'MLP' in result.cols else ''}: what a whole layer's adds to "
        f"the residual stream. {spread}"
    )


def _hover(result: Result, way: int, row: int, col: int) -> str:
    name, value = f"{result.name(row, col)}, {ABLATIONS[way]}", result.change[way, row, col]
    if np.isnan(value):
        return f"{name}: not computed yet"
    share = _share(result, float(value))
    return f"{name}: {_told(result, way, row, col)} {result.unit}{share and f'<br>{share}'}"


def _told(result: Result, way: int, row: int, col: int) -> str:
    """Write a change with its sign and interval."""
    parts = (float(part[way, row, col]) for part in (result.change, result.low, result.high))
    return drawn.told(*parts)


def _share(result: Result, value: float) -> str:
    """Compare a change with the clean mean, where that is surely above a zero with a meaning."""
    mean, low, _ = mean_change(result.clean, result.clusters)
    above = float(low if np.isfinite(low) else mean)
    if not result.falls or above <= 0:
        return ""
    return f"{abs(value) / float(mean):.0%} of the clean {float(mean):.3g}".replace("%", " %")


def _differences(result: Result) -> NamedFigure:
    found = furthest_apart(result.change, SHOWN)
    r, c = np.array(found, dtype=int).reshape(-1, 2).T
    series = {
        name: (result.change[k, r, c], result.low[k, r, c], result.high[k, r, c])
        for k, name in enumerate(ABLATIONS)
    }
    caption = "The three ways agree on every component."
    if found:
        told = "; ".join(_apart(result, *cell) for cell in found[:TOLD])
        bars = ", with 95 % intervals" if np.isfinite(result.low).any() else ""
        caption = (
            f"Components by how far the three ways are apart{bars}. {told}. Zero and mean put in "
            "what no prompt gives; resample what another prompt gives."
        )
    figure = drawn.ways(
        [result.name(*cell) for cell in found],
        series,
        titles=(f"change of the {result.metric} ({result.unit})", "component"),
    )
    return NamedFigure("differences", "Where the way matters most", caption, figure)


def _apart(result: Result, row: int, col: int) -> str:
    """Say how far the ways are apart for one component; inputs are compared one by one."""
    of_cell = result.change[:, row, col]
    up, down = int(of_cell.argmax()), int(of_cell.argmin())
    runs = result.values[:, :, row, col]
    mean, low, high = mean_change(runs[up] - runs[down], result.clusters)
    bounds = f" [{float(low):.3g}, {float(high):.3g}]" if np.isfinite(low) else ""
    ends = (f"{ABLATIONS[k]} {drawn.signed(float(of_cell[k]))}" for k in sorted((up, down)))
    return f"{result.name(row, col)}: {', '.join(ends)}, {float(mean):.3g}{bounds} apart"


def verdict(result: Result) -> str:
    """Name the largest losses of each way, whether the ways agree, and one next step."""
    left = np.isnan(result.change).any(0)
    if left.any():
        return (
            f"{int((~left).sum())} of {left.size} components are computed in all three ways; the "
            "rest are blank."
        )
    idle = [
        name
        for name, part in zip(ABLATIONS, result.change, strict=True)
        if not part[result.units].any()
    ]
    if idle:
        some = "" if len(idle) == len(ABLATIONS) else f"{_largest(result)} "
        return f"{some}{_idle(result, idle)}{_kept(result)}"
    k, shared, chance = common_top(np.abs(result.change[:, result.units]), TOP)
    n, mlps = int(result.units.sum()), " and MLPs" if "MLP" in result.cols else ""
    agree = (
        f"The top {k} of the three ways have {shared} in common ({chance:.2g} by chance, of {n} "
        f"heads{mlps})."
    )
    # A sign that turns within a hundredth of the largest change is no finding.
    size = np.sort(np.abs(result.change), 0)[-2] >= 0.01 * np.abs(result.change).max()
    both = opposite(result.low, result.high) & result.units & size
    turned = [result.name(int(r), int(c)) for r, c in np.argwhere(both)]
    if turned:
        more = f" and {len(turned) - TOLD} more" if len(turned) > TOLD else ""
        agree += f" The sign depends on the way at {', '.join(turned[:TOLD])}{more}."
    step = _next_step(result, agree=shared == k and not turned)
    return f"{_largest(result)} {agree}{_kept(result)} {step}"


def _idle(result: Result, ways: list[str]) -> str:
    """Say that no head or MLP does anything in these ways, and whether whole attentions do."""
    by = " or ".join(ways)
    one = "head or MLP" if "MLP" in result.cols else "head"
    whole = [k for k, name in enumerate(ABLATIONS) if name in ways and result.change[k].any()]
    if not whole:
        return f"No component changes the {result.metric} by {by}."
    so = " or ".join(ABLATIONS[k] for k in whole)
    return (
        f"No single {one} changes the {result.metric} by {by}; a whole attention layer does by "
        f"{so}. Next: click it."
    )


def _largest(result: Result) -> str:
    told = [f"{way} {_worst(result, k)}" for k, way in enumerate(ABLATIONS)]
    held = np.array(result.held_out, dtype=bool)
    n = int(held.sum())
    chosen = f"chosen on {len(result.clean) - n} inputs, measured on the {n} held out"
    groups = np.array(result.clusters)[held].tolist() if n and result.clusters else ()
    why = no_interval(n, groups) if n and np.isfinite(result.low).any() else ""
    one = "one head or MLP" if "MLP" in result.cols else "one head"
    return (
        f"The {result.metric} ({result.clean.mean():.3g} clean, {result.corrupted.mean():.3g} "
        f"corrupted, {result.unit}) {'falls' if result.falls else 'rises'} most without {one}: "
        f"{'; '.join(told)} ({chosen if n else 'no input is held out'}{why and f': {why}'})."
    )


def _worst(result: Result, way: int) -> str:
    """Name the component that one way finds to matter most, and what it does where it is measured.

    What is chosen on one half of the inputs may not hold on the other; then this is said.
    """
    sign = -1.0 if result.falls else 1.0
    harm = sign * (result.values[way] - result.clean[:, None, None])
    cell, found = largest(harm, result.units, result.held_out, result.clusters)
    search = ~np.array(result.held_out) if any(result.held_out) else slice(None)
    change = float(harm[search].mean(0)[cell])
    name, verb = result.name(*cell), "fall" if result.falls else "rise"
    if drawn.signed(max(change, 0.0)) == "0":
        return f"no {verb} on the inputs that choose" if any(result.held_out) else f"no {verb}"
    value, *ends = (sign * number for number in found)
    said = f"{name} {drawn.told(value, min(ends), max(ends))}"
    return said if found[0] > 0 else f"{said}, a {verb} on the inputs that chose it alone"


def _kept(result: Result) -> str:
    """Warn where the pool has the same answers: then what carries the answer is put back."""
    if result.same_answer < SAME:
        return ""
    return (
        f" {result.same_answer:.0%} of the draws have the same answer, so mean and resample put "
        "back what carries it."
    ).replace("%", " %")


def _next_step(result: Result, *, agree: bool) -> str:
    if result.same_answer >= SAME:
        return "Next: choose the pool 'corrupted'."
    if not np.isfinite(result.low).any():
        if result.clusters and len(result.clean) >= effects.FEWEST:
            return "Next: ask inputs of more groups of words, for intervals."
        return f"Next: ask {effects.FEWEST} inputs or more, for intervals."
    if agree:
        return "Next: split what they share by position, or ask for its paths to the logits."
    return "Next: click where they differ. Only resample puts in what some prompt gives."


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say what taking out the clicked component does in each way, and draw it input by input."""
    row, col = int(cell["0"]), int(cell["1"])
    name, of_cell = result.name(row, col), result.values[:, :, row, col]
    if np.isnan(of_cell).any():
        return f"{name}: not computed yet.", []
    told = [f"{way} {_told(result, k, row, col)}" for k, way in enumerate(ABLATIONS)]
    shares = [_share(result, float(result.change[k, row, col])) for k in range(len(ABLATIONS))]
    if all(shares):
        told = [f"{text} ({share})" for text, share in zip(told, shares, strict=True)]
    prompts = ["".join(texts) for texts in result.clean_tokens]
    figure = drawn.spreads(
        dict(zip(ABLATIONS, of_cell, strict=True)),
        title=f"{result.metric} without {name} ({result.unit}), one point an input",
        marks={"corrupted": float(result.corrupted.mean()), "clean": float(result.clean.mean())},
        hover=[f"input {i}: {drawn.theme.label(text, 40)}" for i, text in enumerate(prompts)],
    )
    text = f"{name} taken out, in {result.unit}: {'; '.join(told)}."
    return text, [NamedFigure("cell", name, "Dotted: means of the bare runs.", figure)]
