"""Interventions: what runs change, where, and into what.

A *run* is one forward pass over a prompt with some activations changed. ``Edits`` is a column of
such changes at one component, one entry an edit, so that thousands of runs cost a few indexing
operations. A *change* is a function of the activation found there; it is applied when the run gets
there, so that edits of one run see what its earlier ones did.

Swap and resample are ``Take`` from a trace of other prompts, a mean is ``Take`` from a trace of
means, zero is ``Put(0)``, steering is ``Add``, and so on: the engine knows none of them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class At:
    """Where a change is applied: one entry an edit and position."""

    component: str
    layer: int
    edit: Int[Tensor, "entry"]
    pos: Int[Tensor, "entry"]
    head: Int[Tensor, "entry"] | None


Change = Callable[[Float[Tensor, "entry width"], At], Tensor]
"""A function of activations and of where each of them stands."""


@dataclass(frozen=True, eq=False)
class Take:
    """The activation of other prompts at the same place: swap, resample, mean.

    Attributes:
        acts: By component and layer, ``[row, pos, ...]`` as in ``Trace.acts``.
        row: Row of ``acts`` that each edit takes.
    """

    acts: Mapping[tuple[str, int], Tensor]
    row: Int[Tensor, "edit"]

    def __call__(self, now: Float[Tensor, "entry width"], at: At) -> Tensor:
        """Return the other prompts' activations."""
        found = self.acts[at.component, at.layer]
        row = self.row.to(at.edit.device)[at.edit]
        taken = found[row, at.pos] if at.head is None else found[row, at.pos, at.head]
        # A pattern is recorded over all sources; runs stop at the position read.
        return taken[:, : now.shape[1]]


@dataclass(frozen=True, eq=False)
class Put:
    """A constant, e.g. zero; ``value`` broadcasts over ``[edit, width]``."""

    value: Tensor

    def __call__(self, now: Float[Tensor, "entry width"], at: At) -> Tensor:
        """Return the constant."""
        return _of_edit(self.value, now, at)


@dataclass(frozen=True, eq=False)
class Add:
    """Add a vector to what is there: ``[edit, width]``, or ``[edit, pos, width]``."""

    vector: Tensor

    def __call__(self, now: Float[Tensor, "entry width"], at: At) -> Tensor:
        """Return the sum."""
        return now + _of_edit(self.vector, now, at)


@dataclass(frozen=True, eq=False)
class Scale:
    """Multiply what is there; ``factor`` is a number an edit, or one for all."""

    factor: Tensor

    def __call__(self, now: Float[Tensor, "entry width"], at: At) -> Tensor:
        """Return the product."""
        return now * _of_edit(self.factor.reshape(-1, 1), now, at)


@dataclass(frozen=True, eq=False)
class Project:
    """Keep only what lies in a subspace, or take it out; the rows of ``basis`` are orthonormal."""

    basis: Float[Tensor, "direction width"]
    keep: bool

    def __call__(self, now: Float[Tensor, "entry width"], at: At) -> Tensor:
        """Return the projection."""
        basis = self.basis.to(now)
        inside = now @ basis.T @ basis
        return inside if self.keep else now - inside


def _of_edit(value: Tensor, now: Tensor, at: At) -> Tensor:
    value = value.to(now)
    if value.ndim < 2:
        return value.expand_as(now)
    edit = at.edit if len(value) > 1 else torch.zeros_like(at.edit)
    found = value[edit] if value.ndim == 2 else value[edit, at.pos]
    # A pattern given over all sources; runs stop at the position read.
    return found[:, : now.shape[1]]


@dataclass(frozen=True, eq=False)
class Edits:
    """Changes at one component, one entry an edit.

    A run has one entry at a place in a column; to change a place twice takes two columns, which are
    applied in turn.

    Attributes:
        component: Name as in ``interp.models.sites``.
        run: The run that each belongs to.
        layer: Counted from 0.
        change: What becomes of the activation.
        pos: Position of each, counted from 0, or None: at all positions.
        head: Head of each; None where the component has no heads. Keys and values have as many
            as the model has of these.
        start: Position before which an edit at all positions changes nothing (0 if not given).
    """

    component: str
    run: Int[Tensor, "edit"]
    layer: Int[Tensor, "edit"]
    change: Change
    pos: Int[Tensor, "edit"] | None = None
    head: Int[Tensor, "edit"] | None = None
    start: int = 0

    def __post_init__(self) -> None:
        if self.pos is not None and bool((self.pos < 0).any()):
            raise ValueError("positions of edits are counted from 0")

    def first(self) -> Int[Tensor, "edit"]:
        """Return the first position that each changes."""
        return torch.full_like(self.run, self.start) if self.pos is None else self.pos


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs to be made: the prompt that each starts from, by row, and all their edits."""

    row: Int[Tensor, "run"]
    edits: Sequence[Edits]

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Where runs stand in a flat list of tokens.

    Position ``p`` of run ``r`` is token ``offset[r] + p``, for ``first[r] <= p < stop[r]``; a run
    that is not there has ``first == stop``.
    """

    offset: Int[Tensor, "run"]
    first: Int[Tensor, "run"]
    stop: Int[Tensor, "run"]


class Edited:
    """Applies edits to flat lists of tokens, component by component."""

    def __init__(self, runs: Runs, which: Int[Tensor, "run"], device: torch.device) -> None:
        """Take the edits of the runs ``which``; these are counted from 0 from here on."""
        place = torch.full((len(runs),), -1)
        place[which] = torch.arange(len(which))
        self._found: dict[tuple[str, int], list[tuple[Edits, Tensor]]] = {}
        for edits in runs.edits:
            local = replace(edits, run=place[edits.run].to(device))
            mine = torch.nonzero(place[edits.run] >= 0)[:, 0]
            for layer in edits.layer[mine].unique().tolist():
                chosen = mine[edits.layer[mine] == layer].to(device)
                self._found.setdefault((edits.component, layer), []).append((local, chosen))

    def wants(self, component: str, layer: int) -> bool:
        """Whether anything is changed there."""
        return (component, layer) in self._found

    def entries(self, component: str, layer: int, tokens: Tokens) -> list[tuple[Edits, At, Tensor]]:
        """List what is changed there: edits, places, and the token of each place."""
        found: list[tuple[Edits, At, Tensor]] = []
        for edits, chosen in self._found.get((component, layer), ()):
            run = edits.run[chosen]
            if edits.pos is None:
                count = tokens.stop[run] - tokens.first[run]
                edit = chosen.repeat_interleave(count)
                before = (count.cumsum(0) - count).repeat_interleave(count)
                pos = torch.arange(len(edit), device=edit.device) - before
                pos = pos + tokens.first[edits.run[edit]]
            else:
                pos = edits.pos.to(chosen.device)[chosen]
                there = (tokens.first[run] <= pos) & (pos < tokens.stop[run])
                edit, pos = chosen[there], pos[there]
            head = None if edits.head is None else edits.head.to(edit.device)[edit]
            at = At(component, layer, edit, pos, head)
            found.append((edits, at, tokens.offset[edits.run[edit]] + pos))
        return found

    def __call__(self, component: str, layer: int, values: Tensor, tokens: Tokens) -> Tensor:
        """Return the activations ``[token, ...]`` of a component with its edits applied."""
        if not self.wants(component, layer):
            return values
        values = values.clone()
        for edits, at, token in self.entries(component, layer, tokens):
            where = (token,) if at.head is None else (token, at.head)
            values[where] = edits.change(values[where], at).to(values.dtype)
        return values
