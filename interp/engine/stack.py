"""One pass through the layers for many runs, each from where its edits begin.

Why it is exact:

* *Resumed at the layer.* Nothing before a run's first edit has changed, so the run joins the
  others there with the stream of the bare run. An edit behind the attention joins behind it, with
  the tokens that it changes alone: elsewhere the layer gives what it gave.
* *From the position on.* In a causal model no position sees a later one. So positions before the
  first edit keep what they had, and attention reads their keys and values from the bare run, as
  scores take them: behind norms and rotary positions. Positions behind the one read are left out
  for the same reason. In a bidirectional model every position is computed.
* *Stacked.* Rows of a matrix product do not see each other, so runs of one start share attention
  and all runs share every other product.
* *Last layer.* Nothing reads it but the position read: behind its attention that position is
  computed alone, and the unembedding for it and for the outputs that were asked for alone.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.engine.edits import Edited, Runs
from interp.engine.layers import Advance, Group, Late
from interp.engine.traces import Trace
from interp.models.lean import Lean

BEHIND = ("z", "result", "attn_out", "resid_mid", "mlp_in", "mlp_out", "resid_post")
"""Components behind the attention of their layer."""


class Stack:
    """Runs on their way through the layers."""

    def __init__(self, trace: Trace, layers: Lean, runs: Runs, which: Int[Tensor, "run"]) -> None:
        """Find out where each of the runs ``which`` begins."""
        self.trace, self.lean = trace, layers
        self.device = trace.ids.device
        self.total, self.last = len(which), len(layers.layers) - 1
        self.row = runs.row[which].to(self.device)
        self.edited = Edited(runs, which, self.device)
        entry, start, stop = (part[which].to(self.device) for part in beginnings(runs, self.last))
        # What begins behind the position read changes nothing that is read: it never joins.
        self.entry = torch.where(start < trace.stop, entry, 2 * self.last + 2)
        # Where all positions see each other, one that changed changes all in the next layer.
        self.start = start if layers.causal else torch.zeros_like(start)
        self.first, self.until = start, torch.minimum(stop, torch.tensor(trace.stop))
        self.final = trace.acts["resid_post", self.last][self.row, trace.read].clone()

    def run(self) -> Float[Tensor, "run d_model"]:
        """Return the last stream of each run at the position read.

        Cost: a layer of a run costs as many tokens as the run has positions from its start on.
        """
        groups = [
            Group(int(start), self._none, self._streams(0, self._none, int(start)), None)
            for start in self.start[self.entry < 2 * self.last + 2].unique()
        ]
        advance = Advance(self.lean, self.edited, self.total, self._past)
        for layer in range(int(self.entry.min()) // 2, self.last + 1):
            for group in groups:
                self._join(group, layer, self._at(2 * layer, group.start))
            late = self._late(layer)
            here = [group for group in groups if len(group.runs)] or groups[:1]
            read = self.trace.read if layer == self.last else None
            flat, tokens = advance(layer, here, read, late)
            if read is not None:
                there = torch.nonzero(tokens.stop > tokens.first)[:, 0]
                self.final[there] = flat[tokens.offset[there] + read]
                break
            done = 0
            for group in here:
                begin, done = done, done + group.x.shape[0] * group.x.shape[1]
                group.x = flat[begin:done].view(group.x.shape)
            if late is not None:
                for group in groups:
                    runs = self._at(2 * layer + 1, group.start)
                    self._join(group, layer + 1, runs)
                    self._fill(group, runs, late, flat[len(flat) - len(late.z) :])
        return self.final

    @property
    def _none(self) -> Tensor:
        return torch.zeros(0, dtype=torch.long, device=self.device)

    def _at(self, entry: int, start: int) -> Int[Tensor, "run"]:
        return torch.nonzero((self.entry == entry) & (self.start == start))[:, 0]

    def _streams(self, layer: int, runs: Tensor, start: int) -> Float[Tensor, "run pos d_model"]:
        """Return the bare run's streams before a layer."""
        return self.trace.acts["resid_pre", layer][self.row[runs], start : self.trace.stop]

    def _join(self, group: Group, layer: int, runs: Int[Tensor, "run"]) -> None:
        if not len(runs):
            return
        group.x = torch.cat([group.x, self._streams(layer, runs, group.start)])
        group.runs = torch.cat([group.runs, runs])
        if self.trace.seen is not None:
            group.seen = self.trace.seen[self.row[group.runs], : self.trace.stop]

    def _late(self, layer: int) -> Late | None:
        """Gather the tokens that runs change which begin behind the attention of this layer."""
        runs = torch.nonzero(self.entry == 2 * layer + 1)[:, 0]
        first, until = self.first[runs], self.until[runs]
        if layer == self.last:
            # What is written elsewhere now is never read.
            there = (first <= self.trace.read) & (self.trace.read < until)
            runs = runs[there]
            first = torch.full_like(runs, self.trace.read)
            until = first + 1
        if not len(runs):
            return None
        row, pos = self._places(runs, first, until)
        acts = self.trace.acts
        return Late(
            runs, first, until, acts["z", layer][row, pos], acts["resid_pre", layer][row, pos]
        )

    def _places(self, runs: Tensor, first: Tensor, until: Tensor) -> tuple[Tensor, Tensor]:
        """List the prompt's row and the position of each token of some runs."""
        count = until - first
        before = (count.cumsum(0) - count).repeat_interleave(count)
        pos = torch.arange(len(before), device=self.device) - before
        return self.row[runs].repeat_interleave(count), pos + first.repeat_interleave(count)

    def _fill(self, group: Group, runs: Tensor, late: Late, tokens: Tensor) -> None:
        """Put the changed tokens of late runs into their streams, which they end."""
        if not len(runs):
            return
        of_late = torch.searchsorted(late.runs, runs)
        count = late.stop - late.first
        begin = (count.cumsum(0) - count)[of_late]
        n = count[of_late]
        which = torch.arange(len(runs), device=self.device).repeat_interleave(n)
        step = torch.arange(len(which), device=self.device)
        step = step - (n.cumsum(0) - n).repeat_interleave(n)
        place = len(group.runs) - len(runs) + which
        pos = late.first[of_late][which] + step - group.start
        group.x[place, pos] = tokens[begin[which] + step]

    def _past(self, layer: int, runs: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Return keys and values that the base run has before a position."""
        keys, values = (self.trace.acts[name, layer] for name in ("keys", "values"))
        return keys[self.row[runs], :start], values[self.row[runs], :start]


def beginnings(runs: Runs, last: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return where each run begins: twice the layer, plus 1 behind its attention; and where.

    The second and third are the first position that it changes and, for a run that changes only
    one position in the layer where it begins, the position behind that; else no end.
    """
    never = torch.iinfo(torch.long).max
    entry = torch.full((len(runs),), 2 * last + 1)
    start = torch.full((len(runs),), never)
    for edits in runs.edits:
        at = 2 * edits.layer + (edits.component in BEHIND)
        entry.scatter_reduce_(0, edits.run, at, "amin")
        start.scatter_reduce_(0, edits.run, edits.first(), "amin")
    stop = torch.zeros(len(runs), dtype=torch.long)
    for edits in runs.edits:
        at = 2 * edits.layer + (edits.component in BEHIND)
        end = torch.full_like(edits.run, never) if edits.pos is None else edits.pos + 1
        ends_here = torch.where(at == entry[edits.run], end, 0)
        stop.scatter_reduce_(0, edits.run, ends_here, "amax")
    return entry, start.clamp(max=never - 1), stop
