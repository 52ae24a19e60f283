"""Prompt pairs on which a toy model of superposition answers: which feature is strongest?

A prompt is five digits, the intensities of five features, 0 (not there) to 9.
"""

from __future__ import annotations

import numpy as np

from interp.behaviors._record import PromptPair
from interp.behaviors._source import BuiltIn
from interp.behaviors.templates import MOST, Made

_N = 5
_STRONG = (5, 6, 7, 8, 9)
_WEAK = (1, 2)


def strongest(n: int) -> list[PromptPair]:
    """Make ``n`` pairs: one feature strongly there, and another one in its place.

    Up to three others are weakly there, the same in both prompts, unless the other one was: answer
    and foil exchange their digits.
    """
    rng = np.random.default_rng(26)
    found: dict[str, PromptPair] = {}
    while len(found) < n:
        order = [int(place) for place in rng.permutation(_N)]
        digits = [0] * _N
        digits[order[0]] = int(rng.choice(_STRONG))
        for place in order[1 : 1 + int(rng.integers(4))]:
            digits[place] = int(rng.choice(_WEAK))
        answer, foil = order[0], int(rng.choice(order[1:]))
        swapped = list(digits)
        swapped[answer], swapped[foil] = digits[foil], digits[answer]
        clean = "".join(map(str, digits))
        pair = PromptPair(
            clean, "".join(map(str, swapped)), f"feature {answer + 1}", f"feature {foil + 1}"
        )
        found.setdefault(clean, pair)
    return list(found.values())


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
        lambda model: Made(tuple(strongest(MOST))),
        model="superposition",
        paper="Elhage et al. (2022), Toy models of superposition, arXiv:2209.10652",
        features={
            "which feature is strongest": which,
            "how many features are there": how_many,
            "intensity of the strongest feature": intensity,
        },
    ),
}
