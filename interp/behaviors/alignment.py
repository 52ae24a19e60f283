"""Whether the prompts of pairs line up token by token, where they do not, and why.

A patch at a position puts the activation of one prompt there into the other, so position 5 must
mean the same place in both. Nothing here drops or repairs a pair: it says which ones to change.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from interp.behaviors._record import PromptPair
from interp.errors import BadInput, UnequalPair
from interp.models import catalogue, tokens
from interp.models.info import ModelInfo
from interp.models.tokens import Tokens

Mark = Literal["same", "differs", "missing"]
_SHOWN = 5
_AROUND = 2
_LONGEST = 60


@dataclass(frozen=True)
class Column:
    """The tokens of both prompts at one place, as text; None on the side that has none there."""

    clean: str | None
    corrupted: str | None
    mark: Mark


@dataclass(frozen=True)
class Misaligned:
    """A pair of different lengths.

    Attributes:
        index: Which pair, counted from 0.
        lengths: Tokens of the clean and of the corrupted prompt.
        first: First position at which they differ.
        around: The tokens about it, of each prompt, with bars between them.
        cause: The only word that is cut into different numbers of tokens, or empty.
    """

    index: int
    lengths: tuple[int, int]
    first: int
    around: tuple[str, str]
    cause: str

    def __str__(self) -> str:
        why = f"; {self.cause}" if self.cause else ""
        return (
            f"pair {self.index} has {self.lengths[0]} and {self.lengths[1]} tokens, different from "
            f"position {self.first} on ({self.around[0]!r} against {self.around[1]!r}{why})"
        )


@dataclass(frozen=True)
class Report:
    """Of how many pairs, which do not line up."""

    n: int
    off: tuple[Misaligned, ...]

    def __str__(self) -> str:
        if not self.off:
            return f"All {self.n:,} pairs line up." if self.n != 1 else "The pair lines up."
        listed = "; ".join(str(one) for one in self.off[:_SHOWN])
        more = len(self.off) - _SHOWN
        rest = f"; and {more:,} more" if more > 0 else ""
        return (
            f"{len(self.off):,} of {self.n:,} do not line up (pairs and positions count from 0): "
            f"{listed}{rest}."
        )

    def refusal(self, pairs: Sequence[PromptPair]) -> UnequalPair:
        """Return the error that says which of ``pairs`` to change; ``off`` must not be empty."""
        first = self.off[0]
        advice = "Lengthen the shorter one, or replace tokens instead of adding or removing them."
        if self.n > 1:
            advice = "Use words of equally many tokens in these pairs, or remove the pairs."
            return UnequalPair("All pairs must line up token by token.", str(self), advice)
        if first.cause:
            advice = f"Use words of equally many tokens: {first.cause}."
        pair = pairs[first.index]
        return UnequalPair(
            "A pair must line up token by token.",
            f"Clean {short(pair.clean)!r} has {first.lengths[0]} tokens, "
            f"corrupted {short(pair.corrupted)!r} has {first.lengths[1]}.",
            advice,
        )


def align(clean: Tokens, corrupted: Tokens) -> tuple[Column, ...]:
    """Put two prompts side by side.

    Prompts of equal length are compared position by position, as a patch does. Where lengths
    differ and there are equally many words, each word stands beside its counterpart, so that one
    word that is cut differently does not shift all that follows. Exchanging the prompts exchanges
    the sides and changes nothing else.

    Cost: linear in the number of tokens.
    """
    sides = _items(clean), _items(corrupted)
    if len(clean) == len(corrupted):
        return tuple(_column(a, b) for a, b in zip(*sides, strict=True))
    words = [_words(side) for side in sides]
    if len(words[0]) != len(words[1]):
        words = [[side] for side in sides]
    return tuple(c for a, b in zip(*words, strict=True) for c in _side_by_side(a, b))


def report(model: str, pairs: Sequence[PromptPair]) -> Report:
    """Check which pairs line up token by token under the tokenizer of ``model``.

    Raises:
        BadInput: A prompt that the model cannot read.

    Cost: cuts every prompt into tokens once.
    """
    return of_tokens(encoded(catalogue.info(model), pairs))


def encoded(model: ModelInfo, pairs: Sequence[PromptPair]) -> list[tuple[Tokens, Tokens]]:
    """Cut both prompts of every pair into tokens.

    Raises:
        BadInput: A prompt that the model cannot read; of several pairs it says which.
    """
    sides: list[tuple[Tokens, Tokens]] = []
    for i, pair in enumerate(pairs):
        with naming(i, len(pairs)):
            sides.append((tokens.encode(model, pair.clean), tokens.encode(model, pair.corrupted)))
    return sides


@contextmanager
def naming(index: int, n: int) -> Generator[None]:
    """Name the pair in what goes wrong with it, where there are several."""
    try:
        yield
    except BadInput as error:
        if n == 1:
            raise
        said = f"Pair {index} (counted from 0): {error.asked}"
        raise type(error)(said, error.found, error.works) from error


def of_tokens(pairs: Sequence[tuple[Tokens, Tokens]]) -> Report:
    """Check which pairs of prompts, as tokens, line up."""
    off = [_misaligned(i, a, b) for i, (a, b) in enumerate(pairs) if len(a) != len(b)]
    return Report(len(pairs), tuple(off))


def short(text: str) -> str:
    """Cut a text that is too long for a message."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


