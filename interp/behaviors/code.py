"""Properties of a model's tokens of source code, and token sets that differ in one alone.

A property is known for every character of the text. A token has the value of its last character
that is not blank (of its last one if all are blank); where its characters disagree, it *straddles*
and its label is not to be trusted. ``line_start`` is the one property of a whole token: whether it
has the character that its line starts with. ``PROPERTIES`` has them all, with their meanings.

What is open, is open after the token: an opening bracket is inside itself, a closing one is not.

A probe for a property may read off which token it sees instead of the property. ``match`` takes
equally many of each token with the property and without, so that this tells nothing. Tokens of one
document are not independent: part whole documents (``held_out``), then match on each side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interp.behaviors import _code_characters as characters
from interp.behaviors import _code_source
from interp.behaviors._code_table import CLOSERS, DEEPEST, PROPERTIES, TYPES, Property
from interp.errors import BadInput

__all__ = [
    "CLOSERS",
    "DEEPEST",
    "PROPERTIES",
    "TYPES",
    "Labels",
    "Matched",
    "Property",
    "held_out",
    "label",
    "match",
]

Bools = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Labels:
    """Properties of the tokens of a text.

    Attributes:
        values: One number a token, by property.
        straddles: Whether the characters of each token disagree, by property.
        known: Whether each token has a character at all: special tokens have none, and no label.
    """

    values: Mapping[str, Numbers]
    straddles: Mapping[str, Bools]
    known: Bools

    def usable(self, name: str) -> Bools:
        """Which tokens have a label of a property that is to be trusted."""
        return self.known & ~self.straddles[name]


def label(text: str, spans: Sequence[tuple[int, int]]) -> Labels:
    """Label the tokens of a source text.

    Args:
        text: A whole file of Python, however little of it the model reads at once.
        spans: First character of each token and the one after its last, as tokenizers give them.

    Raises:
        BadInput: The text is no Python, or a span is not in it.
    """
    source = _code_source.read(text)
    bounds = np.array(spans, dtype=np.int64).reshape(-1, 2)
    start, end = bounds[:, 0], bounds[:, 1]
    if ((start < 0) | (end < start) | (end > len(text))).any():
        raise BadInput(
            f"Tokens of a text of {len(text):,} characters were to be labelled.",
            "A token begins before the text, ends behind it, or ends before it begins.",
            "Give the spans that the tokenizer gave for this text.",
        )
    if not text:
        nothing = np.zeros(len(bounds), dtype=np.int64)
        names = [one.name for one in PROPERTIES]
        return Labels(dict.fromkeys(names, nothing), dict.fromkeys(names, nothing > 0), nothing > 0)
    seen = _Seen.of(text, start, end)
    found = characters.of(source)
    lines = np.cumsum(np.array([True, *(c == "\n" for c in text[:-1])]))
    values = {name: np.where(seen.known, of[seen.last], 0) for name, of in found.items()}
    straddles = {name: seen.disagree(of) for name, of in found.items()}
    straddles["column"] = seen.disagree(lines)
    values["line_start"] = seen.any(characters.first_of_lines(source)).astype(np.int64)
    straddles["line_start"] = np.zeros(len(bounds), dtype=bool)
    order = [one.name for one in PROPERTIES]
    return Labels({n: values[n] for n in order}, {n: straddles[n] for n in order}, seen.known)


@dataclass(frozen=True)
class _Seen:
    """Which characters of each token count: those that are not blank, or all if all are.

    ``kept`` are the offsets of characters that are not blank; those of a token are ``kept[low]``
    up to ``kept[high]``, where ``dark`` says that it has some.
    """

    start: Numbers
    end: Numbers
    kept: Numbers
    low: Numbers
    high: Numbers

    @classmethod
    def of(cls, text: str, start: Numbers, end: Numbers) -> _Seen:
        kept = np.flatnonzero([not character.isspace() for character in text])
        return cls(start, end, kept, np.searchsorted(kept, start), np.searchsorted(kept, end) - 1)

    @property
    def known(self) -> Bools:
        return self.end > self.start

    @property
    def dark(self) -> Bools:
        return self.high >= self.low

    @property
    def last(self) -> Numbers:
        """The character that each token has its label from."""
        if not len(self.kept):
            return np.maximum(self.end - 1, 0)
        return np.where(self.dark, self.kept[self.high], np.maximum(self.end - 1, 0))

    def disagree(self, values: NDArray[np.integer]) -> Bools:
        """Whether the characters of each token have different values."""
        blank = _changes(values)
        first = np.minimum(self.start, len(values) - 1)
        found = blank[np.maximum(self.end - 1, first)] != blank[first]
        if len(self.kept):
            dark = _changes(values[self.kept])
            last = len(dark) - 1
            inner = dark[np.maximum(self.high, 0)] != dark[np.minimum(self.low, last)]
            found = np.where(self.dark, inner, found)
        return found & self.known

    def any(self, marks: Bools) -> Bools:
        """Whether a character of each token is marked."""
        count = np.concatenate([[0], np.cumsum(marks)])
        return (count[self.end] > count[self.start]) & self.known


def _changes(values: NDArray[np.integer]) -> Numbers:
    """How often the value has changed up to each place."""
    return np.concatenate([[0], np.cumsum(values[1:] != values[:-1])])


@dataclass(frozen=True)
class Matched:
    """Pairs of tokens, one with a property and one without, otherwise alike.

    Attributes:
        positives: Index of the token with the property, one a pair, in random order.
        negatives: Index of its partner.
        unpaired: How many tokens with the property, and without, found no partner.
    """

    positives: Numbers
    negatives: Numbers
    unpaired: tuple[int, int]


def match(
    labels: NDArray[np.integer] | Bools,
    ids: NDArray[np.integer],
    *,
    seed: int,
    previous: NDArray[np.integer] | None = None,
    usable: Bools | None = None,
) -> Matched:
    """Pair tokens that have a property with tokens of the same id that have not.

    Each token is in at most one pair, and of each id there are as many pairs as the rarer side
    allows; which of the more frequent side take part is drawn at random.

    Args:
        labels: Whether each token has the property.
        ids: The id of each token.
        seed: Of the draw.
        previous: The id of the token before each: it must then be the same, too.
        usable: Which tokens take part; default: all.
    """
    keys = [ids] if previous is None else [ids, previous]
    _, key = np.unique(np.stack(keys, 1), axis=0, return_inverse=True)
    take = np.ones(len(ids), dtype=bool) if usable is None else usable
    rng = np.random.default_rng(seed)
    sides = [_ranked(np.flatnonzero(take & (labels.astype(bool) == side)), key.ravel(), rng)
             for side in (True, False)]  # fmt: skip
    _, first, second = np.intersect1d(sides[0][0], sides[1][0], return_indices=True)
    order = rng.permutation(len(first))
    unpaired = (len(sides[0][0]) - len(first), len(sides[1][0]) - len(first))
    return Matched(sides[0][1][first][order], sides[1][1][second][order], unpaired)


def _ranked(
    tokens: Numbers, key: NDArray[np.integer], rng: np.random.Generator
) -> tuple[Numbers, Numbers]:
    """Number the tokens of each key in random order: a number for key and rank, and the token."""
    mixed = rng.permutation(tokens)
    mixed = mixed[np.argsort(key[mixed], kind="stable")]
    starts = np.searchsorted(key[mixed], key[mixed])
    rank = np.arange(len(mixed)) - starts
    return key[mixed].astype(np.int64) * (len(key) + 1) + rank, mixed


def held_out(documents: Sequence[int], *, seed: int, share: float = 0.2) -> Bools:
    """Part tokens by document: whether each is held out.

    Args:
        documents: Number of the document of each token.
        seed: Of the draw.
        share: Share of the documents that is held out, at least one of two or more.

    Raises:
        BadInput: There is one document only, or the share leaves none on a side.
    """
    every, which = np.unique(np.array(documents), return_inverse=True)
    count = max(1, round(share * len(every)))
    if count >= len(every) or not 0 < share < 1:
        raise BadInput(
            f"{share:.0%} of {len(every):,} documents were to be held out.",
            "Tokens of one document are not independent, so none may be on both sides.",
            "Give more documents.",
        )
    chosen = np.zeros(len(every), dtype=bool)
    chosen[np.random.default_rng(seed).permutation(len(every))[:count]] = True
    return chosen[which.ravel()]
