"""Prompt pairs on which a letter is followed by what followed it before: "… a b … a" gives "b"."""

from __future__ import annotations

import string

import numpy as np

from interp.behaviors._record import PromptPair
from interp.behaviors._source import BuiltIn
from interp.behaviors.templates import MOST, Made

LETTERS = f"{string.ascii_lowercase}{string.ascii_uppercase}{string.digits}-_"
"""The 64 letters; no two look alike to the model."""
LENGTH = 32
"""Letters of a prompt: the same in all, so that the end is at one position."""
DISTANCES = (8, 20)
"""Least and largest distance between the two copies."""


def repeated_segment(n: int) -> list[PromptPair]:
    """Make ``n`` different pairs: different letters, then the beginning of a segment of them again.

    A prompt is some letters, a segment of 8 to 20 letters, and two or more letters of the segment
    again. In the corrupted one the first copy of the last letter is replaced by a letter that
    occurs nowhere. The foil is the letter that followed another one of the segment.
    """
    rng = np.random.default_rng(40)
    pairs: dict[str, PromptPair] = {}
    while len(pairs) < n:
        distance = int(rng.integers(DISTANCES[0], DISTANCES[1] + 1))
        again = int(rng.integers(2, min(distance, LENGTH - distance + 1)))
        *row, unseen = (LETTERS[i] for i in rng.permutation(len(LETTERS))[: LENGTH - again + 1])
        start = len(row) - distance
        cue = start + again - 1
        clean = "".join(row + row[start : cue + 1])
        corrupted = clean[:cue] + unseen + clean[cue + 1 :]
        others = [row[i + 1] for i in range(start, len(row) - 1) if abs(i - cue) > 1]
        foil = others[int(rng.integers(len(others)))]
        pairs.setdefault(clean, PromptPair(clean, corrupted, row[cue + 1], foil))
    return list(pairs.values())


def distance(pair: PromptPair) -> int:
    """Letters from the earlier copy of the last letter to the last."""
    return len(pair.clean) - 1 - pair.clean.index(pair.clean[-1])


def repeated(pair: PromptPair) -> int:
    """Letters at the end that have been there before."""
    return len(pair.clean) - len(set(pair.clean))


def from_end(back: int, pair: PromptPair) -> int:
    """Place in the alphabet of the letter ``back`` before the end; 0: the last."""
    return LETTERS.index(pair.clean[-1 - back])


BEHAVIORS = {
    "repeated-segment": BuiltIn(
        "Thirty-two letters, of which only the last few have been there before, as the beginning "
        "of a segment; answer: the letter that followed the last one then, foil: a letter that "
        "followed another one. Corrupted: the earlier copy of the last letter is a letter that "
        "occurs nowhere, so that there is nothing to copy after.",
        lambda model: Made(tuple(repeated_segment(MOST))),
        model="induction-2l",
        features={
            "distance between the copies": distance,
            "letters repeated so far": repeated,
            "last letter": lambda pair: from_end(0, pair),
            "letter before the last": lambda pair: from_end(1, pair),
            "letter after the earlier copy": lambda pair: LETTERS.index(pair.answer),
        },
    ),
}
