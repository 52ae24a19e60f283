"""Populations of letters in which the last one has been there before: induction answers them."""

from __future__ import annotations

import string
from functools import lru_cache
from itertools import permutations
from typing import Final

import numpy as np

from interp.behaviors import repeats
from interp.behaviors._population_record import Drawn, Population

MOST: Final = 4_000
LETTERS: Final = string.ascii_lowercase
LENGTH: Final = 10
"""Different letters before the cue."""
SMALL_LETTERS: Final = LETTERS[:5]
SMALL_LENGTH: Final = 4
_SEED, _SMALL_SEED = 53, 54


@lru_cache(maxsize=1)
def _letters() -> tuple[Drawn, ...]:
    rng = np.random.default_rng(_SEED)
    drawn: list[Drawn] = []
    while len(drawn) < MOST:
        row = [LETTERS[i] for i in rng.permutation(len(LETTERS))[:LENGTH]]
        drawn.append(_repeated(row, int(rng.integers(LENGTH - 1))))
    return tuple(drawn)


@lru_cache(maxsize=1)
def _all_small() -> tuple[Drawn, ...]:
    rows = permutations(SMALL_LETTERS, SMALL_LENGTH)
    every = [_repeated(row, cue) for row in rows for cue in range(SMALL_LENGTH - 1)]
    order = np.random.default_rng(_SMALL_SEED).permutation(len(every)).tolist()
    return tuple(every[i] for i in order)


def _repeated(row: list[str] | tuple[str, ...], cue: int) -> Drawn:
    """Repeat the letter at place ``cue`` behind the row; it is not the last, which has no next."""
    return Drawn("".join([*row, row[cue]]), row[cue + 1])


@lru_cache(maxsize=1)
def _segments() -> tuple[Drawn, ...]:
    pairs = repeats.repeated_segment(MOST)
    return tuple(Drawn(pair.clean, pair.answer, pair.foil) for pair in pairs)


def _first(text: str) -> int:
    """Place in the text of the earlier copy of the last letter."""
    return text.index(text[-1])


def _token(letter: str) -> int:
    """Token id of a letter in both models: [BOS] is 0, and the small alphabet begins the large."""
    return repeats.LETTERS.index(letter) + 1


_HANDMADE: Final = ("induction-handmade",)
_MEANINGS: Final = {
    "cue": "token id of the last letter",
    "induced": "token id of the letter after the cue's first occurrence",
    "place": "position of the cue's first occurrence; the first token of all is 0",
    "distance": "tokens from the cue's first occurrence to the last letter",
    "previous": "token id of the letter before the last",
}
_FEATURES: Final = {
    "cue": lambda text: _token(text[-1]),
    "induced": lambda text: _token(text[_first(text) + 1]),
    "place": lambda text: _first(text) + 1,
}

POPULATIONS: Final = (
    Population(
        "induction-letters",
        "Ten different letters of a to z, then one of the first nine of them again (the cue), "
        "every choice as likely: 11 letters, 12 tokens with [BOS]. Drawn independently out of "
        "26!/16! x 9 = 1.7e14 inputs. Answer: the letter that followed the cue before.",
        _HANDMADE,
        MOST,
        lambda n: _letters()[:n],
        _FEATURES,
        meanings=_MEANINGS,
    ),
    Population(
        "induction-letters-small",
        "Four different letters of a to e, then one of the first three of them again (the cue): 5 "
        "letters, 6 tokens with [BOS]. All 5!/1! x 3 = 360 inputs, each once, in a fixed shuffled "
        "order. Answer: the letter that followed the cue before.",
        _HANDMADE,
        len(SMALL_LETTERS) * 4 * 3 * 2 * (SMALL_LENGTH - 1),
        lambda n: _all_small()[:n],
        _FEATURES,
        meanings=_MEANINGS,
    ),
    Population(
        "induction-segments",
        "Thirty-two letters, digits, - and _, of which only the last few have been there before, "
        "as the beginning of a segment of 8 to 20: the clean prompts of repeated-segment and more "
        "of them, no two the same. Answer: the letter that followed the last one then; foil: one "
        "that followed another letter of the segment.",
        ("induction-2l",),
        MOST,
        lambda n: _segments()[:n],
        {
            "distance": lambda text: len(text) - 1 - _first(text),
            "cue": lambda text: _token(text[-1]),
            "previous": lambda text: _token(text[-2]),
            "induced": lambda text: _token(text[_first(text) + 1]),
        },
        meanings=_MEANINGS,
    ),
)
