"""Path patching: who writes into what matters?

1. Run every clean and every corrupted prompt once. One of the two is the base: the clean run when
   noising, the corrupted one when denoising.
2. What a sender writes differently in the other run is what its paths carry: the difference of a
   head's output through its output matrix (and through the norm behind the attention, of a family
   that has one, with this head alone changed), of an MLP's output, or of the embeddings.
3. Directly, a receiver gets that difference through the residual stream. Through MLPs, those in
   between are computed again with it and add what changes there, while every attention output
   stays as in the base run.
4. Run the base prompt with each receiver reading its stream plus what it gets, at all positions;
   nothing else reads it. The receiver's norm is part of the receiver and is computed anew, and all
   that is behind the receivers follows. Read the metric.

Source: Wang et al., "Interpretability in the wild" (2022), section 3.1 and appendix B;
Goldowsky-Dill et al., "Localizing model behavior with path patching" (2023). Where receivers lie
behind one another, Wang et al. hold each at what it gets; here a later one also sees what an
earlier one changes, as when edges of a graph are patched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.axes import PairGrid
from interp.behaviors import Behavior
from interp.engine import At, Edits, Runs, Trace, layers_of, patched
from interp.errors import BadInput
from interp.methods.metrics import Asked
from interp.methods.patching import BareRuns, Group, Sweep
from interp.methods.paths import Receiver, Senders
from interp.models.lean import Lean, Linear
from interp.models.load import LoadedModel

Via = Literal["direct", "mlps"]
Cells = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Paths:
    """Which paths are patched: their ends, what lies between, and from which run into which."""

    receivers: tuple[Receiver, ...]
    via: Via
    direction: str


def sweep(
    model: LoadedModel,
    behavior: Behavior,
    paths: Paths,
    metric_name: str,
    *,
    done: PairGrid | None = None,
) -> Iterator[Sweep]:
    """Send from every sender in every pair; yield before the first and after each pass.

    Args:
        model: The model, whose tokens ``behavior`` holds.
        behavior: Pairs with answers (and foils for ``logit_diff``).
        paths: Receivers, way and direction.
        metric_name: One of ``interp.methods.effects.METRICS``.
        done: Values of an earlier, interrupted sweep; they are not computed again.

    Yields:
        The sweep so far, in arrays of its own; ``inert`` cells are no senders or not upstream.

    Raises:
        BadInput: The model's layers cannot be computed one by one.

    Cost: 2 forwards a pair; then one a pair and upstream sender, from the first receiver's layer
    on, and with ``mlps`` the MLPs between; memory of the streams, heads and MLP outputs of as
    many pairs as fit.
    """
    _check_layers(model)
    senders, asked = Senders.of(model.info), Asked(behavior, metric_name)
    reach = np.any([senders.reach(receiver) for receiver in paths.receivers], 0)
    cells = [(int(i), int(j)) for i, j in np.argwhere(reach)]
    groups = BareRuns(model, asked, paths.direction, _kept(senders, paths))
    clean, corrupted, sizes = groups.read()
    values = np.full((len(behavior), *senders.shape), np.nan) if done is None else done.copy()
    # Who reaches no receiver leaves the base run's number, exactly.
    values[:, ~reach] = (corrupted if paths.direction == "denoising" else clean)[:, None]
    total = max(1, len(behavior) * len(cells))

    def so_far() -> Sweep:
        left, size = int(np.isnan(values).sum()), float(sizes.mean())
        return Sweep(values.copy(), clean, corrupted, ~reach, 1 - left / total, size)

    yield so_far()
    for group in (_differing(model, bare) for bare in groups):
        tasks = [(i, cell) for cell in cells for i in range(len(group.pairs))]
        pairs = np.array([group.pairs[i] for i, _ in tasks])
        rows, cols = np.array([cell for _, cell in tasks]).T
        known = torch.from_numpy(np.flatnonzero(~np.isnan(values[pairs, rows, cols])))
        runs = _runs(senders, paths, group, cells)
        for which, logits in patched(model, group.base, runs, asked.outputs, skip=known):
            k = which.numpy()
            reference = group.clean[[tasks[i][0] for i in k]]
            values[pairs[k], rows[k], cols[k]] = asked.measure(
                logits, pairs[k].tolist(), reference, asked.outputs
            )
            yield so_far()


def _kept(senders: Senders, paths: Paths) -> list[str]:
    """List what must be kept of the bare runs: what is written, and what MLPs in between read."""
    if not senders.has_mlp:
        return ["z"]
    reading = ["resid_mid"] if paths.via == "mlps" and not senders.parallel else []
    return ["z", "mlp_out", *reading]


def _check_layers(model: LoadedModel) -> None:
    layers, why = layers_of(model, None)
    if layers is None:
        raise BadInput(
            f"Path patching was asked of {model.info.name}.",
            f"It takes layers that can be computed one by one, and {why}.",
            "Activation patching works for it.",
        )


@dataclass(frozen=True, eq=False)
class _Group:
    """Pairs of one length, and what components write differently in the other run.

    Attributes:
        pairs: Which pairs these are.
        clean: Logits of the clean prompts.
        base: Trace of the prompts that are patched.
        layers: The model's.
        acts: Other run minus base run, ``[row, pos, ...]`` by component and layer.
        start: The first position at which anything can differ.
        normed_after: Whether a norm stands behind the attention.
    """

    pairs: list[int]
    clean: Float[Tensor, "row d_out"]
    base: Trace
    layers: Lean
    acts: dict[tuple[str, int], Tensor]
    start: int
    normed_after: bool

    def written(
        self, sender: tuple[str, int, int], row: Int[Tensor, "entry"], pos: Int[Tensor, "entry"]
    ) -> Float[Tensor, "entry d_model"]:
        """Return what one sender (component, layer, head) adds to the stream."""
        component, layer, head = sender
        if component != "z":
            return self.acts[component, layer][row, pos]
        one, width = self.layers.layers[layer].out, self.layers.d_head
        weight = one.weight[:, head * width : (head + 1) * width]
        moved = Linear(weight)(self.acts["z", layer][row, pos, head])
        if not self.normed_after:
            return moved
        after = self.layers.layers[layer].after_attn
        whole = one(self.base.acts["z", layer][row, pos].flatten(1))
        return after(whole + moved) - after(whole)


def _differing(model: LoadedModel, group: Group) -> _Group:
    """Keep of the other run only in what it differs from the base run."""
    base, other = group.base.acts, group.source.acts
    places = [place for place in base if place[0] in ("z", "mlp_out")]
    acts = {place: other[place] - base[place] for place in places}
    acts["embed", 0] = other["resid_pre", 0] - base["resid_pre", 0]
    # In a causal model nothing differs before the first token that does.
    first = int((group.base.ids != group.source.ids).any(0).int().argmax())
    layers = group.base.lean
    assert layers is not None
    return _Group(
        pairs=group.pairs,
        clean=group.clean,
        base=group.base,
        layers=layers,
        acts=acts,
        start=min(first, group.base.read) if layers.causal else 0,
        normed_after=bool(model.hooked.cfg.use_normalization_before_and_after),
    )


@dataclass(frozen=True, eq=False)
class _Sent:
    """The change of one receiver's input: what the sender of each edit writes differently.

    Attributes:
        of: What is written differently.
        senders: The map of senders.
        cells: Sender of each number in ``cell``.
        cell: Sender of each edit.
        row: Prompt of each edit.
        between: MLPs that are computed again, and the positions at which each is not.
        last: Where and what was sent last; receivers that read at one level share it.
    """

    of: _Group
    senders: Senders
    cells: Cells
    cell: Int[Tensor, "edit"]
    row: Int[Tensor, "edit"]
    between: tuple[tuple[int, tuple[int, ...]], ...]
    last: list[tuple[Tensor, Tensor]]

    def __call__(self, now: Float[Tensor, "entry d_model"], at: At) -> Tensor:
        cell, row = (of.to(at.edit.device)[at.edit] for of in (self.cell, self.row))
        where = torch.stack([cell, row, at.pos])
        if not self.last or not torch.equal(self.last[0][0], where):
            self.last[:] = [(where, self._sent(cell, row, at.pos).to(now))]
        return now + self.last[0][1]

    def _sent(self, cell: Tensor, row: Tensor, pos: Tensor) -> Float[Tensor, "entry d_model"]:
        acts, parallel = self.of.base.acts, self.senders.parallel
        sent = torch.zeros_like(acts["resid_pre", 0][row, pos])
        level = torch.zeros_like(row)
        for number in cell.unique().tolist():
            mine, (layer, col) = cell == number, self.cells[number]
            sender = (self.senders.component(col), layer, col)
            sent[mine] = self.of.written(sender, row[mine], pos[mine]).to(sent)
            level[mine] = self.senders.writes(layer, col)
        for layer, except_at in self.between:
            aside = torch.tensor(except_at, dtype=pos.dtype, device=pos.device)
            reached = (level <= 2 * layer + (not parallel)) & ~torch.isin(pos, aside)
            passes = torch.nonzero(reached)[:, 0]
            mlp, where = self.of.layers.layers[layer].mlp, (row[passes], pos[passes])
            stream = acts["resid_pre" if parallel else "resid_mid", layer][where] + sent[passes]
            if len(passes) and mlp is not None:
                sent[passes] += (mlp(stream) - acts["mlp_out", layer][where]).to(sent)
        return sent


def _runs(senders: Senders, paths: Paths, of: _Group, cells: Cells) -> Runs:
    """Return one run a sender and prompt, all prompts of a sender together."""
    rows = len(of.base.ids)
    cell = torch.arange(len(cells)).repeat_interleave(rows)
    row, edits = torch.arange(rows).repeat(len(cells)), []
    last: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for receiver in paths.receivers:
        reach = senders.reach(receiver)
        there = torch.tensor([bool(reach[one]) for one in cells])
        run = torch.nonzero(there[cell])[:, 0]
        between = senders.between(receiver, paths.receivers) if paths.via == "mlps" else ()
        shared = last.setdefault(receiver.reads(senders.parallel), [])
        pos = _only_position(senders, receiver, of.base.read)
        edits.append(
            Edits(
                receiver.component,
                run=run,
                layer=torch.full_like(run, receiver.layer),
                change=_Sent(of, senders, cells, cell[run], row[run], between, shared),
                pos=None if pos is None else torch.full_like(run, pos),
                head=None if receiver.head is None else torch.full_like(run, receiver.head),
                start=of.start,
            )
        )
    return Runs(row, edits)


def _only_position(senders: Senders, receiver: Receiver, read: int) -> int | None:
    """Return the one position at which a receiver reads anything that counts, or None: all do."""
    last = receiver.layer == senders.n_layers - 1
    if receiver.pos is None and last and receiver.component in ("q_in", "mlp_in", "resid_post"):
        return read
    return receiver.pos
