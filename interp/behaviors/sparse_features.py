"""Prompt pairs on which a toy model of superposition answers: which feature is strongest?

A prompt is five digits, the intensities of five features, 0 (not there) to 9.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from interp.behaviors._record import PromptPair
from interp.behaviors._source import BuiltIn
from interp.behaviors.templates import MOST, Made, both_halves

_N = 5
_STRONG = (5, 6, 7, 8, 9)
_WEAK = (1, 2)


def strongest(n: int) -> list[PromptPair]:
    """Make ``n`` pairs: one feature strongly there, and another one in its place.

    Up to three others are weakly there, the same in both prompts, unless the other one was: answer
    and foil exchange their digits. Searched and held-out pairs come in turn and share no digits but
    for their order, so no prompt is in both halves.
    """
    return list(_made().pairs[:n])


@lru_cache(maxsize=1)
def _made() -> Made:
    return both_halves(
        _draw,
        "Pairs of the same five digits, in any order, are a group, and every second group is held "
        "out.",
    )


def _draw(half: int) -> list[tuple[int, PromptPair]]:
    """Draw the pairs of half 0 (searched) or 1 (held out), each with the number of its digits."""
    rng = np.random.default_rng([26, half])
    found: dict[str, tuple[int, PromptPair]] = {}
    while len(found) < MOST // 2:
        order = [int(place) for place in rng.permutation(_N)]
        digits = [0] * _N
        digits[order[0]] = int(rng.choice(_STRONG))
        for place in order[1 : 1 + int(rng.integers(4))]:
            digits[place] = int(rng.choice(_WEAK))
        number = _group(digits)
        answer, foil = order[0], int(rng.choice(order[1:]))
        if number % 2 != half:
            continue
        swapped = list(digits)
        swapped[answer], swapped[foil] = digits[foil], digits[answer]
        clean = "".join(map(str, digits))
        pair = PromptPair(
            clean, "".join(map(str, swapped)), f"feature {answer + 1}", f"feature {foil + 1}"
        )
        found.setdefault(clean, (number, pair))
    return list(found.values())


def _group(digits: list[int]) -> int:
    """Number of the digits whatever their order, odd for about half of each number of features.

    Odd are those whose strongest digit and number of 2s add up to an odd number.
    """
    ones, twos, strong = digits.count(1), digits.count(2), max(digits)
    return 2 * (16 * strong + 4 * ones + twos) + (strong + twos) % 2


def which(pair: PromptPair) -> int:
    """Number of the strongest feature, from 1."""
    return 1 + max(range(_N), key=lambda place: pair.clean[place])


def how_many(pair: PromptPair) -> int:
    """How many features are there."""
    return _N - pair.clean.count("0")


def intensity(pair: PromptPair) -> int:
    """Intensity of the strongest feature."""
    return int(max(pair.clean))


BEHAVIORS = {
    "superposition-one-feature": BuiltIn(
        "One of five features is strong, the others are weak or not there; corrupted: it and "
        "another one exchange their intensities. Answer: the strong one, foil: the other.",
        lambda model: _made(),
        model="superposition",
        paper="Elhage et al. (2022), Toy models of superposition, arXiv:2209.10652",
        features={
            "which feature is strongest": which,
            "how many features are there": how_many,
            "intensity of the strongest feature": intensity,
        },
    ),
}
