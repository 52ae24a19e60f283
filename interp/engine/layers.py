"""One layer for many runs at once, whatever positions each of them has.

The tokens of all runs stand below each other in one list, so that every product but attention is
one product. A ``Tap`` sees each activation on the way and returns what goes on: recording, editing
and gradients are all taps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.engine.edits import At, Edits, Tokens
from interp.models.lean import Lean

Past = Callable[[int, Int[Tensor, "run"], int], tuple[Tensor, Tensor]]
"""Keys and values ``[run, pos, key, d_head]`` of runs before a position, as scores take them."""


@runtime_checkable
class Tap(Protocol):
    """Sees activations ``[token, ...]`` by component and layer."""

    def wants(self, component: str, layer: int) -> bool:
        """Whether it looks there (asked where looking costs something)."""
        ...

    def entries(self, component: str, layer: int, tokens: Tokens) -> list[tuple[Edits, At, Tensor]]:
        """List edits of what is not computed as a whole: inputs of heads, results of heads."""
        ...

    def __call__(self, component: str, layer: int, values: Tensor, tokens: Tokens) -> Tensor:
        """Return what goes on."""
        ...


@dataclass(eq=False)
class Group:
    """Runs that compute the positions from ``start`` on.

    Attributes:
        start: First position.
        runs: Which runs these are.
        x: Their streams before the next layer.
        seen: Sources that are no padding, or None: all.
    """

    start: int
    runs: Int[Tensor, "run"]
    x: Float[Tensor, "run pos d_model"]
    seen: Bool[Tensor, "run src"] | None = None


@dataclass(frozen=True, eq=False)
class Late:
    """Tokens that join behind the attention: of each run the positions ``first`` to ``stop``."""

    runs: Int[Tensor, "run"]
    first: Int[Tensor, "run"]
    stop: Int[Tensor, "run"]
    z: Float[Tensor, "token head d_head"]
    resid: Float[Tensor, "token d_model"]


@dataclass(frozen=True, eq=False)
class _Changed:
    """Tokens and heads at which something is edited, and what is there before and after."""

    token: Int[Tensor, "entry"]
    head: Int[Tensor, "entry"]
    before: Float[Tensor, "entry width"]
    after: Float[Tensor, "entry width"]


@dataclass(frozen=True, eq=False)
class Advance:
    """What a layer is computed with.

    Attributes:
        lean: The model.
        tap: Sees and changes activations.
        total: Number of runs.
        past: Keys and values of a layer, of runs, at the positions before a start.
        keep: Told the keys and values of each group as scores take them, or None.
    """

    lean: Lean
    tap: Tap
    total: int
    past: Past
    keep: Callable[[int, Tensor, Tensor], None] | None = None

    def __call__(
        self, layer: int, groups: Sequence[Group], read: int | None = None, late: Late | None = None
    ) -> tuple[Float[Tensor, "token d_model"], Tokens]:
        """Compute a layer; return the streams after it and where each run stands among them.

        Args:
            layer: Counted from 0.
            groups: Runs with all positions from their start on.
            read: The one position to compute behind the attention, or None: all.
            late: Tokens that join behind the attention.
        """
        tap, into = self.tap, _tokens(groups, self.total)
        x = torch.cat([group.x.flatten(0, 1) for group in groups])
        x = tap("resid_pre", layer, x, into)
        outof, kept = into, x
        if read is not None:
            outof = _tokens(groups, self.total, read)
            kept = x[_asking(groups, into, read)]
        z = self._attention(layer, groups, x, (into, outof), read)
        if late is not None:
            z, kept = torch.cat([z, late.z]), torch.cat([kept, late.resid])
            outof = _joined(outof, late, len(z) - len(late.z))
        return self._behind(layer, z, kept, outof), outof

    def _attention(
        self,
        layer: int,
        groups: Sequence[Group],
        x: Tensor,
        tokens: tuple[Tokens, Tokens],
        read: int | None,
    ) -> Float[Tensor, "query head d_head"]:
        """Return what heads read at every token, or at the position ``read`` of each run.

        ``tokens`` say where runs stand among the tokens and among those that ask.
        """
        lean, tap, (into, outof) = self.lean, self.tap, tokens
        asking = None if read is None else _asking(groups, into, read)
        pos = torch.cat([_positions(group).repeat(len(group.runs)) for group in groups])
        asks = pos if asking is None else pos[asking]
        parts: list[Tensor] = []
        for slot, part in zip("qkv", lean.split(layer, x, asking), strict=True):
            place, own = (outof, x if asking is None else x[asking]) if slot == "q" else (into, x)
            part = self._own_inputs(layer, slot, own, part, tokens=place)
            part = lean.placed(layer, slot, part, asks if slot == "q" else pos)
            parts.append(tap(slot, layer, part, place))
        q = lean.turned(layer, "q", parts[0], asks)
        k = lean.turned(layer, "k", parts[1], pos)
        found, done, asked = [], 0, 0
        for group in groups:
            runs, n = group.x.shape[:2]
            here, done = slice(done, done + runs * n), done + runs * n
            k_, v_ = (part[here].unflatten(0, (runs, n)) for part in (k, parts[2]))
            if self.keep is not None:
                self.keep(layer, k_, v_)
            if group.start:
                before = self.past(layer, group.runs, group.start)
                k_, v_ = (torch.cat(pair, 1) for pair in zip(before, (k_, v_), strict=True))
            at = _positions(group) if read is None else torch.tensor([read], device=x.device)
            m = len(at)
            there, asked = slice(asked, asked + runs * m), asked + runs * m
            q_ = q[there].unflatten(0, (runs, m))
            pattern = lean.pattern(layer, q_, k_, at, group.seen)
            if tap.wants("pattern", layer):
                where = _tokens([group], self.total, read)
                seen = tap("pattern", layer, pattern.flatten(0, 1), where)
                pattern = seen.unflatten(0, (runs, m))
            found.append(lean.mix(pattern, v_).flatten(0, 1))
        return torch.cat(found)

    def _own_inputs(
        self, layer: int, slot: str, x: Tensor, part: Tensor, *, tokens: Tokens
    ) -> Tensor:
        """Recompute queries, keys or values of heads that read a stream of their own."""
        places = (f"{slot}_in", layer, tokens)
        changed = self._changed(*places, start=lambda token, head: x[token])
        if changed is None:
            return part
        part = part.clone()
        for head in changed.head.unique().tolist():
            chosen = changed.head == head
            part[changed.token[chosen], head] = self.lean.one_head(
                layer, slot, head, changed.after[chosen]
            )
        return part

    def _changed(
        self,
        component: str,
        layer: int,
        tokens: Tokens,
        *,
        start: Callable[[Tensor, Tensor], Tensor],
    ) -> _Changed | None:
        """Apply edits in turn to what is only computed where it is edited, by token and head."""
        found = self.tap.entries(component, layer, tokens)
        if not found:
            return None
        n, places = self.lean.n_heads, []
        for _, at, token in found:
            assert at.head is not None, f"{component} is that of one head"
            places.append(token * n + at.head)
        place, which = torch.cat(places).unique(return_inverse=True)
        token, head = place // n, place % n
        before = start(token, head)
        after, done = before.clone(), 0
        for edits, at, entry in found:
            mine = which[done : done + len(entry)]
            after[mine] = edits.change(after[mine], at).to(after.dtype)
            done += len(entry)
        return _Changed(token, head, before, after)

    def _behind(self, layer: int, z: Tensor, resid: Tensor, tokens: Tokens) -> Tensor:
        """Go from what the heads read to the stream after the layer."""
        lean, tap, one = self.lean, self.tap, self.lean.layers[layer]
        z = tap("z", layer, z, tokens)
        attn = one.out(z.flatten(1))
        changed = self._changed("result", layer, tokens, start=partial(lean.result, layer, z))
        if changed is not None:
            attn = attn.index_add(0, changed.token, changed.after - changed.before)
        attn = tap("attn_out", layer, one.after_attn(attn), tokens)
        if one.mlp is None:
            return tap("resid_post", layer, resid + attn, tokens)
        mid = resid if lean.parallel else tap("resid_mid", layer, resid + attn, tokens)
        written = tap("mlp_out", layer, one.mlp(tap("mlp_in", layer, mid, tokens)), tokens)
        after = mid + written + attn if lean.parallel else mid + written
        return tap("resid_post", layer, after, tokens)


def _asking(groups: Sequence[Group], tokens: Tokens, read: int) -> Int[Tensor, "query"]:
    """Return the token of each run at the position read."""
    return tokens.offset[torch.cat([group.runs for group in groups])] + read


def _positions(group: Group) -> Int[Tensor, "pos"]:
    return torch.arange(group.start, group.start + group.x.shape[1], device=group.x.device)


def _tokens(groups: Sequence[Group], total: int, read: int | None = None) -> Tokens:
    """Say where runs stand; with ``read``, where that one position of each stands."""
    offset, first, stop = (
        torch.zeros(total, dtype=torch.long, device=groups[0].x.device) for _ in range(3)
    )
    done = 0
    for group in groups:
        start = group.start if read is None else read
        n = group.x.shape[1] if read is None else 1
        count = torch.arange(len(group.runs), device=offset.device)
        offset[group.runs] = done + count * n - start
        first[group.runs], stop[group.runs] = start, start + n
        done += len(group.runs) * n
    return Tokens(offset, first, stop)


def _joined(tokens: Tokens, late: Late, before: int) -> Tokens:
    offset, first, stop = tokens.offset.clone(), tokens.first.clone(), tokens.stop.clone()
    count = late.stop - late.first
    offset[late.runs] = before + count.cumsum(0) - count - late.first
    first[late.runs], stop[late.runs] = late.first, late.stop
    return Tokens(offset, first, stop)