_Item = tuple[int, str]


def _items(side: Tokens) -> list[_Item]:
    return list(zip(side.ids, side.texts, strict=True))


def _column(a: _Item | None, b: _Item | None) -> Column:
    if a is None or b is None:
        return Column(a and a[1], b and b[1], "missing")
    return Column(a[1], b[1], "same" if a[0] == b[0] else "differs")


def _words(side: list[_Item]) -> list[list[_Item]]:
    """Group tokens into words: one begins at a space, and a special token is one by itself."""
    words: list[list[_Item]] = []
    after_special = True
    for item in side:
        special = _is_special(item[1])
        if after_special or special or item[1][:1].isspace():
            words.append([])
        words[-1].append(item)
        after_special = special
    return words


def _is_special(text: str) -> bool:
    return len(text) > 2 and text[0] + text[-1] in ("<>", "[]")


def _side_by_side(a: list[_Item], b: list[_Item]) -> list[Column]:
    """Align what both begin and end with; between, the shorter one has gaps at its end."""
    head = _common(a, b)
    tail = min(_common(a[::-1], b[::-1]), min(len(a), len(b)) - head)
    middle = zip_longest(a[head : len(a) - tail], b[head : len(b) - tail])
    ends = zip(a[len(a) - tail :], b[len(b) - tail :], strict=True)
    return [_column(x, y) for x, y in (*zip(a[:head], b[:head], strict=True), *middle, *ends)]


def _common(a: Sequence[_Item], b: Sequence[_Item]) -> int:
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x[0] != y[0]), min(len(a), len(b)))


def _misaligned(index: int, clean: Tokens, corrupted: Tokens) -> Misaligned:
    sides = _items(clean), _items(corrupted)
    first = _common(*sides)
    window = slice(max(0, first - _AROUND), first + _AROUND + 1)
    around = ["|".join(text for _, text in side[window]) for side in sides]
    return Misaligned(
        index,
        (len(clean), len(corrupted)),
        first,
        (short(around[0]), short(around[1])),
        _cause(*(_words(side) for side in sides)),
    )


def _cause(clean: list[list[_Item]], corrupted: list[list[_Item]]) -> str:
    """Name the only word of different numbers of tokens, where there is exactly one."""
    if len(clean) != len(corrupted):
        return ""
    cut = [(a, b) for a, b in zip(clean, corrupted, strict=True) if len(a) != len(b)]
    alone = sum(not _is_special(word[0][1]) for word in clean) == 1
    if len(cut) != 1 or alone:
        return ""
    a, b = cut[0]
    # A comma behind both words is no part of them.
    tail = min(_common(a[::-1], b[::-1]), min(len(a), len(b)) - 1)
    a, b = a[: len(a) - tail], b[: len(b) - tail]
    first, second = (short("".join(text for _, text in side)) for side in (a, b))
    return f"{first!r} is {len(a)} token{'s' * (len(a) > 1)}, {second!r} {len(b)}"
