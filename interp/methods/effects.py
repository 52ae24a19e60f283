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
LEAST_SAID = 0.005
"""Effect below which a cell is said to do nothing."""
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


LEAST_LOGITS = 0.04
"""Least gap worth sharing out: it moves an even choice of answer or foil from 50 % to 51 %."""
ROUNDINGS = 8
"""A gap is more than rounding above so many units in the last place of the numbers' size."""
_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def least_gap(metric: str, logits: float, dtype: str = "float32") -> float:
    """Return the gap, in the metric's unit, below which there is nothing to recover.

    It is ``LEAST_LOGITS``, or more where that is rounding: ``ROUNDINGS`` units in the last place
    of the model's precision, of the size of the logits that the metric is made of (at least 1):
    a small difference of large logits is rounded as they are. A change of logits
    ``d`` that is small moves an even choice by ``d / 4`` in probability, ``d / 2`` nats in loss
    and ``d**2 / 8`` nats in KL, so one rule serves all metrics: 0.04 logits, 0.01 in probability,
    0.02 nats in loss, 0.0002 nats in KL.

    Args:
        metric: One of ``METRICS``.
        logits: Size of the logits of the bare runs, from a sweep.
        dtype: Precision that the model ran in.
    """
    return _in_unit(metric, max(LEAST_LOGITS, _rounded(logits, dtype)))


def rounding(metric: str, logits: float, dtype: str) -> float:
    """Return the difference, in the metric's unit, that rounding alone can give.

    Args:
        metric: One of ``METRICS``.
        logits: Size of the logits of the bare runs, from a sweep.
        dtype: Precision that the model ran in.
    """
    return _in_unit(metric, _rounded(logits, dtype))


def _rounded(logits: float, dtype: str) -> float:
    return ROUNDINGS * _EPSILON[dtype] * max(1.0, logits)


def _in_unit(metric: str, logits: float) -> float:
    """Turn a small change of logits at an even choice into the metric's unit."""
    return {
        "logit_diff": logits,
        "prob": logits / 4,
        "loss": logits / 2,
        "kl": logits**2 / 8,
    }[metric]


def check_gap(clean: PerPair, corrupted: PerPair, metric: str, least: float) -> None:
    """Refuse pairs whose two runs give nearly the same number on average.

    Args:
        clean: Metric of each clean run.
        corrupted: Metric of each corrupted run.
        metric: One of ``METRICS``.
        least: The least mean gap, from ``least_gap``.

    Raises:
        NothingToRecover: There is no gap to share out.
    """
    if has_gap(clean, corrupted, least):
        return
    name, unit = METRICS[metric]
    n, mean = len(clean), (float(clean.mean()), float(corrupted.mean()))
    found = f"it is {mean[0]:.4g} {unit} in both"
    if f"{mean[0]:.4g}" != f"{mean[1]:.4g}":
        found = (
            f"it is {mean[0]:.4g} and {mean[1]:.4g} {unit}: a gap below {least:.2g}, "
            "which leaves nothing to share out"
        )
    raise NothingToRecover(
        f"The {name} was compared between clean and corrupted.",
        f"On average over {n} pair{'s' if n > 1 else ''} {found}.",
        "Choose a corrupted prompt that changes the answer, or another metric.",
    )


def has_gap(clean: PerPair, corrupted: PerPair, least: float) -> bool:
    """Whether the mean gap of these pairs is at least ``least``, in either direction."""
    return len(clean) > 0 and abs(float(clean.mean() - corrupted.mean())) >= least


def small_gaps(clean: PerPair, corrupted: PerPair, least: float, unit: str) -> str:
    """Say in how many pairs the gap is below ``least``, or nothing where it is in none.

    These pairs count like the others: a ratio of means weighs each by its gap.
    """
    n, few = len(clean), int((np.abs(clean - corrupted) < least).sum())
    if not few:
        return ""
    have, them = ("have", "them") if few > 1 else ("has", "it")
    return (
        f"{few} of {n} pairs {have} a gap below {least:.2g} {unit}: there is nothing to recover "
        f"in {them}."
    )


