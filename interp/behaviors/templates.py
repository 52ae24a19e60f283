"""What templates of prompt pairs share: fillers that a model reads as one token, and combinations.

A template proposes words. Of these only the ones are used that the model's tokenizer leaves whole,
with the space before them, since positions of a pair would not line up otherwise; how many remain
is said, and too few is an error. All prompts of a template behavior have one number of tokens and
the same role at the same position, so that maps by position can average over them.

Pairs that share a word are not independent. So fillers are parted into groups, each pair is made of
the words of one group, and the groups of odd numbers are held out: no word is on both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import numpy as np

from interp.behaviors._record import PromptPair
from interp.errors import BadInput, UnknownToken
from interp.models import tokens
from interp.models.info import ModelInfo

MOST = 1000
"""Pairs that a behavior makes at most."""
FEWEST = 5
"""Fillers of a kind below which a behavior is refused: the same few words would be repeated."""
_WORDS = 1000
Filler = TypeVar("Filler")
_BEFORE = "We saw"


@dataclass(frozen=True)
class Made:
    """All pairs that a behavior makes for a model, and a sentence on the fillers that it uses.

    ``clusters`` is the number of each pair's group of words, odd where it is held out; or empty.
    """

    pairs: tuple[PromptPair, ...]
    note: str = ""
    clusters: tuple[int, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """Fillers that a model reads as one token each, and how many of those proposed they are."""

    kept: tuple[tuple[str, ...], ...]
    note: str

    @property
    def words(self) -> tuple[str, ...]:
        """The first word of each filler."""
        return tuple(filler[0] for filler in self.kept)

    def __len__(self) -> int:
        return len(self.kept)


def reads_words(model: ModelInfo) -> bool:
    """Whether a model may read English words as tokens: it answers with tokens and has 1,000.

    This is cheap, for lists of what can be asked: the tokenizer is not opened.
    """
    return model.answers.space == "tokens" and model.d_vocab >= _WORDS


def is_one_token(model: ModelInfo, word: str) -> bool:
    """Whether ``word`` after a space is one token, which the model can also answer with."""
    try:
        before = tokens.encode(model, _BEFORE).ids
        whole = tokens.encode(model, f"{_BEFORE} {word}").ids
        answer = tokens.answer_id(model, f" {word}")
    except UnknownToken:
        return False
    return whole == (*before, answer)


def choose(
    behavior: str,
    model: ModelInfo,
    what: str,
    proposed: Sequence[str | tuple[str, ...]],
    *,
    fewest: int = FEWEST,
) -> Chosen:
    """Keep the fillers of which every word is one token of ``model``.

    Args:
        behavior: Name of the behavior, for the message.
        model: The model.
        what: What the fillers are, in the plural.
        proposed: Words, or words that go together.
        fewest: How many must remain.

    Raises:
        BadInput: Fewer than ``fewest`` remain.
    """
    fillers = [(words,) if isinstance(words, str) else words for words in proposed]
    split = [
        next((word for word in filler if not is_one_token(model, word)), "") for filler in fillers
    ]
    kept = tuple(filler for filler, word in zip(fillers, split, strict=True) if not word)
    said = f"{len(kept)} of {len(fillers)} {what}"
    if len(kept) < fewest:
        raise too_few(behavior, model, said, f" {next(w for w in split if w)}")
    return Chosen(kept, said)


def too_few(behavior: str, model: ModelInfo, remain: str, example: str) -> BadInput:
    """Return the error for a tokenizer that leaves too few fillers."""
    cut = ", ".join(repr(piece) for piece in tokens.pieces(model, example)[:8])
    return BadInput(
        f"The behavior {behavior!r} was asked of {model.name}.",
        f"Only {remain} fit: this tokenizer splits {example!r} into {cut}.",
        "Choose another behavior, or give pairs whose words are one token each.",
    )


def same_length(model: ModelInfo, templates: Sequence[str], filled: Sequence[str]) -> list[str]:
    """Keep the templates of the most frequent number of tokens, the first of equals.

    Args:
        model: The model.
        templates: The templates.
        filled: Each with one choice of fillers. All fillers are one token, so one choice tells.
    """
    lengths = [len(tokens.encode(model, text)) for text in filled]
    usual = Counter(lengths).most_common(1)[0][0]
    return [t for t, length in zip(templates, lengths, strict=True) if length == usual]


def groups(seed: int, fillers: Sequence[Filler], size: int) -> list[tuple[Filler, ...]]:
    """Part fillers at random into groups of ``size``; what is left over is not used."""
    order = np.random.default_rng(seed).permutation(len(fillers))
    whole = len(fillers) - len(fillers) % size
    return [
        tuple(fillers[i] for i in order[start : start + size]) for start in range(0, whole, size)
    ]


def combinations(seed: int, half: int, *sizes: int) -> list[tuple[int, ...]]:
    """Draw up to ``MOST`` different combinations of indices below ``sizes``, in random order.

    Fewer are a prefix of more, since all are drawn at once. The halves are drawn independently.
    """
    total = prod(sizes)
    order = np.random.default_rng((seed, half)).choice(total, min(total, MOST), replace=False)
    columns = [column.tolist() for column in np.unravel_index(order, sizes)]
    return list(zip(*columns, strict=True))


def different(words: Sequence[str], *picks: int) -> list[str]:
    """Pick words of which no two are the same: each pick is an index into those that are left."""
    left = list(words)
    return [left.pop(pick) for pick in picks]


def both_halves(draw: Callable[[int], list[tuple[int, PromptPair]]], note: str) -> Made:
    """Take pairs of the two halves in turn, so that every prefix has as many of each.

    Args:
        draw: Draws the pairs of half 0 (searched) or 1 (held out), each with the number of its
            group of words, which is odd in half 1.
        note: What is said of the fillers.
    """
    in_turn = [one for two in zip(draw(0), draw(1), strict=False) for one in two][:MOST]
    return Made(tuple(pair for _, pair in in_turn), note, tuple(number for number, _ in in_turn))


def note(model: ModelInfo, fillers: Sequence[Chosen], templates: str = "") -> str:
    """Say which fillers are used, and how many of the templates where there are several."""
    *first, last = [chosen.note for chosen in fillers]
    listed = f"{', '.join(first)} and {last}" if first else last
    kept = f"{templates} templates have one length; " if templates else ""
    return f"For {model.name}: {kept}one token each are {listed}."
