"""Which estimated effects to check exactly, and what the check says of the estimate (numpy only).

The largest estimates are checked because they will be believed, and as many others drawn at random
because an estimate can be small where the effect is large. The largest were selected by the
estimate and stand for themselves alone. The random ones are a fair sample of the cells that are not
among the largest, and stand for these. A small map is checked whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interp.axes import Grid, Mask
from interp.scores import Absent, Anchor, Interval, Null, Score

WHOLE = 60
"""A map with at most so many cells that can matter is checked whole."""
ROUNDING = 1e-6
"""Effects below it are rounding: none of the largest, and equal to 0."""
_EQUAL = 0.001
"""Effects that differ by less than this share of the largest count as equal."""
HOLDS = 0.1
"""An estimate holds if it is off by at most so much."""
UNSEEN, MISSED = 0.1, 0.5
"""An estimate below the first sees nothing where the exact effect is above the second."""
SATURATED = 0.99
"""Attention on one source from which on a softmax has a slope below 0.01."""
MOVED = 0.5
"""Share of the attention that lies elsewhere in the other run."""
LOOKED_AT = 20
"""Pairs whose attention is looked at, at most: it takes memory of every pattern."""
_FEWEST = 8
"""Cells drawn below which no interval is given."""
_TIED = 1 / 3
"""Share of the cells that share a rank with another above which no interval is given."""
_RESAMPLES = 1000
_SMALL = 0.05
"""Effects below which an error of half their size is not worth a line."""


@dataclass(frozen=True)
class Chosen:
    """Cells that are checked.

    Attributes:
        top: The largest estimates.
        drawn: Drawn at random from the others; where all are checked, every cell that can matter.
        whole: Whether all are checked.
        order: The cells in the order in which they are checked, largest estimates first.
    """

    top: Mask
    drawn: Mask
    whole: bool
    order: tuple[tuple[int, int], ...]


def planned(live: int, n: int) -> int:
    """Return how many cells are checked at most, of ``live`` ones that can matter."""
    if n == 0:
        return 0
    return live if live <= max(WHOLE, 2 * n) else 2 * n


def choose(estimate: Grid, live: Mask, n: int, rng: np.random.Generator) -> Chosen:
    """Choose the cells to check.

    Args:
        estimate: Estimated effect of each cell.
        live: Cells that can matter and are not 1 by structure.
        n: How many of the largest, and how many others.
        rng: Randomness of the draw.
    """
    size = np.where(live, np.abs(estimate), -1.0)
    by_size = np.argsort(-size, axis=None, kind="stable").tolist()
    most = [i for i in by_size[:n] if size.flat[i] >= ROUNDING]
    others = [i for i in by_size[: live.sum()] if i not in set(most)]
    whole = n > 0 and planned(int(live.sum()), n) == int(live.sum())
    rest = others if whole else rng.permutation(np.array(others, int))[:n].tolist()
    top, drawn = np.zeros(live.shape, bool), np.zeros(live.shape, bool)
    top.flat[most] = True
    drawn.flat[rest] = True
    shape = live.shape
    order = [(i // shape[1], i % shape[1]) for i in (*most, *rest)] if n else []
    return Chosen(top, drawn | top if whole else drawn, whole, tuple(order))


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank effects from 1; those that are equal but for a thousandth share their mean rank."""
    unit = max(ROUNDING, _EQUAL * float(np.abs(values).max(initial=0.0)))
    steps = np.round(values / unit)
    _, group, count = np.unique(steps, return_inverse=True, return_counts=True)
    return (count.cumsum() - (count - 1) / 2)[group]


