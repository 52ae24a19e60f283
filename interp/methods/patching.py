"""Activation patching: which activations carry the difference between two prompts?

1. Run every clean and every corrupted prompt once; keep the activations at the site.
2. For each cell of the map (layer and position, layer and head, or head and position) run the
   base prompt with the other run's activation put in that place. *Denoising* puts clean into
   corrupted; *noising* puts corrupted into clean.
3. Read the metric at the answer position.

Cells that cannot matter by the model's structure are not run; ``interp.methods.grids`` says which.
How the runs are made, and why that is exact, is said in ``interp.engine.stack``.

Source: Heimersheim & Nanda, "How to use and interpret activation patching" (2024);
Zhang & Nanda, "Towards best practices of activation patching" (ICLR 2024).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.axes import Mask, PairGrid, PerPair
from interp.behaviors import Behavior
from interp.engine import Edits, Runs, Take, Trace, how, patched, trace
from interp.methods.grids import Grid, coarse_first, pairs_that_cannot_matter
from interp.methods.metrics import Asked
from interp.models.info import BYTES
from interp.models.load import LoadedModel
from interp.models.memory import memory
from interp.models.sites import Site

Cell = tuple[int, int]
_SWAPPED = {"result": "z"}
"""What is swapped instead: a head's result is a linear map of ``z``, which is smaller."""
Rounded = Literal["bfloat16", "tf32"]


@dataclass(frozen=True)
class Sweep:
    """Metric of each pair for each patch, NaN where not computed yet, and of the two bare runs.

    ``logits`` is the mean size of the bare runs' logits, which tells how they are rounded; ``how``
    says in a sentence how the patched runs were computed.
    """

    values: PairGrid
    clean: PerPair
    corrupted: PerPair
    inert: Mask
    fraction: float
    logits: float
    how: str = ""


@dataclass(frozen=True, eq=False)
class Group:
    """The pairs of one length, run bare.

    Attributes:
        pairs: Which pairs these are.
        base: Trace of the prompts that are patched.
        source: Trace of the prompts whose activations are put in.
        clean: Logits of the clean prompts.
        bare: Metric of the clean and the corrupted runs.
        sizes: Size of their logits.
    """

    pairs: list[int]
    base: Trace
    source: Trace
    clean: Float[Tensor, "row d_out"]
    bare: tuple[PerPair, PerPair]
    sizes: PerPair


class BareRuns(Sequence[Group]):
    """The pairs in blocks of one length that fit into memory, run bare when they are asked for.

    The block asked for last is kept; where there are several, going round them again takes their
    bare runs again, which is little beside their patches.
    """

    def __init__(
        self,
        model: LoadedModel,
        asked: Asked,
        direction: str,
        keep: Sequence[str],
        rounded: Rounded | None = None,
    ) -> None:
        """Cut the pairs into blocks.

        Args:
            model: The model.
            asked: Pairs and metric.
            direction: "denoising" or "noising": which of the two runs is patched.
            keep: Components whose activations are put in.
            rounded: Coarser arithmetic of the matrix products, or None: the model's own.
        """
        self._model, self._asked, self._direction = model, asked, direction
        self._keep, self._rounded = [_SWAPPED.get(c, c) for c in keep], rounded
        self._last: tuple[int, Group] | None = None
        self._blocks: list[list[int]] = []
        lengths = np.array(asked.behavior.lengths)
        for length in np.unique(lengths).tolist():
            pairs = np.flatnonzero(lengths == length).tolist()
            size = pairs_that_fit(model, length, len(self._keep))
            self._blocks += [pairs[i : i + size] for i in range(0, len(pairs), size)]

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: Any) -> Any:
        """Run a block.

        Raises:
            DoesNotFit: The device is out of memory.

        Cost: 2 forwards a pair of it; memory of their activations.
        """
        if self._last is None or self._last[0] != index:
            block = self._blocks[index]  # an iteration asks past the end, too: nothing is dropped
            self._last = None  # its memory is free for the next
            self._last = index, self._run(block)
        return self._last[1]

    def read(self) -> tuple[PerPair, PerPair, PerPair]:
        """Return the metric of the clean and corrupted runs and their logits' size, by pair."""
        found = np.empty((3, len(self._asked.behavior)))
        for group in self:
            found[:, group.pairs] = [*group.bare, group.sizes]
        return found[0], found[1], found[2]

    def _run(self, pairs: list[int]) -> Group:
        asked, behavior = self._asked, self._asked.behavior
        options: dict[str, Any] = {
            "dtype": torch.bfloat16 if self._rounded == "bfloat16" else None,
            "tf32": self._rounded == "tf32",
        }
        ids = [
            torch.tensor([side[i] for i in pairs]) for side in (behavior.clean, behavior.corrupted)
        ]
        clean = trace(self._model, ids[0], behavior.read, self._keep, **options)
        # What the prompts of a pair have in common at the start is computed once.
        corrupted = trace(self._model, ids[1], behavior.read, self._keep, like=clean, **options)
        base, source = corrupted, clean
        if self._direction == "noising":
            base, source = clean, corrupted
        runs = (clean, corrupted)
        bare = [asked.measure(run.logits, pairs, clean.logits) for run in runs]
        sizes = np.mean([asked.size(run.logits, pairs) for run in runs], 0)
        kept = source.only(self._keep)
        return Group(pairs, base, kept, clean.logits, (bare[0], bare[1]), sizes)


