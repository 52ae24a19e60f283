"""Sweeps in coarser arithmetic, with what that does to them measured.

1. Sweep the whole map with rounded matrix products.
2. Compute the bare runs, a random sample of the cells and, when screening, the largest effects
   again in the model's own precision; wherever that was done the exact numbers stand in the map.
3. Report how far the random cells are off, and how well the rounded map ranks those cells.

The random cells tell how wrong any cell may be; the largest were chosen by the rounded map, so
they are not a sample of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from interp.axes import Mask, PairGrid
from interp.behaviors import Behavior
from interp.engine import has_bfloat16
from interp.errors import BadInput
from interp.methods import effects
from interp.methods.grids import Grid
from interp.methods.patching import Rounded, Sweep, sweep
from interp.models.load import LoadedModel

SAMPLE = 24
"""Random cells that are computed again, and largest ones when screening."""


@dataclass(frozen=True)
class Screened:
    """A sweep in coarser arithmetic.

    Attributes:
        sweep: The sweep as it is to be read: cells computed again have the exact numbers.
        exact: Cells that were computed again.
        off: Largest deviation of the effect of a random cell, None while there is none.
        rank: Spearman's correlation of exact and rounded effects over the random cells, None where
            there are too few or they do not vary.
        sampled: Random cells that both numbers are over.
        rounded: Metric of each pair and cell as the coarser arithmetic gave it.
        again: The same in the model's own precision, NaN where it was not computed again.
    """

    sweep: Sweep
    exact: Mask
    off: float | None
    rank: float | None
    sampled: int
    rounded: PairGrid
    again: PairGrid


def check_rounding(model: LoadedModel, rounded: Rounded) -> None:
    """Refuse an arithmetic that a device has not.

    Raises:
        BadInput: There is no such arithmetic there.
    """
    where = model.device
    if rounded == "tf32" and where.type != "cuda":
        raise BadInput(
            "TF32 was asked for.", f"{where} has none: it is arithmetic of CUDA devices."
        )
    if rounded == "bfloat16" and not has_bfloat16(where):
        raise BadInput(
            "Matrix products in bfloat16 were asked for.",
            f"{where} does not multiply bfloat16 natively, so they would be slower, not quicker.",
            "Ask in the model's own precision.",
        )


def screen(
    model: LoadedModel,
    behavior: Behavior,
    grid: Grid,
    direction: str,
    metric_name: str,
    *,
    rounded: Rounded,
    largest: bool,
    rng: np.random.Generator,
    forced: Mask | None = None,
    done: tuple[PairGrid, PairGrid] | None = None,
) -> Iterator[Screened]:
    """Sweep in coarser arithmetic, then compute some cells again.

    Args:
        model: The model.
        behavior: The pairs.
        grid: The map.
        direction: "denoising" or "noising".
        metric_name: One of ``interp.methods.effects.METRICS``.
        rounded: The coarser arithmetic.
        largest: Whether the cells with the largest effects, on all pairs and on those that are
            searched, are computed again, too.
        rng: Chooses the random cells.
        forced: Cells that are 1 by the model's structure; they are computed again.
        done: ``rounded`` and ``again`` of an earlier, interrupted attempt.

    Raises:
        BadInput: The device has no such arithmetic.

    Cost: of one sweep in the coarser arithmetic and of at most ``2 * SAMPLE`` cells in the model's.
    """
    check_rounding(model, rounded)
    args, before = (model, behavior, grid, direction, metric_name), done or (None, None)
    first: Sweep | None = None
    for state in sweep(*args, done=before[0], rounded=rounded):
        first = state
        again, none = np.full_like(state.values, np.nan), np.zeros(grid.shape, bool)
        part = replace(state, fraction=0.8 * state.fraction)
        yield Screened(part, none, None, None, 0, state.values, again)
    assert first is not None
    random, live = np.zeros(grid.shape, bool), np.argwhere(~first.inert)
    random[tuple(live[rng.permutation(len(live))[:SAMPLE]].T)] = True
    wanted = random if forced is None else random | forced
    if largest:
        wanted = wanted | _largest(first, behavior, direction)
    wanted = wanted & ~first.inert
    for state in sweep(*args, done=before[1], cells=wanted):
        shift = (first.corrupted, state.corrupted)
        if direction == "noising":
            shift = (first.clean, state.clean)
        # What a patch changes is put on the exact bare run: what all runs share cancels.
        moved = first.values + (shift[1] - shift[0])[:, None, None]
        exact = ~np.isnan(state.values).any(0) & wanted
        rough = replace(state, values=moved, fraction=0.8 + 0.2 * state.fraction)
        off, rank = _compared(rough, state.values, exact & random, direction)
        mixed = replace(rough, values=np.where(exact, state.values, moved))
        n = int((exact & random).sum())
        yield Screened(mixed, exact, off, rank, n, first.values, state.values)


def _largest(state: Sweep, behavior: Behavior, direction: str) -> Mask:
    """Mark the largest effects on all pairs, and on those among which the best cell is chosen."""
    kept = np.array(behavior.held_out) if behavior.held_out else np.zeros(len(behavior), bool)
    chosen = np.zeros(state.inert.shape, bool)
    for some in (np.ones(len(behavior), bool), ~kept):
        runs = (state.values[some], state.clean[some], state.corrupted[some])
        size = np.where(state.inert, -1.0, np.abs(effects.effect(*runs, direction)))
        chosen.ravel()[np.argsort(-size, axis=None)[:SAMPLE]] = True
    return chosen


def _compared(
    state: Sweep, again: PairGrid, sampled: Mask, direction: str
) -> tuple[float | None, float | None]:
    """Return how far the effects of sampled cells are off, and their rank correlation.

    ``state`` has the rounded values of all cells, ``again`` the exact ones of some.
    """
    if not sampled.any():
        return None, None
    runs = (state.clean, state.corrupted, direction)
    true, rough = (effects.effect(values, *runs)[sampled] for values in (again, state.values))
    varied = len(true) > 2 and true.std() > 0 and rough.std() > 0
    rank = float(np.corrcoef(rankdata(true), rankdata(rough))[0, 1]) if varied else None
    return float(np.abs(true - rough).max()), rank
