"""Effects of patches and what stands beside them (numpy only).

For one metric, with means over pairs, ``recovered = (patched - corrupted) / (clean - corrupted)``:
0 = the corrupted run, 1 = the clean run, unclipped. An ``effect`` of 0 means that the patch did
nothing: it is ``recovered`` when denoising (clean activation into the corrupted run), and
``1 - recovered`` ("lost") when noising (corrupted activation into the clean run).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import stdtrit

from interp.axes import Grid, Mask, PairGrid, PerPair
from interp.errors import BadInput, NothingToRecover
from interp.scores import Absent, Anchor, Interval, Null, Score

LEVEL = 0.95
RESAMPLES = 1000
FEWEST = 3
"""Pairs below which no interval is given."""
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
    """Refuse pairs whose two runs give the same number on average.

    Raises:
        NothingToRecover: There is no gap to share out.
    """
    if not has_gap(clean, corrupted):
        raise NothingToRecover(
            f"The {metric} was compared between clean and corrupted.",
            f"On average over {len(clean)} pair{'s' if len(clean) > 1 else ''} "
            f"it is {clean.mean():.4g} {unit} in both.",
            "Choose a corrupted prompt that changes the answer, or another metric.",
        )


def has_gap(clean: PerPair, corrupted: PerPair) -> bool:
    """Whether the mean gap is more than rounding: above 1e-6 of the size of the values."""
    if not len(clean):
        return False
    size = max(1.0, float(np.abs(clean).mean()), float(np.abs(corrupted).mean()))
    return abs(float(clean.mean() - corrupted.mean())) > 1e-6 * size


def interval(
    values: PairGrid, clean: PerPair, corrupted: PerPair, direction: str, rng: np.random.Generator
) -> tuple[Grid, Grid] | None:
    """Bootstrap interval of each effect over pairs, per cell, or None for fewer than 3 pairs.

    Pairs are resampled with replacement ``RESAMPLES`` times and the ratio of means recomputed.
    The interval is the effect plus or minus Student's t of ``n - 1`` degrees of freedom times the
    resamples' standard deviation, which is widened by ``sqrt(n / (n - 1))``. Percentiles of the
    resamples would be too narrow: of 3 pairs they cover 75 %, not 95 %. It is an interval for
    each cell on its own, not a band for all at once. Resamples whose gap vanishes are left out.

    Cost: ``RESAMPLES x pairs x cells`` multiply-adds.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapters 6 and 12.
    """
    n = len(clean)
    if n < FEWEST:
        return None
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    gap = weights @ (clean - corrupted)
    keep = np.abs(gap) > 0.1 * abs(float((clean - corrupted).mean()))
    weights, gap = weights[keep], gap[keep]
    if len(gap) < RESAMPLES // 2:
        return None
    shift = values.reshape(n, -1) - corrupted[:, None]
    spread = ((weights @ shift) / gap[:, None]).std(0, ddof=1).reshape(values.shape[1:])
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * float(np.sqrt(n / (n - 1))) * spread
    centre = effect(values, clean, corrupted, direction)
    return centre - half, centre + half


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

    The cell is chosen on the search pairs; its effect on the held-out ones stands beside, and
    the interval is theirs: the largest of many is too large on the inputs that it was chosen on.
    Where one half of the pairs has no gap, all are searched and none is held out.
    """
    kept = np.array(held_out) if held_out else np.zeros(len(clean), bool)
    halves = bool(kept.any()) and all(has_gap(clean[h], corrupted[h]) for h in (kept, ~kept))
    search = ~kept if halves else np.ones(len(clean), bool)
    grid = effect(values[search], clean[search], corrupted[search], direction)
    size = np.where(inert, -1.0, np.abs(grid))
    row, col = (int(i) for i in np.unravel_index(int(size.argmax()), size.shape))
    others = grid[~inert & (np.arange(size.size).reshape(size.shape) != row * size.shape[1] + col)]
    held: tuple[Anchor | Absent, Interval | Absent] = (Absent(_WHY_NONE), Absent(_WHY_NONE))
    if halves:
        cell = values[kept][:, row : row + 1, col : col + 1]
        held = _held_out(cell, clean[kept], corrupted[kept], direction, rng)
    elif kept.any():
        reason = "one half of the pairs has no gap: all are searched"
        held = (Absent(reason), Absent(reason))
    score = Score(
        name=f"effect of the best cell ({name(row, col)}), on the pairs it was chosen on",
        value=float(grid[row, col]),
        unit="of the gap",
        n=int(search.sum()),
        floor=Anchor("corrupted run" if direction == "denoising" else "clean run", 0.0),
        ceiling=Anchor("clean run" if direction == "denoising" else "corrupted run", 1.0),
        constant=Absent("an effect is a difference of two runs: no output is guessed"),
        null=_null(others),
        interval=held[1],
        held_out=held[0],
    )
    return (row, col), score


_WHY_NONE = "fewer than 4 different clean prompts: none is held out"


def _null(others: np.ndarray) -> Null | Absent:
    if len(others) < 5:
        return Absent(f"only {len(others)} other cells could matter: too few for a band")
    low, median, high = (
        float(q) for q in np.quantile(others, [0.05, 0.5, 0.95], method="inverted_cdf")
    )
    name = "another cell of this map at random; the largest of a map lies above it by choice alone"
    return Null(name, low, median, high, len(others))


def _held_out(
    cell: PairGrid, clean: PerPair, corrupted: PerPair, direction: str, rng: np.random.Generator
) -> tuple[Anchor, Interval | Absent]:
    n = len(clean)
    anchor = Anchor(
        f"on {n} held-out pairs", float(effect(cell, clean, corrupted, direction)[0, 0])
    )
    bounds = interval(cell, clean, corrupted, direction, rng)
    if bounds is None:
        return anchor, Absent(f"{n} held-out pairs: an interval takes {FEWEST} with a steady gap")
    low, high = float(bounds[0][0, 0]), float(bounds[1][0, 0])
    return anchor, Interval(low, high, LEVEL, f"bootstrap over the {n} held-out pairs")
