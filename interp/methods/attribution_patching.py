"""Attribution patching: every patch of a map estimated at once by gradients, some made exactly.

Put an activation ``a'`` of the source run where the base run has ``a``. To first order the metric
``m`` moves by ``(a' - a) . dm/da``, with the gradient of the base run: two forward passes and one
backward pass give this for every place of the model.

* ``gradient``: this, as it stands.
* ``qk_fix``: a patched query or key reaches the metric through a softmax, which bends most where it
  matters. So the attention pattern is computed anew with it, as the model does, and only from there
  on is linear: ``(A' - A) . dm/dA``. Everywhere else it is the gradient.
* ``integrated``: the gradient averaged over runs whose streams before the first layer stand between
  base and source, at the middle of each of ``steps`` equal steps (midpoint rule).

``Attribution.exact`` makes chosen patches as activation patching does.

Source: Nanda, "Attribution patching" (2023); Syed, Rager & Conmy (2023); Kramár, Lieberum, Shah &
Nanda, "AtP*" (2024) for the QK fix (their base run is the clean one);
Hanna, Pezzelle & Belinkov (2024) for the integral, who sum it from the right ends of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.axes import LayerHead, PairGrid, PerPair
from interp.behaviors import Behavior
from interp.engine import Gradients, gradients, how, layers_of, trace
from interp.errors import BadInput, DoesNotFit
from interp.methods.grids import Grid, pairs_that_cannot_matter
from interp.methods.metrics import Asked, metric
from interp.methods.patching import BareRuns, Cell, Group, swapped
from interp.methods.qk import keys_changed, queries_changed
from interp.methods.rechecks import LOOKED_AT, MOVED, SATURATED
from interp.models.batches import rows_per_batch
from interp.models.lean import Lean
from interp.models.load import LoadedModel


class Attribution:
    """The pairs of a behavior, run bare, and what is made of their gradients."""

    def __init__(
        self, model: LoadedModel, behavior: Behavior, grid: Grid, direction: str, metric_name: str
    ) -> None:
        """Run every pair bare.

        Args:
            model: The model, whose tokens ``behavior`` holds.
            behavior: Pairs with answers (and foils for ``logit_diff``).
            grid: The component and the cells.
            direction: "denoising": base is the corrupted run; "noising": the clean one.
            metric_name: One of ``interp.methods.effects.METRICS``.

        Raises:
            BadInput: The model cannot be differentiated here.

        Cost: 2 forwards a pair; memory of the component's activations of all pairs.
        """
        layers = _layers(model)
        # What a head writes is linear in what it reads: patching either is the same.
        read = "z" if grid.component == "result" else grid.component
        self.model, self.layers, self.direction = model, layers, direction
        self.grid, self.asked = replace(grid, component=read), Asked(behavior, metric_name)
        self.groups = BareRuns(model, self.asked, direction, [read])
        self.clean, self.corrupted, sizes = self.groups.read()
        self.logits = float(sizes.mean())
        self.base = self.corrupted if direction == "denoising" else self.clean
        self.nothing = pairs_that_cannot_matter(model.info, behavior, grid)
        self.how = how(self.groups[0].base)

    def estimate(
        self, method: str, steps: int, done: tuple[PairGrid, PerPair] | None = None
    ) -> Iterator[tuple[PairGrid, PerPair]]:
        """Estimate every patch; yield what is there after each batch of pairs.

        Args:
            method: "gradient", "qk_fix" or "integrated".
            steps: Runs between base and source; only ``integrated`` has any.
            done: What an earlier, interrupted call yielded last.

        Yields:
            The metric of each pair and cell, if the estimate held, NaN where not computed yet; and
            what the integral gives for the whole way from base to source (see ``total``), NaN for
            other methods. Arrays of the caller's own.

        Raises:
            DoesNotFit: The device is out of memory.

        Cost: one forward and one backward pass a pair, ``steps`` of them for ``integrated``;
        memory of all activations of a batch.
        """
        n = len(self.base)
        values, totals = np.full((n, *self.grid.shape), np.nan), np.full(n, np.nan)
        if done is not None:
            values, totals = (part.copy() for part in done)
        fractions = (np.arange(steps) + 0.5) / steps if method == "integrated" else np.zeros(0)
        for group in self.groups:
            most = rows_per_batch(self.model.info, group.base.ids.shape[1])
            size = max(1, most // max(1, len(fractions)))
            for start in range(0, len(group.pairs), size):
                rows = list(range(start, min(start + size, len(group.pairs))))
                pairs = [group.pairs[i] for i in rows]
                # Pairs in which no cell can matter are known before their integral is.
                known = not np.isnan(values[pairs]).any()
                if known and (method != "integrated" or not np.isnan(totals[pairs]).any()):
                    continue
                found = self._gradients(group, rows, method, fractions)
                change = self._change(group, rows, method, found)
                values[pairs] = self.base[pairs, None, None] + change
                if method == "integrated":
                    totals[pairs] = total(group, rows, found)
                values = np.where(self.nothing, self.base[:, None, None], values)
                yield values.copy(), totals.copy()

    def _gradients(
        self, group: Group, rows: list[int], method: str, fractions: np.ndarray
    ) -> Gradients:
        """Differentiate at the base runs, or at runs between base and source, and average."""
        keep = {
            "gradient": [self.grid.component],
            "qk_fix": ["q", "k", "pattern"],
            "integrated": [self.grid.component, "resid_pre"],
        }[method]
        ids = group.base.ids[rows]
        if not len(fractions):
            return self._one_pass(group, rows, ids, keep, None)
        most = max(1, rows_per_batch(self.model.info, ids.shape[1]) // len(rows))
        base, source = (run.acts["resid_pre", 0][rows] for run in (group.base, group.source))
        found = Gradients(torch.zeros(len(rows)), {}, {})
        for some in np.split(fractions, range(most, len(fractions), most)):
            share = torch.tensor(some, dtype=base.dtype, device=base.device)[None, :, None, None]
            streams = base[:, None] + share * (source - base)[:, None]
            each = [row for row in rows for _ in some]
            one = self._one_pass(
                group, each, ids.repeat_interleave(len(some), 0), keep, streams.flatten(0, 1)
            )
            for place, grad in one.grads.items():
                part = grad.unflatten(0, (len(rows), len(some))).sum(1) / len(fractions)
                found.grads[place] = found.grads[place] + part if place in found.grads else part
        return found

    def _one_pass(
        self,
        group: Group,
        rows: list[int],
        ids: Tensor,
        keep: Sequence[str],
        streams: Tensor | None,
    ) -> Gradients:
        chosen = [group.pairs[i] for i in rows]
        with _enough_memory(ids):
            return gradients(
                self.model,
                self.layers,
                ids,
                group.base.read,
                keep,
                reader=_reader(self.asked, chosen, group.clean[rows]),
                outputs=self.asked.outputs,
                streams=streams,
            )

    def _change(self, group: Group, rows: list[int], method: str, found: Gradients) -> np.ndarray:
        """Return by how much each cell moves the metric: ``[row, *grid.shape]``."""
        part, by_layer = self.grid.component, []
        for layer in self.grid.layers:
            base, source = (run.acts[part, layer][rows] for run in (group.base, group.source))
            if method == "qk_fix":
                moved = self._fixed(layer, found, source)
            else:
                moved = ((source - base) * found.grads[part, layer]).sum(-1)
            if self.grid.col_axis == "head":
                moved = moved.sum(1)
            elif self.grid.row_axis == "head":
                moved = moved.transpose(1, 2)
            by_layer.append(moved.cpu().double())
        stacked = torch.stack(by_layer, 1)
        return stacked.reshape(len(rows), *self.grid.shape).numpy()

    def _fixed(
        self, layer: int, found: Gradients, source: Float[Tensor, "row pos head d_head"]
    ) -> Float[Tensor, "row pos head"]:
        q, k = (found.acts[slot, layer] for slot in "qk")
        slope = found.grads["pattern", layer]
        if self.grid.component == "q":
            return queries_changed(self.layers, layer, (q, k), source, slope)
        alone = self.grid.col_axis == "position"
        return keys_changed(self.layers, layer, (q, k), source, slope, alone=alone)

    def exact(self, cells: Sequence[Cell], done: PairGrid | None = None) -> Iterator[PairGrid]:
        """Make the patches of some cells in all pairs, in this order; yield after each pass.

        Args:
            cells: The cells.
            done: What an earlier, interrupted call yielded last.

        Yields:
            The metric of each pair with the patch, NaN where there is none (yet).

        Cost: one forward a pair and cell, from the layer and position of the cell on.
        """
        values = np.full((len(self.base), *self.grid.shape), np.nan)
        if done is not None:
            values = done.copy()
        chosen = np.zeros(self.grid.shape, bool)
        for cell in cells:
            chosen[cell] = True
        # A patch that cannot matter leaves the base run's number, exactly.
        values = np.where(chosen & self.nothing, self.base[:, None, None], values)
        for group in self.groups:
            tasks = [
                (i, cell)
                for cell in cells
                for i, pair in enumerate(group.pairs)
                if not self.nothing[pair][cell]
            ]
            at = tuple(np.array([(group.pairs[i], *c) for i, c in tasks], int).reshape(-1, 3).T)
            places = [(i, (self.grid.place(*cell),)) for i, cell in tasks]
            known = np.flatnonzero(~np.isnan(values[at]))
            for which, numbers in swapped(self.model, self.asked, group, places, known=known):
                values[tuple(axis[which] for axis in at)] = numbers
                yield values.copy()

    def saturated(self) -> LayerHead:
        """Return in which share of pairs a head's attention is saturated and yet moves.

        That is: of some position at least ``SATURATED`` of the attention lies on one source in the
        base run, so that its softmax has hardly any slope, and ``MOVED`` of it lies elsewhere in
        the source run. There a gradient sees next to nothing of what a patch does through queries
        and keys. Any position counts, whether or not it matters to the metric.

        Cost: 2 forwards for each of at most 20 pairs; memory of the patterns of a batch.
        """
        count, left = np.zeros((self.model.info.n_layers, self.model.info.n_heads)), LOOKED_AT
        for group in self.groups:
            looked = min(left, len(group.pairs))
            left -= looked
            size = rows_per_batch(self.model.info, group.base.ids.shape[1])
            for start in range(0, looked, size):
                rows = slice(start, min(start + size, looked))
                base, source = (
                    trace(self.model, run.ids[rows], run.read, ("pattern",))
                    for run in (group.base, group.source)
                )
                for layer in range(len(count)):
                    a, b = (t.acts["pattern", layer][:, : t.stop] for t in (base, source))
                    stuck = (a.amax(-1) >= SATURATED) & ((a - b).abs().sum(-1) >= 2 * MOVED)
                    count[layer] += stuck.any(1).sum(0).cpu().numpy()
        return count / min(LOOKED_AT, len(self.base))


def total(group: Group, rows: list[int], found: Gradients) -> PerPair:
    """Return what an integral gives for the whole way from base to source, one number a pair.

    It is the effect of all streams before the first layer together. With infinitely many steps it
    is the metric of the source run minus that of the base run; what it lacks is the error of the
    steps.
    """
    base, source = (run.acts["resid_pre", 0][rows] for run in (group.base, group.source))
    moved = (source - base) * found.grads["resid_pre", 0]
    return moved.flatten(1).sum(1).cpu().double().numpy()


def node_estimates(
    model: LoadedModel,
    behavior: Behavior,
    components: Sequence[str],
    direction: str,
    metric_name: str,
) -> dict[str, Float[np.ndarray, "pair layer pos ..."]]:
    """Estimate by gradients what every patch of many components moves, all at once.

    Args:
        model: The model.
        behavior: Pairs of one length.
        components: Components that a trace keeps, but ``result``, of which ``z`` says the same;
            those of heads have a last axis for these.
        direction: "denoising": base is the corrupted run; "noising": the clean one.
        metric_name: One of ``interp.methods.effects.METRICS``.

    Returns:
        By component, the change of the metric at each layer and position, as ``Attribution`` has
        it with method "gradient".

    Raises:
        BadInput: The model cannot be differentiated here.
        DoesNotFit: The device is out of memory.

    Cost: two forward passes and one backward pass a pair, however many components.
    """
    layers, asked = _layers(model), Asked(behavior, metric_name)
    denoising = direction == "denoising"
    ids = (torch.tensor(side) for side in (behavior.clean, behavior.corrupted))
    source_ids, base_ids = ids if denoising else reversed([*ids])
    size, parts = rows_per_batch(model.info, base_ids.shape[1]), []
    for start in range(0, len(behavior), size):
        rows = slice(start, start + size)
        pairs = range(len(behavior))[rows]
        source = trace(model, source_ids[rows], behavior.read, components)
        with _enough_memory(base_ids[rows]):
            found = gradients(
                model,
                layers,
                base_ids[rows],
                behavior.read_at(0),
                components,
                reader=_reader(asked, pairs, source.logits if denoising else None),
                outputs=asked.outputs,
            )
        parts.append(
            {
                place: ((source.acts[place] - act) * found.grads[place]).sum(-1).cpu().double()
                for place, act in found.acts.items()
            }
        )
    whole = {place: torch.cat([part[place] for part in parts]).numpy() for place in parts[0]}
    n = range(model.info.n_layers)
    return {part: np.stack([whole[part, layer] for layer in n], 1) for part in components}


@contextmanager
def _enough_memory(ids: Int[Tensor, "row pos"]) -> Generator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DoesNotFit(
            f"{len(ids)} prompts of {ids.shape[1]} tokens were differentiated at once.",
            "The device is out of memory.",
            "Shorten the prompts, use activation patching, or a device with more memory.",
        ) from error


def _layers(model: LoadedModel) -> Lean:
    layers, why = layers_of(model, None)
    if layers is None:
        raise BadInput(
            f"Attribution patching differentiates {model.info.name} by its layers.",
            f"These cannot be computed one by one: {why}.",
            "Use activation patching, which needs no gradients.",
        )
    return layers


def _reader(
    asked: Asked, pairs: Sequence[int], clean: Float[Tensor, "row d_out"] | None
) -> Callable[[Tensor], Tensor]:
    """Return what reads the metric of these pairs off the logits of the outputs that it needs.

    Args:
        asked: Pairs and metric.
        pairs: Number of each row's pair.
        clean: Logits of the pairs' clean runs, or None: the run that is read is the clean one.
    """
    behavior, outputs = asked.behavior, asked.outputs
    answers, foils = ([n[i] for i in pairs] for n in (behavior.answers, behavior.foils))
    if clean is not None:
        # Bare runs are made in inference mode, whose tensors no gradient may pass: a copy may.
        clean = clean.clone() if outputs is None else clean[:, outputs.to(clean.device)].clone()
    if outputs is not None:
        place = {output: i for i, output in enumerate(outputs.tolist())}
        answers, foils = ([place[i] for i in each] for each in (answers, foils))

    def read(logits: Tensor) -> Tensor:
        known = logits.detach() if clean is None else clean
        return metric(asked.metric, logits, answers, foils, known)

    return read