def pairs_that_fit(model: LoadedModel, length: int, kept: int) -> int:
    """Return how many pairs' activations fit into a quarter of the free memory, at least one.

    Free memory counts in powers of two, so that another attempt cuts alike.
    """
    info, streams = model.info, 5 + 2 * kept
    each = length * info.n_layers * info.d_model * BYTES[info.dtype] * streams
    room = 2.0 ** int(np.log2(max(memory(model.device)[0], 2**20) / 4))
    return max(1, int(room / each))


def sweep(
    model: LoadedModel,
    behavior: Behavior,
    grid: Grid,
    direction: str,
    metric_name: str,
    *,
    done: PairGrid | None = None,
    rounded: Rounded | None = None,
    cells: Mask | None = None,
) -> Iterator[Sweep]:
    """Patch every cell of ``grid`` in every pair; yield before the first and after each pass.

    Args:
        model: The model, whose tokens ``behavior`` holds.
        behavior: Pairs with answers (and foils for ``logit_diff``).
        grid: The component and the cells.
        direction: "denoising" or "noising".
        metric_name: One of ``interp.methods.effects.METRICS``.
        done: Values of an earlier, interrupted sweep; they are not computed again.
        rounded: Coarser arithmetic of the matrix products, or None: the model's own.
        cells: The cells to patch, or None: all.

    Yields:
        The sweep so far, in arrays of its own; a coarse map comes first.

    Cost: 2 forwards a pair; then one a pair and cell that can matter, of the layers from the cell's
    on and of the positions from the cell's on; memory of the activations of all pairs.
    """
    asked = Asked(behavior, metric_name)
    groups = BareRuns(model, asked, direction, [grid.component], rounded)
    clean, corrupted, sizes = groups.read()
    nothing = pairs_that_cannot_matter(model.info, behavior, grid)
    base = corrupted if direction == "denoising" else clean
    # A patch that cannot matter leaves the base run's number, exactly.
    values = np.where(nothing, base[:, None, None], np.nan if done is None else done)
    wanted = ~nothing if cells is None else ~nothing & cells
    logits = float(sizes.mean())
    total, inert = max(1, int(wanted.sum())), np.all(nothing, axis=0)

    def so_far() -> Sweep:
        left = int((np.isnan(values) & wanted).sum())
        said = how(groups[0].base)
        return Sweep(values.copy(), clean, corrupted, inert, 1 - left / total, logits, said)

    yield so_far()
    for part in coarse_first(grid):
        for group in groups:
            tasks = [(i, c) for c in part for i, p in enumerate(group.pairs) if wanted[p][c]]
            at = tuple(np.array([(group.pairs[i], *c) for i, c in tasks], int).reshape(-1, 3).T)
            places = [(i, (grid.place(*c),)) for i, c in tasks]
            known = np.flatnonzero(~np.isnan(values[at]))
            for done_now, numbers in swapped(model, asked, group, places, known=known):
                values[tuple(axis[done_now] for axis in at)] = numbers
                yield so_far()


