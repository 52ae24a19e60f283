"""Ablation: what becomes of a metric when a component is taken out, in three ways.

1. Run every clean prompt once; keep what each head, attention and MLP gives. The corrupted
   prompts are run for comparison, and where activations are taken from them.
2. For each component run every clean prompt again with its output replaced at all positions: by 0
   (*zero*), by its mean over a pool of prompts (*mean*), by what it gives on another prompt of the
   pool (*resample*), several times.
3. Read the metric at the answer position.

A head's output is ``z``, before the output matrix; that of a whole attention or MLP is what is
added to the residual stream, biases and norms behind it included.

Source: Wang et al., "Interpretability in the wild" (2022), section 2.2, for mean ablation; Chan et
al., "Causal scrubbing" (2022), for resampling and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.axes import AblationPairGrid, PerPair
from interp.behaviors import Behavior
from interp.engine import Edits, Put, Runs, Take, Trace, patched, read_out, trace
from interp.methods.metrics import Asked
from interp.methods.pools import ABLATIONS, NOBODY, Pool, columns, component
from interp.models.load import LoadedModel
from interp.models.sites import Site

Acts = Mapping[tuple[str, int], Tensor]
FIRST_DRAW = 2
"""Ways to take a component out: zero, mean, then one a draw."""


@dataclass(frozen=True)
class Ablated:
    """The metric of every input, bare and with each component taken out.

    Attributes:
        values: With a component taken out; NaN where it, or one of its draws, is not computed yet.
        clean: Of the clean runs.
        corrupted: Of the corrupted runs.
        runs: Of every single run, from which another attempt can go on.
        fraction: Share of the runs that are made.
    """

    values: AblationPairGrid
    clean: PerPair
    corrupted: PerPair
    runs: Float[np.ndarray, "cell way pair"]
    fraction: float


@dataclass(frozen=True, eq=False)
class _Group:
    """The inputs of one length: which, the clean runs, and the runs activations are taken from."""

    pairs: list[int]
    clean: Trace
    source: Trace


def ablate(
    model: LoadedModel,
    behavior: Behavior,
    metric: str,
    pool: Pool,
    *,
    done: Float[np.ndarray, "cell way pair"] | None = None,
) -> Iterator[Ablated]:
    """Take out every component of every layer; yield before the first and after each pass.

    Args:
        model: The model, whose tokens ``behavior`` holds.
        behavior: Inputs with answers (and foils for ``logit_diff``).
        metric: One of ``interp.methods.effects.METRICS``.
        pool: What comes in the place of what is taken out.
        done: ``runs`` of an earlier, interrupted attempt; they are not made again.

    Yields:
        What is known so far, in arrays of its own. A component is taken out in all ways before the
        next one is.

    Cost: 2 forwards an input; then one an input, component and way (``2 + draws`` ways) of the
    layers from the component's on; memory of the activations of all inputs.
    """
    asked = Asked(behavior, metric)
    groups, clean, corrupted = _bare(model, asked, pool)
    shape = (model.info.n_layers, len(columns(model.info)))
    sites = [component(model.info, row, col) for row, col in np.ndindex(*shape)]
    wanted = np.ones((FIRST_DRAW + len(pool.partners), len(behavior)), dtype=bool)
    wanted[FIRST_DRAW:] = pool.partners != NOBODY
    runs = np.full((len(sites), *wanted.shape), np.nan) if done is None else done.copy()
    means = _means(groups, pool)

    def so_far() -> Ablated:
        known = np.isfinite(runs).sum() / (len(sites) * wanted.sum())
        values = _by_ablation(runs, wanted).reshape(len(ABLATIONS), len(behavior), *shape)
        return Ablated(values, clean, corrupted, runs.copy(), float(known))

    yield so_far()
    for group, mean in zip(groups, means, strict=True):
        cell, way, row = np.argwhere(
            np.broadcast_to(wanted[:, group.pairs], (len(sites), len(wanted), len(group.pairs)))
        ).T
        pair = np.array(group.pairs)[row]
        edits = _edits(group, pool, mean, sites, (cell, way, row))
        known = torch.from_numpy(np.flatnonzero(np.isfinite(runs[cell, way, pair])))
        todo = Runs(torch.from_numpy(row), edits)
        for which, after in patched(model, group.clean, todo, asked.outputs, skip=known):
            k = which.numpy()
            reference = group.clean.logits[torch.from_numpy(row[k]).to(model.device)]
            runs[cell[k], way[k], pair[k]] = asked.measure(
                after, pair[k].tolist(), reference, asked.outputs
            )
            yield so_far()


def _bare(model: LoadedModel, asked: Asked, pool: Pool) -> tuple[list[_Group], PerPair, PerPair]:
    """Run the clean and the corrupted prompts; return the groups and both runs' metric."""
    behavior, groups = asked.behavior, []
    keep = ("z", "attn_out", "mlp_out") if model.info.has_mlp else ("z", "attn_out")
    bare = np.full((2, len(behavior)), np.nan)
    for length in sorted(set(behavior.lengths)):
        pairs = [i for i, n in enumerate(behavior.lengths) if n == length]
        ids = [
            torch.tensor([prompts[i] for i in pairs])
            for prompts in (behavior.clean, behavior.corrupted)
        ]
        clean = source = trace(model, ids[0], behavior.read, keep)
        if pool.source == "corrupted":
            source = trace(model, ids[1], behavior.read, keep)
            other = source.logits
        else:
            other = read_out(model, ids[1], behavior.read).logits
        for k, logits in enumerate((clean.logits, other)):
            bare[k, pairs] = asked.measure(logits, pairs, clean.logits)
        groups.append(_Group(pairs, clean, source))
    return groups, bare[0], bare[1]


