"""A model, bare and scrubbed, on inputs that are not among those that stand for each other.

A new input is a reference only: its features say which inputs of the pool may stand for its parts,
and nothing is ever drawn from outside the pool. Where no input of the pool agrees with a new one, a
node takes the new input itself; how often that is so is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp import expressions
from interp.engine import trace
from interp.engine.terms import READ, Key, Terms, Where
from interp.explanations.hypothesis import Hypothesis, Near, Node, Rewrite
from interp.explanations.terms import Term
from interp.methods.scrubbing.adversarial.ground import Ground, bin_edges
from interp.methods.scrubbing.adversarial.moves import Bodies
from interp.methods.scrubbing.classes import Classes, Rows, nearest, uniform
from interp.methods.scrubbing.draws import Sampler
from interp.methods.scrubbing.inputs import Inputs, Values
from interp.methods.scrubbing.tree import Scrubber, cache_of
from interp.models.load import LoadedModel

Logits = Float[np.ndarray, "text output"]
Scrubbed = Float[np.ndarray, "draw text output"]


def answers(model: LoadedModel, ground: Ground, bodies: Bodies) -> Logits:
    """Run the model on strings and return its logits where the answer is read.

    Cost: one forward pass a string.
    """
    ids, lengths = ground.framed(bodies)
    pool = ground.pool
    padded = pool.pad is not None and not model.info.causal
    groups = (
        [np.arange(len(ids))] if padded else [np.flatnonzero(lengths == n) for n in set(lengths)]
    )
    found = np.empty((len(ids), model.info.d_out))
    for rows in groups:
        n = int(lengths[rows].max())
        part, seen = ids[rows, :n], np.arange(n) < lengths[rows, None]
        filled = torch.from_numpy(np.where(part < 0, pool.pad or 0, part))
        mask = None if seen.all() else torch.from_numpy(seen)
        found[rows] = trace(model, filled, pool.read, seen=mask).logits.double().cpu().numpy()
    return found


def _inputs(ground: Ground, bodies: Bodies) -> Inputs:
    """Return strings as inputs; they have no answers."""
    ids, lengths = ground.framed(bodies)
    nobody = np.full(len(bodies), -1)
    pool = ground.pool
    return Inputs(
        ids, lengths, read=pool.read, labels=nobody, foils=nobody, names=pool.names, pad=pool.pad
    )


def _read(cache: Terms, rows: Int[Tensor, "entry"]) -> Logits:
    """Return the logits of the bare runs of some inputs of a cache."""
    key: Key = ("stream", cache.last)
    where = cache.normal(READ)
    cache.get(key, rows[:0], where)
    with torch.inference_mode():
        cache.fill()
        final = cache.get(key, rows, where)[:, 0]
        return cache.lean.outputs(final, None).cpu().double().numpy()


@dataclass(eq=False)
class _Joined(Terms):
    """The caches of the pool and of some new inputs as one; the pool's is made once."""

    pool: Terms = field(kw_only=True)
    new: Terms = field(kw_only=True)

    def get(
        self, key: Key, rows: Int[Tensor, "entry"], where: Where, *, hidden: bool = False
    ) -> Float[Tensor, "entry pos d_model"]:
        """Gather from both, or note in both what will be wanted."""
        if not len(rows):
            self.new.get(key, rows, where, hidden=hidden)
            return self.pool.get(key, rows, where, hidden=hidden)
        old = rows < self.pool.n
        if bool(old.all()):
            return self.pool.get(key, rows, where, hidden=hidden)
        fresh = self.new.get(key, rows[~old] - self.pool.n, where, hidden=hidden)
        if not bool(old.any()):
            return fresh
        found = fresh.new_empty(len(rows), *fresh.shape[1:])
        found[old] = self.pool.get(key, rows[old], where, hidden=hidden)
        found[~old] = fresh
        return found

    def fill(self) -> None:
        """Run what is not run yet."""
        self.pool.fill()
        self.new.fill()


@dataclass(frozen=True)
class _Extended(Inputs):
    """Inputs of which only the first ``n_pool`` decide where bins begin."""

    n_pool: int = 0

    def values(self, hypothesis: Hypothesis) -> dict[str, Values]:
        """Return the value of every feature, in the bins of the pool."""
        whole = {
            name: one.model_copy(update={"bins": 0}) for name, one in hypothesis.features.items()
        }
        found = super().values(hypothesis.model_copy(update={"features": whole}))
        for name, one in hypothesis.features.items():
            if one.bins and one.dtype == "float":
                edges = bin_edges(found[name][: self.n_pool], one.bins)
                found[name] = np.searchsorted(edges, found[name], side="left")
        return found


