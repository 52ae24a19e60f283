"""The answer of attribution patching, and how it is drawn and read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.axes import Grid, LayerHead, Mask, PairGrid, PerPair
from interp.figures import curves, heatmap, scatter, theme
from interp.figures.named import NamedFigure
from interp.methods import effects, rechecks
from interp.scores import Interval, Score

PLACES = {
    "resid_pre": "residual streams before a layer",
    "resid_mid": "residual streams between attention and MLP",
    "resid_post": "residual streams after a layer",
    "attn_out": "attention outputs",
    "mlp_out": "MLP outputs",
    "z": "heads",
    "q": "heads' queries",
    "k": "heads' keys",
    "v": "heads' values",
    "pattern": "attention patterns",
    "result": "heads' results",
} | {
    f"{name}_pos": f"{words} at which position"
    for name, words in (
        ("z", "heads"),
        ("q", "heads' queries"),
        ("k", "heads' keys"),
        ("v", "heads' values"),
        ("pattern", "attention patterns"),
        ("result", "heads' results"),
    )
}
_LISTED = 12
_NAMED = 4


def way(method: str, steps: int) -> str:
    """Name a way to estimate."""
    return {
        "gradient": "the gradient",
        "qk_fix": "the gradient with the QK fix",
        "integrated": f"integrated gradients ({steps} step{'s' * (steps != 1)})",
    }[method]


def estimated(estimates: PairGrid) -> np.ndarray:
    """Mark the pairs whose estimates are all there.

    Cells that cannot matter are known of every pair from the start, and so tell nothing.
    """
    return np.asarray(~np.isnan(estimates).any((1, 2)))


@dataclass(frozen=True)
class Result:
    """Estimated effects by place, and exact ones of the cells that were checked.

    ``estimates`` and ``exact`` are the metric of each pair with the patch, in ``unit``: as the
    estimate has it, and as the patched run gives it (NaN where it was not made). ``effect`` and
    ``exact_effect`` are their effects over pairs, 0 where the patch does nothing and 1 where it
    moves the metric by the whole gap. ``low`` and ``high`` belong to ``effect`` and are NaN where
    there is no interval. ``inert`` cells are 0 and ``forced`` cells exactly 1 by the model's
    structure. ``top`` cells were checked for their estimate, ``drawn`` ones at random, or as all
    that can matter. ``order`` is the rank correlation on them, or ``why_no_order`` says why there
    is none. ``totals`` is what integrated gradients give for the whole way between the runs, NaN
    for other methods. ``saturated`` is the share of pairs, of at most 20, in which a head's
    attention has hardly any slope and yet moves; it is looked for where the estimate misses cells.
    ``stage`` is "running" until all is there, then "done".
    """

    site: str
    direction: str
    metric: str
    unit: str
    method: str
    steps: int
    recheck: int
    row_axis: str
    col_axis: str
    rows: tuple[str, ...]
    clean_tokens: tuple[tuple[str, ...], ...]
    corrupted_tokens: tuple[tuple[str, ...], ...]
    answers: tuple[str, ...]
    foils: tuple[str, ...]
    read: int
    clean: PerPair
    corrupted: PerPair
    estimates: PairGrid
    exact: PairGrid
    totals: PerPair
    effect: Grid
    low: Grid
    high: Grid
    exact_effect: Grid
    inert: Mask
    forced: Mask
    top: Mask
    drawn: Mask
    order: Score | None
    why_no_order: str
    stage: str
    saturated: LayerHead
    least_gap: float
    clusters: tuple[int, ...]
    how: str

    @property
    def cols(self) -> list[str]:
        """Column labels; a position is named by its token where all pairs share it."""
        if self.col_axis == "head":
            return [f"H{i}" for i in range(self.effect.shape[1])]
        each = zip(*self.clean_tokens, strict=True)
        return theme.positions(tuple(t[0] if len(set(t)) == 1 else "*" for t in each))

    @property
    def whole(self) -> bool:
        """Whether every cell that can matter is patched exactly."""
        return self.recheck > 0 and bool((self.drawn | self.inert | self.forced).all())

    @property
    def checked(self) -> Mask:
        """Cells whose exact effect is known."""
        return np.isfinite(self.exact_effect) & (self.top | self.drawn)

    @property
    def base(self) -> str:
        """The run that is patched, whose gradients they are."""
        return "corrupted" if self.direction == "denoising" else "clean"

    def place(self, row: int, col: int) -> str:
        """Name a cell as sites print: ``L1H0.z@11``, ``L2H1.z``, ``L0.resid_pre@3``."""
        component = self.site.removesuffix("_pos")
        if self.col_axis == "head":
            return f"{self.rows[row]}H{col}.{component}"
        return f"{self.rows[row]}.{component}@{col}"


# --- figures -------------------------------------------------------------------------------------


def figures(result: Result) -> list[NamedFigure]:
    """Draw the estimated map, and estimates against exact effects."""
    return [_map(result), _check(result)]


def _map(result: Result) -> NamedFigure:
    shape, n = result.effect.shape, len(result.clean)
    done = result.direction == "denoising"
    into = "clean activation into the corrupted run" if done else "corrupted into the clean run"
    over = f"{len(set(result.clusters))} groups of words in " if result.clusters else ""
    several = f"{n} pair{'s' * (n > 1)}: no interval."
    if np.isfinite(result.low).any():
        several = f"Means over {over}{n} pairs; hover for each cell's 95 % bootstrap interval."
    if not (ready := estimated(result.estimates)).all():
        several = (
            f"{int(ready.sum())} of {n} pairs are estimated so far; the map takes all of them."
        )
    marks = " Hatched cells cannot matter by the model's structure." * bool(result.inert.any())
    marks += " Crossed cells are exactly 1 by that structure." * bool(result.forced.any())
    return NamedFigure(
        "estimates",
        f"Estimated effect of patching {result.site.removesuffix('_pos')} ({result.direction})",
        f"{result.direction.capitalize()}: {into}, as {way(result.method, result.steps)} would "
        f"have it. Effect 0 = the patch does nothing, 1 = "
        f"{'brings back' if done else 'loses'} the whole gap in {result.metric}. "
        f"{several}{marks}",
        heatmap.heatmap(
            result.effect,
            rows=result.rows,
            cols=result.cols,
            titles=(result.row_axis, result.col_axis, "effect"),
            hover=[[_hover(result, i, j) for j in range(shape[1])] for i in range(shape[0])],
            hatched=result.inert,
            crossed=result.forced,
        ),
        selectable=True,
    )


def _check(result: Result) -> NamedFigure:
    checked, others = result.checked, result.checked & ~result.top
    rest = "every other cell" if result.whole else "drawn from the others"
    dots = [
        _dots(result, f"{name} ({int(mask.sum())})", mask)
        for name, mask in (("largest estimates", checked & result.top), (rest, others))
    ]
    left = int((~(result.inert | result.forced | result.top)).sum())
    chosen = (
        "The map is small: every cell that can matter is patched exactly. "
        if result.whole
        else f"The largest were selected by their estimate and speak for themselves alone. Those "
        f"drawn at random speak for the other {left} cells. "
    )
    if result.stage != "done":
        chosen = _so_far(result) + " "
    caption = "On the dotted line the estimate is exact. "
    caption += f"{chosen}{result.how}" if result.recheck else _NONE
    if texts := _table(result):
        caption += f" Listed: off by more than {rechecks.HOLDS} or by half of the exact effect."
    return NamedFigure(
        "check",
        "Estimate against exact patch",
        caption,
        scatter.scatter(
            dots,
            titles=("estimate (share of the gap)", "exact (share of the gap)"),
            agree="estimate = exact",
            least=0.2,
        ),
        selectable=any(mask.any() for mask in (checked, others)),
        texts=texts,
    )


_NONE = "No cell was patched exactly."


def _so_far(result: Result) -> str:
    """Say how many exact patches are made of those that will be."""
    if not estimated(result.estimates).all():
        return "No cell is patched exactly yet."
    checked, chosen = int(result.checked.sum()), int((result.top | result.drawn).sum())
    return f"{checked} of {chosen} chosen cells are patched exactly so far."


def _dots(result: Result, name: str, mask: Mask) -> scatter.Dots:
    cells = [(int(r), int(c)) for r, c in np.argwhere(mask)]
    return scatter.Dots(
        name,
        result.effect[mask],
        result.exact_effect[mask],
        [_hover(result, row, col) for row, col in cells],
        cells,
    )


def _table(result: Result) -> tuple[tuple[str, str], ...]:
    """List the cells whose estimate is furthest off, with both numbers."""
    wrong = rechecks.disagreements(result.effect, _known(result))
    if not wrong:
        return ()
    lines = [
        f"{result.place(r, c)}: estimate {_two(result.effect[r, c])}, "
        f"exact {_two(result.exact_effect[r, c])}"
        for r, c in wrong[:_LISTED]
    ]
    more = [f"and {len(wrong) - _LISTED} more"] if len(wrong) > _LISTED else []
    return (("Furthest off", "\n".join(lines + more)),)


def _known(result: Result) -> Grid:
    return np.where(result.checked, result.exact_effect, np.nan)


def _hover(result: Result, row: int, col: int) -> str:
    name = theme.label(result.place(row, col), 40)
    value = result.effect[row, col]
    if result.inert[row, col]:
        return f"{name}: cannot matter"
    if np.isnan(value):
        return f"{name}: not computed yet"
    text = f"{name}: estimate {value:.3f}"
    if np.isfinite(result.low[row, col]):
        text += f" [{result.low[row, col]:.3f}, {result.high[row, col]:.3f}]"
    if result.forced[row, col]:
        return f"{text}<br>exact 1 by structure"
    if result.checked[row, col]:
        return f"{text}<br>exact {result.exact_effect[row, col]:.3f}"
    return f"{text}<br>not patched exactly"


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say the clicked cell's estimate and exact effect, and draw both of every pair."""
    row, col = int(cell["0"]), int(cell["1"])
    text = _hover(result, row, col).replace("<br>", "; ")
    if result.inert[row, col] or np.isnan(result.effect[row, col]):
        return text, []
    place, estimates = result.place(row, col), result.estimates[:, row, col]
    hover = [f"pair {i}" for i in range(len(estimates))]
    if not result.checked[row, col]:
        marks = {"corrupted": float(result.corrupted.mean()), "clean": float(result.clean.mean())}
        title = f"{result.metric} with this patch, estimated ({result.unit}), one point a pair"
        return text, [
            NamedFigure(
                "cell", place, "", curves.spread(estimates, title=title, marks=marks, hover=hover)
            )
        ]
    exact = result.exact[:, row, col]
    off = float(result.effect[row, col] - result.exact_effect[row, col])
    text += f"; the estimate is {abs(off):.3f} too {'high' if off > 0 else 'low'}"
    hover = [
        f"{pair}: estimate {e:.3f}<br>exact {x:.3f}"
        for pair, e, x in zip(hover, estimates, exact, strict=True)
    ]
    figure = scatter.scatter(
        [scatter.Dots(f"pairs ({len(exact)})", estimates, exact, hover)],
        titles=(f"{result.metric}, estimated ({result.unit})", f"exact ({result.unit})"),
        agree="estimate = exact",
    )
    return text, [NamedFigure("cell", place, "One point a pair.", figure)]


