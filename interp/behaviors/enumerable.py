"""Four letters drawn by Zipf's law: which output is right, and prompt pairs about repeats.

The law is steep, so that outputs range from common to fewer than one in a million inputs, and short
enough that every input can be counted: the exact chance of each output is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from interp.behaviors._record import PromptPair
from interp.behaviors._source import BuiltIn
from interp.behaviors.templates import MOST, Made, both_halves

LETTERS: Final = "abcdefghijklmnopqrstuvwx"
LENGTH: Final = 4
EXPONENT: Final = 1.6
THREES: Final = LETTERS[8:]
"""Letters that have an output of their own for three or four copies."""
CLASSES: Final = (
    *(f"last {letter}" for letter in LETTERS),
    *(f"two {letter}" for letter in LETTERS),
    *(f"three {letter}" for letter in THREES),
)


def law() -> NDArray[np.float64]:
    """Return the chance of each letter, ``[24]``: by Zipf's law, the alphabet being the order.

    The four letters of an input are independent.
    """
    weights = np.arange(1, len(LETTERS) + 1) ** -EXPONENT
    return weights / weights.sum()


def output(text: str) -> str:
    """Return the right output for four letters.

    A letter three times or more: "three" and that letter, but "two" for a to h. Else a letter
    twice: "two" and that letter, the later in the alphabet of two. Else "last" and the last letter.
    """
    repeated = max((count, letter) for letter, count in Counter(text).items())
    count, letter = repeated
    if count == 1:
        return f"last {text[-1]}"
    return f"{'three' if count > 2 and letter in THREES else 'two'} {letter}"


def broken_pair(n: int) -> list[PromptPair]:
    """Make ``n`` different pairs: one letter exactly twice, and one copy of it replaced.

    The other letters are different, the repeated one is uniform, and so are the places of the
    copies. The copy replaced is never the last letter, which is then the answer of the corrupted
    prompt and the foil. Halves are those of ``_halves``.
    """
    return list(_repeats().pairs[:n])


def broken_triple(n: int) -> list[PromptPair]:
    """Make ``n`` different pairs: a letter of i to x three times, and one copy of it replaced.

    Halves are those of ``_halves``.
    """
    return list(_threes().pairs[:n])


@lru_cache(maxsize=1)
def _repeats() -> Made:
    def draw(rng: np.random.Generator, others: str) -> tuple[str, PromptPair]:
        twice = LETTERS[int(rng.integers(len(LETTERS)))]
        first, second, unseen = _different(rng, others, twice, 3)
        places = sorted(rng.permutation(LENGTH)[:2].tolist())
        clean = _fill(twice, places, [first, second])
        where = places[int(rng.integers(2))] if places[1] < LENGTH - 1 else places[0]
        corrupted = clean[:where] + unseen + clean[where + 1 :]
        return twice, PromptPair(clean, corrupted, f"two {twice}", f"last {clean[-1]}")

    return _halves(32, draw)


@lru_cache(maxsize=1)
def _threes() -> Made:
    def draw(rng: np.random.Generator, others: str) -> tuple[str, PromptPair]:
        thrice = THREES[int(rng.integers(len(THREES)))]
        other, unseen = _different(rng, others, thrice, 2)
        places = sorted(rng.permutation(LENGTH)[:3].tolist())
        clean = _fill(thrice, places, [other])
        where = places[int(rng.integers(3))]
        corrupted = clean[:where] + unseen + clean[where + 1 :]
        return thrice, PromptPair(clean, corrupted, f"three {thrice}", f"two {thrice}")

    return _halves(33, draw)


_Draw = Callable[[np.random.Generator, str], tuple[str, PromptPair]]


def _halves(seed: int, draw: _Draw) -> Made:
    """Draw searched and held-out pairs in turn, of which no two share a prompt.

    Letters other than the repeated one are every second of the alphabet, a, c, ... in the searched
    half and b, d, ... in the other, so no held-out prompt is a searched one in another order. Pairs
    that repeat the same letter are a group.
    """

    def half(which: int) -> list[tuple[int, PromptPair]]:
        rng = np.random.default_rng([seed, which])
        made: list[tuple[int, PromptPair]] = []
        known: set[str] = set()
        while len(made) < MOST // 2:
            letter, pair = draw(rng, LETTERS[which::2])
            if not known & {pair.clean, pair.corrupted}:
                known |= {pair.clean, pair.corrupted}
                made.append((2 * LETTERS.index(letter) + which, pair))
        return made

    return both_halves(
        half,
        "The other letters are a, c, e and so on in the searched half, b, d, f and so on in the "
        "held-out one; pairs that repeat the same letter are a group.",
    )


def _different(rng: np.random.Generator, letters: str, but: str, count: int) -> list[str]:
    left = letters.replace(but, "")
    return [left[i] for i in rng.permutation(len(left))[:count]]


def _fill(repeated: str, places: list[int], others: list[str]) -> str:
    """Put copies of a letter at ``places`` and the other letters, in order, at the rest."""
    left = iter(others)
    return "".join(repeated if i in places else next(left) for i in range(LENGTH))


def repeated_rank(pair: PromptPair) -> int:
    """Return the place in the alphabet of the most frequent letter, from 1."""
    return LETTERS.index(_most(pair.clean)) + 1


def first_copy(pair: PromptPair) -> int:
    """Return the first position of the most frequent letter, from 0."""
    return pair.clean.index(_most(pair.clean))


def span(pair: PromptPair) -> int:
    """Return how far the first and last copies of the most frequent letter are apart."""
    return pair.clean.rindex(_most(pair.clean)) - first_copy(pair)


def last_rank(pair: PromptPair) -> int:
    """Return the place in the alphabet of the last letter, from 1."""
    return LETTERS.index(pair.clean[-1]) + 1


def ends_in_copy(pair: PromptPair) -> int:
    """Return 1 if the last letter is a copy of the most frequent one, else 0."""
    return int(pair.clean[-1] == _most(pair.clean))


def _most(text: str) -> str:
    return max(text, key=text.count)


_FEATURES: Final = {
    "repeated letter's rank": repeated_rank,
    "position of its first copy": first_copy,
    "distance of its copies": span,
    "last letter's rank": last_rank,
    "ends in a copy": ends_in_copy,
}

BEHAVIORS: Final = {
    "enumerable-repeats": BuiltIn(
        "Four letters from a to x, one of them twice; answer: two and that letter, foil: last "
        "and the last letter. Corrupted: one copy, never at the end, is another letter, so that "
        "the foil is right.",
        lambda model: _repeats(),
        model="enumerable-lm",
        features=_FEATURES,
    ),
    "enumerable-threes": BuiltIn(
        "Four letters, one of i to x three times; answer: three and that letter, foil: two and "
        "that letter. Corrupted: one copy is another letter, so that the foil is right.",
        lambda model: _threes(),
        model="enumerable-lm",
        features=_FEATURES,
    ),
}
