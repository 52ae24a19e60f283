"""Prompt pairs on which the largest of four numbers is the answer."""

from __future__ import annotations

from typing import Final

import numpy as np

from interp.behaviors._record import PromptPair
from interp.behaviors._source import BuiltIn
from interp.behaviors.templates import MOST, Made

NUMBERS: Final = 64
"""Numbers from 0 up that a prompt may hold."""
LENGTH: Final = 4


def lowered(n: int) -> list[PromptPair]:
    """Make ``n`` different pairs: four numbers, and the same with the largest made small.

    The clean prompt has one largest number, uniform in place, and at least two different ones. In
    the corrupted prompt it is replaced by a number below the runner-up, which is then the largest
    and the foil.
    """
    rng = np.random.default_rng(31)
    pairs: dict[str, PromptPair] = {}
    while len(pairs) < n:
        numbers = rng.integers(NUMBERS, size=LENGTH).tolist()
        largest, runner_up = sorted(numbers)[:-3:-1]
        if largest == runner_up or runner_up == 0:
            continue
        where = numbers.index(largest)
        changed = list(numbers)
        changed[where] = int(rng.integers(runner_up))
        clean = _text(numbers)
        pairs.setdefault(clean, PromptPair(clean, _text(changed), str(largest), str(runner_up)))
    return list(pairs.values())


def numbers_of(text: str) -> list[int]:
    """Read the numbers of a prompt."""
    return [int(word) for word in text.split()]


def maximum(pair: PromptPair) -> int:
    """Return the largest number."""
    return max(numbers_of(pair.clean))


def place(pair: PromptPair) -> int:
    """Return the first position of the largest number, from 0."""
    numbers = numbers_of(pair.clean)
    return numbers.index(max(numbers))


def gap(pair: PromptPair) -> int:
    """Return the difference between the largest and the next smaller number; 0 if all agree."""
    different = sorted(set(numbers_of(pair.clean)))
    return different[-1] - different[-2] if len(different) > 1 else 0


def last(pair: PromptPair) -> int:
    """Return the number at the last position, where the answer is read."""
    return numbers_of(pair.clean)[-1]


def _text(numbers: list[int]) -> str:
    return " ".join(map(str, numbers))


BEHAVIORS: Final = {
    "max-of-4": BuiltIn(
        "Four numbers from 0 to 63, of which one is the largest: the answer; foil: the second "
        "largest. Corrupted: the largest is replaced by a number below the second largest, so "
        "that the foil is right.",
        lambda model: Made(tuple(lowered(MOST))),
        model="max-of-4",
        features={
            "maximum": maximum,
            "position of the maximum": place,
            "gap to the runner-up": gap,
            "last number": last,
        },
    ),
}
