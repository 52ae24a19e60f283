"""Sums of two numbers modulo 53, and the pairs of numbers that ``mod-add`` was trained on."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from interp.behaviors._record import PromptPair
from interp.behaviors._source import BuiltIn
from interp.behaviors.templates import MOST, Made

MODULUS = 53
EQUALS = "="
TRAINED_SHARE = 0.45
_SPLIT_SEED = 53


@lru_cache(maxsize=1)
def trained() -> NDArray[np.bool_]:
    """Return which pairs of numbers are trained on: ``[a, b]``, 1,264 of 2,809 drawn at random."""
    pairs = MODULUS**2
    chosen = np.random.default_rng(_SPLIT_SEED).permutation(pairs)[: round(TRAINED_SHARE * pairs)]
    table = np.zeros(pairs, np.bool_)
    table[chosen] = True
    table.flags.writeable = False
    return table.reshape(MODULUS, MODULUS)


def prompt(a: int, b: int) -> str:
    """Return the sum of two numbers as it is typed: "17 30 ="."""
    return f"{a} {b} {EQUALS}"


def numbers(pair: PromptPair) -> tuple[int, int]:
    """Return the two numbers of the clean prompt."""
    a, b, _ = pair.clean.split()
    return int(a), int(b)


def sums(n: int) -> list[PromptPair]:
    """Make ``n`` different sums; in the corrupted one the second number is another."""
    rng = np.random.default_rng(41)
    found: list[PromptPair] = []
    for place in rng.permutation(MODULUS**2)[:n]:
        a, b = divmod(int(place), MODULUS)
        other = (b + int(rng.integers(1, MODULUS))) % MODULUS
        right, wrong = (str((a + second) % MODULUS) for second in (b, other))
        found.append(PromptPair(prompt(a, b), prompt(a, other), right, wrong))
    return found


BEHAVIORS = {
    "mod-add-sums": BuiltIn(
        "Two numbers below 53 and an equals sign; answer: their sum modulo 53. Corrupted: the "
        "second number is another one, whose sum is the foil. Some of the clean sums are those "
        "that the model was trained on, which a feature says.",
        lambda model: Made(tuple(sums(MOST))),
        model="mod-add",
        features={
            "first number": lambda pair: numbers(pair)[0],
            "second number": lambda pair: numbers(pair)[1],
            "sum modulo 53": lambda pair: sum(numbers(pair)) % MODULUS,
            "sum is 53 or more": lambda pair: int(sum(numbers(pair)) >= MODULUS),
            "seen in training": lambda pair: int(trained()[numbers(pair)]),
        },
    ),
}
