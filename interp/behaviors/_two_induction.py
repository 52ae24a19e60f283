"""Prompts that an in-context copy answers, and prompts that a memory answers, matched.

A prompt is letters, the marker and a last letter, the cue. Where the cue occurred before, the
answer is the letter that followed it there; otherwise the marker directly before the cue asks for
its memorised successor. In both kinds the marker is at that place, one letter occurs twice, its
first copy at a place of the same distribution, and the answer, the other mechanism's answer and the
cue's successor stand in the prompt. What differs is the second copy: it is the cue, or a letter
before it; so the distance between both copies tells the kinds apart in part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

MODEL: Final = "two-mechanisms-induction"
LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
SUCCESSORS: Final = "SQrmRPvGUNpKHDsfntedIwqbOFJuxVhTailMAoczEjkyBLgC"
"""The memorised successor of each letter, in the order of ``LETTERS``: one cycle of all 48."""
MARKER: Final = "!"
BODIES: Final = (10, 14, 18, 21)
"""Letters before the marker, or before the letter in its place."""


@dataclass(frozen=True)
class Twins:
    """Two prompts that differ in one letter: the first occurrence of the cue, or another letter.

    Attributes:
        seen: The prompt in which the cue occurred before.
        unseen: The prompt in which it did not.
        copied: What the first is answered with by copying.
        remembered: What the memory holds for the cue; it stands in both prompts.
    """

    seen: str
    unseen: str
    copied: str
    remembered: str


def successor(letter: str) -> str:
    """The memorised successor of a letter."""
    return SUCCESSORS[LETTERS.index(letter)]


def twins(rng: np.random.Generator, length: int, marked: bool = True) -> Twins:
    """Draw a prompt of ``length`` letters, the marker (or one more letter) and the cue.

    All letters differ but for one, which occurs twice: the cue, or a letter whose first copy stands
    where the cue's would.
    """
    letters = [LETTERS[i] for i in rng.permutation(len(LETTERS))]
    cue = letters.pop()
    remembered = successor(cue)
    letters.remove(remembered)
    body = letters[:length]
    # The letter put into the cue's first place occurs once more behind it, so that the first copy
    # of what occurs twice is at one place in both; and far behind it, as the cue is.
    first = copy = other = 0
    while first + 1 in (copy, other) or first == copy:
        first, other, copy = sorted(int(i) for i in rng.permutation(length - 1)[:3])
    body[other] = remembered
    body[first] = body[copy]
    end = (MARKER if marked else letters[length]) + cue
    unseen = "".join(body) + end
    seen = "".join([*body[:first], cue, *body[first + 1 :]]) + end
    return Twins(seen, unseen, body[first + 1], remembered)