def wrong_way(clean: PerPair, corrupted: PerPair, metric: str) -> str:
    """Say so where the clean run does not give the answer more than the corrupted one.

    Args:
        clean: Metric of each clean run.
        corrupted: Metric of each corrupted run.
        metric: Name of the metric in words.
    """
    gap = float(clean.mean() - corrupted.mean())
    rises = metric in (METRICS["logit_diff"][0], METRICS["prob"][0])
    if gap > 0 if rises else gap < 0:
        return ""
    return " The corrupted run gives the answer more than the clean one: check answer and foil."


def interval(
    values: PairGrid,
    clean: PerPair,
    corrupted: PerPair,
    direction: str,
    rng: np.random.Generator,
    *,
    clusters: Sequence[int] = (),
) -> tuple[Grid, Grid] | None:
    """Bootstrap interval of each effect over pairs, per cell, or None for fewer than 3 pairs.

    Pairs are resampled with replacement ``RESAMPLES`` times and the ratio of means recomputed.
    The interval is the effect plus or minus Student's t of ``n - 1`` degrees of freedom times the
    resamples' standard deviation, which is widened by ``sqrt(n / (n - 1))``. Percentiles of the
    resamples would be too narrow: of 3 pairs they cover 75 %, not 95 %. It is an interval for
    each cell on its own, not a band for all at once. Resamples whose gap vanishes are left out.

    Pairs count as independent, unless ``clusters`` has the number of each pair's group: then
    whole groups are resampled, and ``n`` is the number of groups.

    It assumes that pairs vary about alike. With few pairs a rare large effect is missed: no pair
    seen shows it, so nothing in the numbers widens the interval. ``docs/how-to`` has how often.

    Cost: ``RESAMPLES x pairs x cells`` multiply-adds.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapters 6 and 12.
    """
    shift, gaps = values.reshape(len(clean), -1) - corrupted[:, None], clean - corrupted
    if len(clusters):
        shift, gaps = sums(shift, clusters), sums(gaps, clusters)
    n = len(gaps)
    if n < FEWEST:
        return None
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    gap = weights @ gaps
    keep = np.abs(gap) > 0.1 * abs(float(gaps.mean()))
    weights, gap = weights[keep], gap[keep]
    if len(gap) < RESAMPLES // 2:
        return None
    spread = ((weights @ shift) / gap[:, None]).std(0, ddof=1).reshape(values.shape[1:])
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * float(np.sqrt(n / (n - 1))) * spread
    centre = effect(values, clean, corrupted, direction)
    return centre - half, centre + half


def sums(numbers: np.ndarray, clusters: Sequence[int]) -> np.ndarray:
    """Add up the rows of each group."""
    _, group = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((group.max() + 1, *numbers.shape[1:]))
    np.add.at(sums, group, numbers)
    return sums