def _means(groups: list[_Group], pool: Pool) -> list[Acts]:
    """Average each component over the pool's different prompts, for each group as it takes it."""
    rows = [torch.tensor([i in pool.different for i in group.pairs]) for group in groups]
    places = [place for place in groups[0].source.acts if place[0] in ("z", "attn_out", "mlp_out")]
    if pool.by_position:
        (group,), (chosen,) = groups, rows
        return [{p: group.source.acts[p][chosen].mean(0, keepdim=True) for p in places}]
    of_all: dict[tuple[str, int], Tensor] = {}
    for place in places:
        parts = [g.source.acts[place][r].flatten(0, 1) for g, r in zip(groups, rows, strict=True)]
        of_all[place] = torch.cat(parts).mean(0)
    lengths = [group.clean.ids.shape[1] for group in groups]
    return [{p: m.expand(1, n, *m.shape) for p, m in of_all.items()} for n in lengths]


def _edits(
    group: _Group,
    pool: Pool,
    means: Acts,
    sites: list[Site],
    runs: tuple[Int[np.ndarray, "run"], Int[np.ndarray, "run"], Int[np.ndarray, "run"]],
) -> list[Edits]:
    """Return the changes of runs given by cell, way and row of the group."""
    cell, way, row = runs
    layer = torch.tensor([site.layer for site in sites])[torch.from_numpy(cell)]
    head = torch.tensor([site.head or 0 for site in sites])[torch.from_numpy(cell)]
    place = {pair: i for i, pair in enumerate(group.pairs)}
    partners = pool.partners[np.maximum(way - FIRST_DRAW, 0), np.array(group.pairs)[row]]
    taken = torch.tensor([place.get(int(pair), 0) for pair in partners])
    starts = _starts(group, pool)
    ways = (
        (way == 0, None, 0),
        (way == 1, means, starts[0]),
        (way >= FIRST_DRAW, group.source.acts, starts[1]),
    )
    edits: list[Edits] = []
    for name in sorted({site.component for site in sites}):
        here = np.array([site.component == name for site in sites])[cell]
        for chosen, acts, start in ways:
            run = torch.from_numpy(np.flatnonzero(here & chosen))
            of_head = head[run] if name == "z" else None
            # The mean is one row for all.
            source = torch.zeros_like(run) if acts is means else taken[run]
            change = Put(torch.zeros(1)) if acts is None else Take(acts, source)
            edits.append(Edits(name, run, layer[run], change, head=of_head, start=start))
    return edits


def _starts(group: _Group, pool: Pool) -> tuple[int, int]:
    """Return the position before which a mean, and what another prompt has, are what was there.

    In a causal model nothing differs before the first token that does.
    """
    if group.clean.lean is None or not group.clean.lean.causal:
        return 0, 0
    clean, source = group.clean.ids, group.source.ids
    first = clean[:1]
    differs = (clean != first).any(0) | (source != first).any(0)
    shared = int(differs.int().argmax())
    own = int((clean != source).any(0).int().argmax()) if pool.source == "corrupted" else shared
    return shared if pool.by_position else 0, own


def _by_ablation(
    runs: Float[np.ndarray, "cell way pair"], wanted: Bool[np.ndarray, "way pair"]
) -> Float[np.ndarray, "3 pair cell"]:
    """Average the draws of each input once all are there."""
    draws, of_input = runs[:, FIRST_DRAW:], wanted[FIRST_DRAW:]
    mean = np.where(of_input, draws, 0.0).sum(1) / of_input.sum(0)
    return np.stack([runs[:, 0], runs[:, 1], mean]).transpose(0, 2, 1)