def swapped(
    model: LoadedModel,
    asked: Asked,
    group: Group,
    tasks: Sequence[tuple[int, Sequence[Site]]],
    *,
    known: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, PerPair]]:
    """Make one run a task (row of the group, sites that are swapped jointly), in passes.

    Yields which tasks are done and the metric of each. ``known`` are tasks that an earlier attempt
    did.
    """
    rows = np.array([row for row, _ in tasks], dtype=int)
    pairs = np.array(group.pairs)[rows]
    skip = None if known is None else torch.from_numpy(known)
    runs = swaps(group, tasks)
    for which, after in patched(model, group.base, runs, asked.outputs, skip=skip):
        k = which.numpy()
        yield k, asked.measure(after, pairs[k].tolist(), group.clean[rows[k]], asked.outputs)


def swaps(group: Group, tasks: Sequence[tuple[int, Sequence[Site]]]) -> Runs:
    """Return one run a task (row of the group, sites), which swaps all its sites jointly."""
    each = [
        (run, row, replace(site, component=_SWAPPED.get(site.component, site.component)))
        for run, (row, sites) in enumerate(tasks)
        for site in sites
    ]
    base, other = group.base, group.source
    causal = base.lean is not None and base.lean.causal
    differs = ((base.ids != other.ids).int().argmax(1) * causal).tolist()
    shapes = {(site.component, site.pos is None, site.head is None) for _, _, site in each}
    edits: list[Edits] = []
    for component, everywhere, whole in sorted(shapes):
        mine = [
            (run, row, site)
            for run, row, site in each
            if (site.component, site.pos is None, site.head is None)
            == (component, everywhere, whole)
        ]
        rows = torch.tensor([row for _, row, _ in mine])
        edits.append(
            Edits(
                component,
                run=torch.tensor([run for run, _, _ in mine]),
                layer=torch.tensor([site.layer for _, _, site in mine]),
                change=Take(other.acts, rows),
                pos=None if everywhere else _column([site.pos for _, _, site in mine]),
                head=None if whole else _column([site.head for _, _, site in mine]),
                # Before the first difference both runs have the same activations.
                start=min(differs[row] for row in rows.tolist()) if everywhere else 0,
            )
        )
    return Runs(torch.tensor([row for row, _ in tasks], dtype=torch.long), edits)


def _column(numbers: Sequence[int | None]) -> Int[Tensor, "edit"]:
    return torch.tensor([number or 0 for number in numbers])


def together(
    model: LoadedModel,
    behavior: Behavior,
    sites: Sequence[Site],
    direction: str,
    metric_name: str,
) -> Float[np.ndarray, "pair patch"]:
    """Patch sites jointly, and each of them alone: the metric of each pair, jointly first.

    Cost: 2 forwards a pair, then one a pair and site and one a pair.
    """
    asked = Asked(behavior, metric_name)
    kept = sorted({site.component for site in sites})
    found = np.empty((len(behavior), 1 + len(sites)))
    for group in BareRuns(model, asked, direction, kept):
        patches = [tuple(sites), *((site,) for site in sites)]
        each = [(i, patch) for i in range(len(group.pairs)) for patch in range(len(patches))]
        tasks = [(i, patches[patch]) for i, patch in each]
        for done, numbers in swapped(model, asked, group, tasks):
            rows, patch = np.array(each)[done].T
            found[np.array(group.pairs)[rows], patch] = numbers
    return found