# --- in words ------------------------------------------------------------------------------------


def verdict(result: Result) -> str:
    """Name the largest estimates, say how the checked ones hold and where the estimate is wrong."""
    live, ready = ~(result.inert | result.forced), estimated(result.estimates)
    if not live.any():
        return "No cell of this map tells anything: each is 0 or 1 by the model's structure."
    if not ready.all():
        return f"{int(ready.sum())} of {len(ready)} pairs are estimated so far."
    said = [_largest(result, live)]
    if result.stage != "done" and result.recheck:
        said.append(_so_far(result))
    elif not result.checked.any():
        said.append("No cell was patched exactly, so nothing says where the estimate is wrong.")
    else:
        said += [_missed(result), _held(result), _sampled(result), _furthest(result)]
    said += [_steps(result), _small(result)]
    said.append(effects.wrong_way(result.clean, result.corrupted, result.metric).strip())
    return " ".join(part for part in said if part)


def _largest(result: Result, live: Mask) -> str:
    size = np.where(live, np.abs(result.effect), -1.0)
    order = [
        (int(i) // size.shape[1], int(i) % size.shape[1]) for i in np.argsort(-size, axis=None)
    ]
    strong = [c for c in order if size[c] >= max(0.5 * size.max(), rechecks.ROUNDING)][:_NAMED]
    named = ", ".join(
        f"{result.place(*c)} {_two(float(result.effect[c]))}{_bounds(result, c)}" for c in strong
    )
    rest = [float(size[c]) for c in order if c not in strong and live[c]]
    others = f"; every other cell stays within ±{_two(float(max(rest)))}" if rest else ""
    verb = "brought back" if result.direction == "denoising" else "lost"
    by = way(result.method, result.steps)
    by += f" of the {result.base} run" * (result.method != "integrated")
    gap = (
        f"the gap in {result.metric} ({result.corrupted.mean():.3g} corrupted to "
        f"{result.clean.mean():.3g} clean, {result.unit})"
    )
    if not strong:
        return f"No patch moves anything of {gap}, as {by} would have it."
    return f"Largest shares {verb} by one patch, as {by} would have it, of {gap}: {named}{others}."


def _held(result: Result) -> str:
    top = result.checked & result.top
    n, off = int(top.sum()), np.abs(result.effect - result.exact_effect)
    held = int((off[top] <= rechecks.HOLDS).sum())
    if not n:
        return ""
    if n == 1:
        be = "is" if held else "is not"
        return f"The largest estimate {be} within {rechecks.HOLDS} of the exact patch."
    are = "is" if held == 1 else "are"
    return f"Of the {n} largest, {held} {are} within {rechecks.HOLDS} of the exact patch."


def _sampled(result: Result) -> str:
    """Say how the order holds and how large the error gets, on cells not selected by it."""
    drawn = result.checked & result.drawn
    n = int(drawn.sum())
    if not n:
        return ""
    off = np.abs(result.effect - result.exact_effect)[drawn]
    left = int((~(result.inert | result.forced | result.top)).sum())
    among = (
        f"On all {n} cells that can matter"
        if result.whole
        else f"On {n} of the other {left}, drawn at random"
    )
    if result.order is None:
        order = f"no rank correlation is given ({result.why_no_order})"
    else:
        spread = result.order.interval
        given = isinstance(spread, Interval)
        bounds = f" [{_two(spread.low)}, {_two(spread.high)}]" if given else ""
        order = f"the rank correlation with the exact effects is {_two(result.order.value)}{bounds}"
    return f"{among}, {order} and the largest error {_two(float(off.max()))}."


def _missed(result: Result) -> str:
    """Say which cells the estimate does not see, and what attention looks like behind them."""
    blind = rechecks.missed(result.effect, _known(result)) & result.checked
    n = int(blind.sum())
    if not n:
        return ""
    cells = [(int(r), int(c)) for r, c in np.argwhere(blind)]
    named = ", ".join(result.place(*c) for c in cells[:_NAMED])
    named += f" and {n - _NAMED} more" * (n > _NAMED)
    method = way(result.method, result.steps).removesuffix(f" ({result.steps} steps)")
    sees = "see" if result.method == "integrated" else "sees"
    said = (
        f"{method[0].upper()}{method[1:]} {sees} nothing at {n} cell{'s' * (n > 1)} whose exact "
        f"effect is above {rechecks.MISSED}: {named}."
    )
    return f"{said} {_attention(result, cells)}"


def _attention(result: Result, cells: list[tuple[int, int]]) -> str:
    """Say where attention was looked at behind some cells, and what was found."""
    layers = [int(result.rows[row].split("H")[0][1:]) for row, _ in cells]
    part = result.site.removesuffix("_pos")
    # With the QK fix a head's own softmax is computed, so that only later ones are straight lines.
    read_at_once = part == "resid_pre" or (part in ("q", "k") and result.method != "qk_fix")
    first, last = min(layers) + (not read_at_once), len(result.saturated) - 1
    if first > last:
        return "No attention lies behind."
    where = f"layer {first}" if first == last else f"layers {first} to {last}"
    n = min(rechecks.LOOKED_AT, len(result.clean))
    pairs, often = (
        ("", "") if len(result.clean) == 1 else (f" in {n} pairs", " in at least half of them")
    )
    heads = _stuck(result, first)
    have = "have" if "," in heads else "has"
    found = (
        f"{heads} {have} it{often}, which may hide what acts through it"
        if heads
        else f"no head has it{often}"
    )
    said = (
        f"Saturated attention was looked for in {where} of the {result.base} run{pairs}: {found}. "
        f"Saturated: at least {rechecks.SATURATED} of a position's attention lies on one source, "
        "and half of it elsewhere in the other run."
    )
    return said + " Runs between the two were not looked at." * (result.method == "integrated")


def _stuck(result: Result, first: int) -> str:
    """Name the heads, from a layer on, whose attention is saturated and moves."""
    heads = [
        (float(result.saturated[layer, head]), f"L{layer}H{head}")
        for layer, head in np.argwhere(result.saturated >= 0.5)
        if layer >= first
    ]
    heads.sort(key=lambda one: -one[0])
    more = f" and {len(heads) - _NAMED} more heads" * (len(heads) > _NAMED)
    return ", ".join(name for _, name in heads[:_NAMED]) + more


def _furthest(result: Result) -> str:
    cell = rechecks.furthest(result.effect, result.exact_effect, result.checked)
    estimate, exact = result.effect[cell], result.exact_effect[cell]
    blind = rechecks.missed(result.effect, _known(result))
    if abs(estimate - exact) <= rechecks.HOLDS or (blind[cell] and blind.sum() == 1):
        return ""
    return (
        f"Furthest off: {result.place(*cell)}, estimated {_two(estimate)}, exactly {_two(exact)}."
    )


def _steps(result: Result) -> str:
    if result.method != "integrated":
        return ""
    gap = float((result.clean - result.corrupted).mean())
    share = float(result.totals.mean()) / (gap if result.direction == "denoising" else -gap)
    steps = f"{result.steps} steps account" if result.steps > 1 else "one step accounts"
    return (
        f"Over the whole way from one run to the other {steps} for {_two(share)} of the gap. "
        "The limit of many steps is 1, but few can meet 1 by chance: compare other numbers of "
        "steps."
    )


def _small(result: Result) -> str:
    return effects.small_gaps(result.clean, result.corrupted, result.least_gap, result.unit)


def _two(value: float) -> str:
    """Write two decimals, or one digit of what is smaller; no minus before zero."""
    if abs(value) < rechecks.ROUNDING:
        return "0.00"
    return f"{value:.2f}" if abs(value) >= 0.005 else f"{value:.1g}"


def _bounds(result: Result, cell: tuple[int, int]) -> str:
    low, high = result.low[cell], result.high[cell]
    return f" [{_two(low)}, {_two(high)}]" if np.isfinite(low) else ""
