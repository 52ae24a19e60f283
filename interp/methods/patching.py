"""Activation patching: which activations carry the difference between two prompts?

1. Run every clean and every corrupted prompt once; keep the activations at the site.
2. For each cell of the map (layer and position, layer and head, or head and position) run the
   base prompt with the other run's activation put in that place. *Denoising* puts clean into
   corrupted; *noising* puts corrupted into clean.
3. Read the metric at the answer position.

Cells that cannot matter by the model's structure are not run; ``interp.methods.grids`` says which.

Source: Heimersheim & Nanda, "How to use and interpret activation patching" (2024);
Zhang & Nanda, "Towards best practices of activation patching" (ICLR 2024).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interp.axes import Mask, PairGrid, PerPair
from interp.behaviors import Behavior
from interp.engine import Edit, patched, read_out
from interp.methods.grids import Grid, cells_that_cannot_matter
from interp.methods.metrics import metric
from interp.models.batches import rows_per_batch
from interp.models.load import LoadedModel


@dataclass(frozen=True)
class Sweep:
    """Metric of each pair for each patch, NaN where not computed yet, and of the two bare runs.

    ``logits`` is the mean size of the bare runs' logits, which tells how they are rounded.
    """

    values: PairGrid
    clean: PerPair
    corrupted: PerPair
    inert: Mask
    fraction: float
    logits: float


@dataclass(frozen=True)
class _Ask:
    """What is asked of every pair."""

    behavior: Behavior
    grid: Grid
    direction: str
    metric: str

    def measure(self, logits: Tensor, pairs: list[int], clean: Tensor) -> PerPair:
        """Read the metric off the logits of these pairs."""
        answers = [self.behavior.answers[i] for i in pairs]
        foils = [self.behavior.foils[i] for i in pairs]
        return metric(self.metric, logits, answers, foils, clean).numpy()

    def size(self, logits: Tensor, pairs: list[int]) -> PerPair:
        """Return the largest size among the logits of the answer, the foil and the likeliest."""
        logits = logits.cpu().double()
        rows = torch.arange(len(logits))
        foils = [self.behavior.foils[i] for i in pairs]
        answers = [self.behavior.answers[i] for i in pairs]
        # Without a foil the index is -1: the answer stands in for it.
        others = [
            foil if foil >= 0 else answer for foil, answer in zip(foils, answers, strict=True)
        ]
        read = [logits[rows, answers], logits[rows, others], logits.amax(-1)]
        return torch.stack(read).abs().amax(0).numpy()


@dataclass(frozen=True)
class _Group:
    """The pairs of one length.

    ``base`` are the prompts that are patched, ``sources`` the activations that are put in,
    ``bare`` the metric of the clean and the corrupted runs, ``sizes`` of the logits of both.
    """

    pairs: list[int]
    base: Tensor
    sources: dict[tuple[str, int], Tensor]
    clean_logits: Tensor
    read: int
    bare: tuple[PerPair, PerPair]
    sizes: PerPair


def sweep(
    model: LoadedModel,
    behavior: Behavior,
    grid: Grid,
    direction: str,
    metric_name: str,
    *,
    done: PairGrid | None = None,
) -> Iterator[Sweep]:
    """Patch every cell of ``grid`` in every pair; yield before the first and after each batch.

    Args:
        model: The model, whose tokens ``behavior`` holds.
        behavior: Pairs with answers (and foils for ``logit_diff``).
        grid: The component and the cells.
        direction: "denoising" or "noising".
        metric_name: One of ``interp.methods.effects.METRICS``.
        done: Values of an earlier, interrupted sweep; they are not computed again.

    Yields:
        The sweep so far, in arrays of its own.

    Cost: 2 forwards a pair, then one a pair and cell that can matter; memory of the component's
    activations of all pairs.
    """
    clean, corrupted = np.full(len(behavior), np.nan), np.full(len(behavior), np.nan)
    ask = _Ask(behavior, grid, direction, metric_name)
    groups: list[_Group] = []
    for length in sorted(set(behavior.lengths)):
        pairs = [i for i, n in enumerate(behavior.lengths) if n == length]
        groups.append(_bare_runs(model, ask, pairs))
        for numbers, bare in zip((clean, corrupted), groups[-1].bare, strict=True):
            numbers[pairs] = bare
    logits = float(np.concatenate([group.sizes for group in groups]).mean())
    inert = cells_that_cannot_matter(model.info, behavior, grid)
    values = np.full((len(behavior), *grid.shape), np.nan)
    if done is not None:
        values = np.where(inert, values, done)
    # A patch that cannot matter leaves the base run's number, exactly.
    values[:, inert] = (corrupted if direction == "denoising" else clean)[:, None]
    total = max(1, len(behavior) * int((~inert).sum()))

    def so_far() -> Sweep:
        left = int(np.isnan(values).sum())
        return Sweep(values.copy(), clean, corrupted, inert, 1 - left / total, logits)

    yield so_far()
    for group in groups:
        for tasks in _batches(model, group, inert):
            pairs = [group.pairs[i] for i, _ in tasks]
            rows, cols = np.array([cell for _, cell in tasks]).T
            if not np.isnan(values[pairs, rows, cols]).any():
                continue  # an earlier attempt has it
            after = _patched_batch(model, group, grid, tasks)
            reference = group.clean_logits[[i for i, _ in tasks]]
            values[pairs, rows, cols] = ask.measure(after, pairs, reference)
            yield so_far()


def _bare_runs(model: LoadedModel, ask: _Ask, pairs: list[int]) -> _Group:
    """Run the clean and the corrupted prompts of pairs of one length."""
    behavior, grid = ask.behavior, ask.grid
    keep = [(grid.component, layer) for layer in grid.layers]
    ids = [
        torch.tensor([prompts[i] for i in pairs])
        for prompts in (behavior.clean, behavior.corrupted)
    ]
    runs = [read_out(model, batch, behavior.read, keep) for batch in ids]
    bare = (
        ask.measure(runs[0].logits, pairs, runs[0].logits),
        ask.measure(runs[1].logits, pairs, runs[0].logits),
    )
    sizes = np.mean([ask.size(run.logits, pairs) for run in runs], 0)
    base, source = (1, 0) if ask.direction == "denoising" else (0, 1)
    return _Group(pairs, ids[base], runs[source].acts, runs[0].logits, behavior.read, bare, sizes)


def _batches(
    model: LoadedModel, group: _Group, inert: Mask
) -> Iterator[list[tuple[int, tuple[int, int]]]]:
    """List (row of the group, cell) in batches, all pairs of a cell next to one another."""
    cells = [(int(r), int(c)) for r, c in np.argwhere(~inert)]
    tasks = [(i, cell) for cell in cells for i in range(len(group.pairs))]
    size = rows_per_batch(model.info, group.base.shape[1])
    for start in range(0, len(tasks), size):
        yield tasks[start : start + size]


def _patched_batch(
    model: LoadedModel, group: _Group, grid: Grid, tasks: list[tuple[int, tuple[int, int]]]
) -> Tensor:
    places = [grid.place(*cell) for _, cell in tasks]
    edits: list[Edit] = []
    for layer in sorted({place.layer for place in places}):
        rows = [i for i, place in enumerate(places) if place.layer == layer]
        of_pair = torch.tensor([tasks[i][0] for i in rows])
        values = group.sources[grid.component, layer][of_pair]
        each = torch.arange(len(rows))
        pos = head = None
        if places[rows[0]].head is not None:
            head = torch.tensor([places[i].head for i in rows])
            values = values[each, :, head]
        if places[rows[0]].pos is not None:
            pos = torch.tensor([places[i].pos for i in rows])
            values = values[each, pos]
        edits.append(Edit(grid.component, layer, torch.tensor(rows), pos, head, values))
    return patched(model, group.base[[i for i, _ in tasks]], group.read, edits)