@dataclass(frozen=True, eq=False)
class _PoolSampler(Sampler):
    """Draws for any input, but only inputs of the pool: the first ``n``."""

    @cached_property
    def classes(self) -> dict[str, Classes]:
        """The classes of the pool's inputs; others only know which is theirs."""
        found: dict[str, Classes] = {}
        for node, _ in self.hypothesis.nodes():
            if node.features and not isinstance(node.agree, Near):
                every = Classes.of([self.values[name] for name in node.features])
                new = np.arange(len(every.codes)) >= self.n
                # In each class the pool's inputs come first, and only these are counted.
                order = np.lexsort((new, every.codes))
                counts = np.bincount(every.codes[~new], minlength=len(every.counts))
                found[node.id] = Classes(every.codes, order, every.start, counts)
        return found

    def _agreeing(self, node: Node, above: Rows, at: tuple[int, int]) -> Rows:
        if isinstance(node.agree, Near):
            tag = f"pool {node.pool}" if isinstance(node.pool, str) else node.id
            u = uniform(*at, tag, len(above))
            values = self.values[node.agree.near]
            return nearest(values[: self.n], values[above], u, node.agree.k)
        if node.id not in self.classes:
            return super()._agreeing(node, above, at)
        there = self.classes[node.id].sizes[above] > 0
        # Rows that nobody agrees with still use up their random number.
        stand_in = np.where(there, above, 0)
        return np.where(there, super()._agreeing(node, stand_in, at), above)


class _PoolScrubber(Scrubber):
    """A hypothesis on extended inputs: the pool alone is drawn from, and what rewrites fit."""

    def __init__(
        self, model: LoadedModel, hypothesis: Hypothesis, inputs: _Extended, cache: _Joined
    ) -> None:
        super().__init__(model, hypothesis, inputs, cache)
        self.n_pool = inputs.n_pool
        self.sampler = _PoolSampler(hypothesis, self.sampler.values, inputs.n_pool, model.info)

    def _part(self, whole: Tensor, rewrite: Rewrite) -> Tensor:
        if rewrite.split.direction:
            return super()._part(whole, rewrite)
        read = self.inputs.read_by_expressions
        phi = expressions.evaluate_one(rewrite.split.phi, read, self.sampler.values)
        centred = torch.from_numpy(phi - phi[: self.n_pool].mean()).to(whole)
        mean, fitted = whole[: self.n_pool].mean(0), centred[: self.n_pool]
        slope = torch.einsum("n,npd->pd", fitted, whole[: self.n_pool]) / (fitted**2).sum()
        return mean + centred[:, None, None] * slope


@dataclass(frozen=True, eq=False)
class Seen:
    """New inputs with what the model makes of them.

    Attributes:
        logits: Of the bare model.
        scrubber: The hypothesis on the pool and these inputs.
        rows: The new inputs among all.
        lonely: Share of them with a node that nobody in the pool agrees with.
    """

    logits: Logits
    scrubber: Scrubber
    rows: Rows
    lonely: float

    def scrubbed(self, seed: int, draws: Sequence[int]) -> Scrubbed:
        """Return the scrubbed model's logits in some draws, by their numbers."""
        n = len(self.rows)
        drawn = [self.scrubber.logits(self.scrubber.draws(self.rows, seed, k)) for k in draws]
        return np.stack(drawn) if drawn else np.empty((0, n, self.logits.shape[1]))


@dataclass(eq=False)
class Outside:
    """A hypothesis that is asked about new inputs.

    Attributes:
        model: The model.
        hypothesis: A hypothesis that was checked for it and the pool.
        ground: The pool, and how strings are read.
    """

    model: LoadedModel
    hypothesis: Hypothesis
    ground: Ground

    @cached_property
    def _pool(self) -> Terms:
        return cache_of(self.model, self.ground.pool)

    def see(self, bodies: Bodies) -> Seen:
        """Run the model on strings and make the hypothesis ready for them.

        Raises:
            BadInput: A feature cannot be had for new inputs.

        Cost: one forward pass a string; the first call, one an input of the pool besides.
        """
        new, inputs = _inputs(self.ground, bodies), self._extended(bodies)
        joined = _Joined(
            model=self.model,
            ids=torch.from_numpy(inputs.ids),
            lengths=torch.from_numpy(inputs.lengths),
            read=inputs.read,
            pad=inputs.pad,
            pool=self._pool,
            new=cache_of(self.model, new),
        )
        if inputs.pad is not None and not self.model.info.causal:
            # Asked for the last position, it runs all lengths in one pass instead of one each.
            joined.new.get(("term", Term("embed")), torch.arange(0), (joined.width - 1,))
        scrubber = _PoolScrubber(self.model, self.hypothesis, inputs, joined)
        rows = np.arange(len(inputs))[len(self.ground.pool) :]
        logits = _read(joined, torch.from_numpy(rows))
        alone = np.zeros(len(rows), bool)
        for classes in scrubber.sampler.classes.values():
            alone |= classes.sizes[rows] == 0
        return Seen(logits, scrubber, rows, float(alone.mean()))

    def _extended(self, bodies: Bodies) -> _Extended:
        pool, new = self.ground.pool, _inputs(self.ground, bodies)
        features = {name: one.expr for name, one in self.hypothesis.features.items()}
        agreed = {name for node, _ in self.hypothesis.nodes() for name in node.features}
        used = self.ground.check({**features, **{f"agree {a}": a for a in agreed - set(features)}})
        columns = {
            name: np.concatenate([pool.columns[name], self.ground.column(name, bodies)])
            for name in used
        }
        return _Extended(
            ids=np.concatenate([pool.ids, new.ids]),
            lengths=np.concatenate([pool.lengths, new.lengths]),
            read=pool.read,
            labels=np.concatenate([pool.labels, new.labels]),
            foils=np.concatenate([pool.foils, new.foils]),
            columns=columns,
            names=pool.names,
            pad=pool.pad,
            n_pool=len(pool),
        )