def best_cell(
    values: PairGrid,
    clean: PerPair,
    corrupted: PerPair,
    direction: str,
    *,
    inert: Mask,
    name: Callable[[int, int], str],
    held_out: tuple[bool, ...],
    least: float,
    rng: np.random.Generator,
    clusters: tuple[int, ...] = (),
) -> tuple[tuple[int, int], Score]:
    """Find the cell with the largest absolute effect and score it with its scale.

    The cell is chosen on the search pairs; its effect on the held-out ones stands beside, and
    the interval is theirs: the largest of many is too large on the inputs that it was chosen on.
    Where one half of the pairs has a mean gap below ``least``, or of another sign than all have,
    all are searched and none is held out. ``clusters`` are the pairs' groups, of which the interval
    resamples those held out.
    """
    kept = np.array(held_out) if held_out else np.zeros(len(clean), bool)
    way = float(clean.mean() - corrupted.mean())
    halves = bool(kept.any()) and all(
        has_gap(clean[h], corrupted[h], least)
        and float(clean[h].mean() - corrupted[h].mean()) * way > 0
        for h in (kept, ~kept)
    )
    search = ~kept if halves else np.ones(len(clean), bool)
    grid = effect(values[search], clean[search], corrupted[search], direction)
    size = np.where(inert, -1.0, np.abs(grid))
    row, col = (int(i) for i in np.unravel_index(int(size.argmax()), size.shape))
    others = grid[~inert & (np.arange(size.size).reshape(size.shape) != row * size.shape[1] + col)]
    held: tuple[Anchor | Absent, Interval | Absent] = (Absent(_WHY_NONE), Absent(_WHY_NONE))
    if halves:
        args = (values[kept, row, col], clean[kept], corrupted[kept], direction)
        groups = np.array(clusters)[kept].tolist() if clusters else ()
        value, bounds = one_effect(*args, rng, which="held-out pairs", clusters=groups)
        held = (Anchor(f"on {int(kept.sum())} held-out pairs", value), bounds)
    elif kept.any():
        reason = "one half of the pairs has no gap, or one of the other sign: all are searched"
        held = (Absent(reason), Absent(reason))
    score = Score(
        name=f"largest effect by size ({name(row, col)}), on the pairs it was chosen on",
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


def one_effect(
    values: PerPair,
    clean: PerPair,
    corrupted: PerPair,
    direction: str,
    rng: np.random.Generator,
    *,
    which: str = "pairs",
    clusters: Sequence[int] = (),
) -> tuple[float, Interval | Absent]:
    """Return the effect of one patch on some pairs, with its bootstrap interval or why it has none.

    Args:
        values: Metric of each pair with the patch.
        clean: Metric of each clean run.
        corrupted: Metric of each corrupted run.
        direction: "denoising" or "noising".
        rng: Randomness of the bootstrap.
        which: What the pairs are called, in the plural.
        clusters: Number of each pair's group of words, where pairs are not independent.
    """
    n, cell = len(clean), values[:, None, None]
    value = float(effect(cell, clean, corrupted, direction)[0, 0])
    bounds = interval(cell, clean, corrupted, direction, rng, clusters=clusters)
    named, of = f"{n} {which if n > 1 else which.removesuffix('s')}", ""
    if len(clusters):
        groups = len(set(clusters))
        of = f"{groups} group{'s' if groups > 1 else ''} of words in "
    if bounds is None:
        return value, Absent(f"{of}{named}: an interval takes {FEWEST} with a steady gap")
    low, high = (float(bound[0, 0]) for bound in bounds)
    scope = ": for new groups, not new sentences" if of else ""
    method = f"bootstrap over the {of and f'{of}the '}{named}{scope}"
    return value, Interval(low, high, LEVEL, method)


def on_pairs(
    values: PerPair,
    clean: PerPair,
    corrupted: PerPair,
    direction: str,
    *,
    least: float,
    unit: str,
    seed: int = 0,
    clusters: tuple[int, ...] = (),
) -> Callable[[np.ndarray], tuple[float, Interval | Absent]]:
    """Return the function that gives the effect of one patch on some of the pairs by their indices.

    Where their mean gap is below ``least`` the effect is NaN and the interval's reason says so.
    The effect on all pairs is the mean of the effects on parts of them, each weighted by the sum of
    its gaps.
    """

    def measure(members: np.ndarray) -> tuple[float, Interval | Absent]:
        runs = (clean[members], corrupted[members])
        if not has_gap(*runs, least):
            return float("nan"), Absent(f"its mean gap is below {least:.2g} {unit}")
        groups = [clusters[i] for i in members] if clusters else ()
        rng = np.random.default_rng(seed)
        return one_effect(values[members], *runs, direction, rng, clusters=groups)

    return measure


def mean_with_interval(values: PerPair) -> tuple[float, Interval | Absent]:
    """Return the mean of one number an input, with Student's interval or why it has none."""
    n, mean = len(values), float(values.mean())
    if n < FEWEST:
        return mean, Absent(f"{n} input{'s' if n > 1 else ''}: an interval takes {FEWEST}")
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * float(values.std(ddof=1)) / float(np.sqrt(n))
    return mean, Interval(mean - half, mean + half, LEVEL, f"Student's t over the {n} inputs")
