"""Effects of patches and what stands beside them (numpy only).

For one metric, with means over pairs, ``recovered = (patched - corrupted) / (clean - corrupted)``:
0 = the corrupted run, 1 = the clean run, unclipped. An ``effect`` of 0 means that the patch did
nothing: it is ``recovered`` when denoising (clean activation into the corrupted run), and
``1 - recovered`` ("lost") when noising (corrupted activation into the clean run).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from interp.axes import Grid, Mask, PairGrid, PerPair
from interp.errors import BadInput, NothingToRecover
from interp.scores import Absent, Anchor, Interval, Null, Score

LEVEL = 0.95
RESAMPLES = 1000
METRICS = {
    "logit_diff": ("logit difference", "logits"),
    "prob": ("probability of the answer", "probability"),
    "loss": ("loss", "nats"),
    "kl": ("KL from the clean run", "nats"),
}
"""What is read off a run: name in words and unit. ``interp.methods.metrics`` computes them."""


def check_metric(name: str, foils: Sequence[int]) -> None:
    """Refuse a logit difference without a foil.

    Raises:
        BadInput: An input has no foil.
    """
    if name == "logit_diff" and min(foils) < 0:
        raise BadInput(
            "The logit difference compares the answer with a foil.",
            "A pair has none.",
            "Give every pair a foil, or choose probability, loss or KL.",
        )


def effect(values: PairGrid, clean: PerPair, corrupted: PerPair, direction: str) -> Grid:
    """Effect of each patch over pairs: a ratio of means, 0 = the patch did nothing.

    A mean of per-pair ratios would be ruled by the pairs whose clean and corrupted runs hardly
    differ; the ratio of means weighs each pair by its gap.
    """
    recovered = (values.mean(0) - corrupted.mean()) / (clean.mean() - corrupted.mean())
    return recovered if direction == "denoising" else 1 - recovered


def check_gap(clean: PerPair, corrupted: PerPair, metric: str, unit: str) -> None:
    """Refuse pairs whose two runs give the same number.

    Raises:
        NothingToRecover: The mean gap is below 1e-6 of the values' size: rounding, not signal.
    """
    gap = abs(float(clean.mean() - corrupted.mean()))
    if gap <= 1e-6 * max(1.0, float(np.abs(clean).mean()), float(np.abs(corrupted).mean())):
        raise NothingToRecover(
            f"The {metric} was compared between clean and corrupted.",
            f"It is {clean.mean():.4g} {unit} in both.",
            "Choose a corrupted prompt that changes the answer, or another metric.",
        )


def interval(
    values: PairGrid, clean: PerPair, corrupted: PerPair, direction: str, rng: np.random.Generator
) -> tuple[Grid, Grid] | None:
    """Bootstrap interval of each effect over pairs, per cell, or None for fewer than 3 pairs.

    Pairs are resampled with replacement ``RESAMPLES`` times and the ratio of means recomputed;
    the percentiles at ``LEVEL`` are returned. It is an interval for each cell on its own, not a
    band for all at once. Resamples whose gap vanishes are left out.

    Cost: ``RESAMPLES x pairs x cells`` multiply-adds.
    """
    n = len(clean)
    if n < 3:
        return None
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    gap = weights @ (clean - corrupted)
    keep = np.abs(gap) > 1e-3 * abs(float((clean - corrupted).mean()))
    weights, gap = weights[keep], gap[keep]
    shape = values.shape[1:]
    shift = values.reshape(n, -1) - corrupted[:, None]
    recovered = (weights @ shift) / gap[:, None]
    effects = recovered if direction == "denoising" else 1 - recovered
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(effects, [tail, 1 - tail], axis=0)
    return low.reshape(shape), high.reshape(shape)


def best_cell(
    values: PairGrid,
    clean: PerPair,
    corrupted: PerPair,
    direction: str,
    *,
    inert: Mask,
    name: Callable[[int, int], str],
    held_out: tuple[bool, ...],
    rng: np.random.Generator,
) -> tuple[tuple[int, int], Score]:
    """Find the cell with the largest absolute effect and score it with its scale.

    The cell is chosen on the search pairs and its effect given on the held-out ones too, since
    the largest of many is too large on the inputs that it was chosen on.
    """
    keep = np.array(held_out) if held_out else np.zeros(len(clean), bool)
    search = ~keep
    grid = effect(values[search], clean[search], corrupted[search], direction)
    size = np.where(inert, -1.0, np.abs(grid))
    row, col = (int(i) for i in np.unravel_index(int(size.argmax()), size.shape))
    others = grid[~inert & (np.arange(size.size).reshape(size.shape) != row * size.shape[1] + col)]
    bounds = interval(
        values[search][:, row : row + 1, col : col + 1],
        clean[search],
        corrupted[search],
        direction,
        rng,
    )
    score = Score(
        name=f"effect of the best cell ({name(row, col)})",
        value=float(grid[row, col]),
        unit="of the gap",
        n=int(search.sum()),
        floor=Anchor("patch does nothing", 0.0),
        ceiling=Anchor("whole gap", 1.0),
        constant=Absent("an effect is a difference of two runs: no output is guessed"),
        null=_null(others),
        interval=Absent("fewer than 3 search pairs: no interval")
        if bounds is None
        else Interval(
            float(bounds[0][0, 0]),
            float(bounds[1][0, 0]),
            LEVEL,
            "bootstrap over the pairs it was chosen on",
        ),
        held_out=_held_out(
            values[:, row : row + 1, col : col + 1], clean, corrupted, keep, direction
        ),
    )
    return (row, col), score


def _null(others: np.ndarray) -> Null | Absent:
    if len(others) < 5:
        return Absent(f"only {len(others)} other cells could matter: too few for a band")
    low, median, high = (float(q) for q in np.quantile(others, [0.05, 0.5, 0.95]))
    return Null("another cell of this map, at random", low, median, high, len(others))


def _held_out(
    values: PairGrid, clean: PerPair, corrupted: PerPair, keep: np.ndarray, direction: str
) -> Anchor | Absent:
    if not keep.any():
        return Absent("fewer than 4 pairs: none is held out")
    gap = clean[keep].mean() - corrupted[keep].mean()
    if abs(gap) < 1e-12:
        return Absent("the held-out pairs have no gap to recover")
    value = effect(values[keep], clean[keep], corrupted[keep], direction)[0, 0]
    return Anchor(f"on {int(keep.sum())} held-out pairs", float(value))