def tied(values: np.ndarray) -> float:
    """Return which share of some effects have a rank in common with another of them."""
    _, group, count = np.unique(ranks(values), return_inverse=True, return_counts=True)
    return float((count[group] > 1).mean())


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation of ranks, -1 to 1; NaN where one of them has a single rank."""
    a, b = ranks(a), ranks(b)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else float("nan")


def agreement(
    estimate: Grid, exact: Grid, chosen: Chosen, rng: np.random.Generator
) -> Score | Absent:
    """Score the order of the estimates against the order of the exact effects, on cells drawn.

    The interval is that of percentiles of ``_RESAMPLES`` resamples of the cells. In simulations of
    8 to 50 cells it covered 91 to 100 % where at most 30 % of all effects were equal. Where more
    were it covered as little as 45 %; so there is none if over a third of those drawn are.
    """
    a, b = estimate[chosen.drawn], exact[chosen.drawn]
    n = len(a)
    if n < 3:
        return Absent(f"{n} cell{'s' * (n != 1)} drawn: an order in common takes 3")
    value = spearman(a, b)
    if np.isnan(value):
        which = "estimates" if np.ptp(ranks(a)) == 0 else "exact effects"
        return Absent(f"all {n} {which} are equal: they have no order")
    shuffled = [spearman(rng.permutation(a), b) for _ in range(_RESAMPLES)]
    low, median, high = (float(q) for q in np.quantile(shuffled, [0.05, 0.5, 0.95]))
    return Score(
        name="rank correlation of estimated and exact effects (Spearman), "
        + (
            "on every cell that can matter"
            if chosen.whole
            else "on cells drawn from all but the largest"
        ),
        value=value,
        unit="correlation of ranks",
        n=n,
        floor=Anchor("no order", 0.0),
        ceiling=Anchor("same order", 1.0),
        constant=Absent("one estimate for all cells has no order"),
        null=Null("the same estimates shuffled among the cells", low, median, high, _RESAMPLES),
        interval=_interval(a, b, chosen, rng),
        held_out=Absent("nothing was chosen by these cells' numbers: they were drawn from the rest")
        if not chosen.whole
        else Absent("the map was checked whole: no cell was chosen"),
    )


def _interval(
    a: np.ndarray, b: np.ndarray, chosen: Chosen, rng: np.random.Generator
) -> Interval | Absent:
    n = len(a)
    if chosen.whole:
        return Absent("every cell that can matter was checked: nothing was sampled")
    if n < _FEWEST:
        return Absent(f"{n} cells drawn: an interval takes {_FEWEST}")
    for what, values in (("estimates", a), ("exact effects", b)):
        if tied(values) > _TIED:
            return Absent(
                f"{tied(values):.0%} of the {what} drawn are equal to another: above a third, "
                "resampling understates the spread"
            )
    drawn = rng.integers(0, n, (_RESAMPLES, n))
    found = np.array([spearman(a[i], b[i]) for i in drawn])
    found = found[~np.isnan(found)]
    if len(found) < _RESAMPLES // 2 or np.ptp(found) < _EQUAL:
        return Absent("resamples of the cells do not differ, or have no order")
    low, high = (float(q) for q in np.quantile(found, [0.025, 0.975]))
    return Interval(low, high, 0.95, f"bootstrap over the {n} cells, percentiles")


def missed(estimate: Grid, exact: Grid) -> Mask:
    """Mark the cells at which the estimate sees nothing and the patch does much."""
    return (np.abs(estimate) < UNSEEN) & (np.abs(np.nan_to_num(exact)) > MISSED)


def disagreements(estimate: Grid, exact: Grid) -> list[tuple[int, int]]:
    """List the cells whose estimate is off by more than ``HOLDS`` or half of the effect."""
    off = np.nan_to_num(np.abs(estimate - exact))
    size = np.abs(np.nan_to_num(exact))
    wrong = (off > HOLDS) | ((off > size / 2) & (size >= _SMALL))
    order = np.argsort(-off, axis=None, kind="stable")
    return [(int(i) // off.shape[1], int(i) % off.shape[1]) for i in order if wrong.flat[int(i)]]


def furthest(estimate: Grid, exact: Grid, among: Mask) -> tuple[int, int]:
    """Return the cell among some whose estimate is furthest off."""
    off = np.where(among, np.nan_to_num(np.abs(estimate - exact)), -1.0)
    row, col = np.unravel_index(int(off.argmax()), off.shape)
    return int(row), int(col)
