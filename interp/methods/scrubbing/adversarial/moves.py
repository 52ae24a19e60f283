"""Edits of token strings: one random one for each of many strings at once (torch-free)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

KINDS = ("replace", "swap", "move", "insert", "delete")
"""Another token at one place; two places exchanged; a span moved; tokens put in; taken out."""
_TRIES = 4
"""Draws of a place or a token until it changes something."""

Places = Int[np.ndarray, "text pos"]
PerText = Int[np.ndarray, "text"]


@dataclass(frozen=True, eq=False)
class Bodies:
    """Token strings without the special tokens around them.

    Attributes:
        ids: Token ids, padded at the end with -1.
        lengths: Tokens of each.
        start: Number of the population input that each was made of: those of one are alike.
    """

    ids: Int[np.ndarray, "text pos"]
    lengths: Int[np.ndarray, "text"]
    start: Int[np.ndarray, "text"]

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, rows: np.ndarray) -> Bodies:
        """Return some of them, by number or by mark."""
        return Bodies(self.ids[rows], self.lengths[rows], self.start[rows])

    def repeated(self, times: int) -> Bodies:
        """Return each so many times, one after another."""
        parts = self.lengths.repeat(times), self.start.repeat(times)
        return Bodies(self.ids.repeat(times, 0), *parts)

    def keys(self) -> list[bytes]:
        """Return what tells each from the others."""
        return [row.tobytes() for row in self.ids]

    @classmethod
    def joined(cls, parts: Sequence[Bodies]) -> Bodies:
        """Put several behind each other."""
        columns = zip(*((one.ids, one.lengths, one.start) for one in parts), strict=True)
        return cls(*map(np.concatenate, columns))


@dataclass(frozen=True, eq=False)
class Moves:
    """The edits that fit some inputs.

    Attributes:
        alphabet: Tokens that may be put in.
        shortest: Least length.
        longest: Largest length.
        step: Tokens that are put in or taken out in one edit; 0: lengths stay.
    """

    alphabet: Int[np.ndarray, "token"]
    shortest: int
    longest: int
    step: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of edits that there are."""
        return KINDS if self.step else KINDS[:3]

    def edit(
        self, bodies: Bodies, rng: np.random.Generator
    ) -> tuple[Bodies, Int[np.ndarray, "text"]]:
        """Edit every string once, by a kind drawn at random.

        Returns:
            The strings, and the number of the kind of each edit. An edit may change nothing: where
            a length is at its end, or all tokens are the same.
        """
        kind = rng.integers(len(self.kinds), size=len(bodies))
        ids, lengths = bodies.ids.copy(), bodies.lengths.copy()
        doers = (self._replaced, _swapped, _moved, self._longer, self._shorter)
        for number, do in zip(range(len(self.kinds)), doers, strict=False):
            rows = np.flatnonzero(kind == number)
            if len(rows):
                ids[rows], lengths[rows] = do(ids[rows], lengths[rows], rng)
        return Bodies(ids, lengths, bodies.start), kind

    def _replaced(
        self, ids: Places, lengths: PerText, rng: np.random.Generator
    ) -> tuple[Places, PerText]:
        rows, at = np.arange(len(ids)), _below(rng, lengths)
        new = rng.choice(self.alphabet, len(ids))
        for _ in range(_TRIES):
            same = new == ids[rows, at]
            new = np.where(same, rng.choice(self.alphabet, len(ids)), new)
        ids[rows, at] = new
        return ids, lengths

    def _longer(
        self, ids: Places, lengths: PerText, rng: np.random.Generator
    ) -> tuple[Places, PerText]:
        can = np.flatnonzero(lengths + self.step <= self.longest)
        for _ in range(self.step):
            part, n = ids[can], lengths[can]
            at = _below(rng, n + 1)
            source = np.arange(ids.shape[1]) - (np.arange(ids.shape[1]) > at[:, None])
            part = np.take_along_axis(part, source, 1)
            part[np.arange(len(part)), at] = rng.choice(self.alphabet, len(part))
            ids[can], lengths[can] = part, n + 1
        return ids, lengths

    def _shorter(
        self, ids: Places, lengths: PerText, rng: np.random.Generator
    ) -> tuple[Places, PerText]:
        can = np.flatnonzero(lengths - self.step >= self.shortest)
        places = np.arange(ids.shape[1])
        for _ in range(self.step):
            part, n = ids[can], lengths[can]
            source = places + (places >= _below(rng, n)[:, None])
            padded = np.pad(part, ((0, 0), (0, 1)), constant_values=-1)
            ids[can], lengths[can] = np.take_along_axis(padded, source, 1), n - 1
        return ids, lengths


def _swapped(ids: Places, lengths: PerText, rng: np.random.Generator) -> tuple[Places, PerText]:
    rows = np.arange(len(ids))
    a, b = _below(rng, lengths), _below(rng, lengths)
    for _ in range(_TRIES):
        same = ids[rows, a] == ids[rows, b]
        a, b = (np.where(same, _below(rng, lengths), old) for old in (a, b))
    ids[rows, a], ids[rows, b] = ids[rows, b], ids[rows, a]
    return ids, lengths


def _moved(ids: Places, lengths: PerText, rng: np.random.Generator) -> tuple[Places, PerText]:
    """Move a span of tokens over the span behind it."""
    start, middle, end = np.sort(rng.integers(0, lengths[:, None] + 1, (len(ids), 3)), 1).T[
        ..., None
    ]
    places = np.arange(ids.shape[1])
    inside = (places >= start) & (places < end)
    first = places < start + end - middle
    source = np.where(first, places + middle - start, places - (end - middle))
    return np.take_along_axis(ids, np.where(inside, source, places), 1), lengths


def _below(rng: np.random.Generator, limits: PerText) -> PerText:
    return (rng.random(len(limits)) * limits).astype(np.int64)


def changed(before: Bodies, after: Bodies) -> Bool[np.ndarray, "text"]:
    """Mark the strings that differ."""
    return (before.ids != after.ids).any(1)
