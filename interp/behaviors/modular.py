"""Sums of two numbers modulo 53, and the pairs of numbers that ``mod-add`` was trained on."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from interp.behaviors._record import PromptPair
from interp.behaviors._source import BuiltIn
from interp.behaviors.templates import Made, both_halves

MODULUS = 53
EQUALS = "="
TRAINED_SHARE = 0.45
_SPLIT_SEED = 53
_HALVES_SEED = 41


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


@lru_cache(maxsize=1)
def sums() -> Made:
    """Make all pairs: two sums with one first number, and second numbers that differ.

    No prompt stands in both halves, and none twice in one, be it clean or corrupted; a + b counts
    as the same prompt as b + a. Pairs of a half that have the same first number form a group.
    """
    return both_halves(
        _half,
        "No two prompts add the same two numbers, in either order; a group of words are the pairs "
        "of one half that have the same first number.",
    )


def _half(half: int) -> list[tuple[int, PromptPair]]:
    """Draw the pairs of half 0 (searched) or 1 (held out), each with the number of its group."""
    unordered = [(a, b) for a in range(MODULUS) for b in range(a, MODULUS)]
    order = np.random.default_rng(_HALVES_SEED).permutation(len(unordered))[half::2]
    rng = np.random.default_rng((_HALVES_SEED, half))
    unused = {unordered[place]: None for place in order.tolist()}
    found: list[tuple[int, PromptPair]] = []
    while unused:
        operands = next(iter(unused))
        del unused[operands]
        # Either number may come first; where it has no partner left, the other one has the turn.
        turned = bool(rng.integers(2))
        for a, b in (operands[::-1], operands) if turned else (operands, operands[::-1]):
            partners = [both for both in unused if a in both]
            if partners:
                chosen = partners[int(rng.integers(len(partners)))]
                del unused[chosen]
                found.append((2 * a + half, _pair(a, b, sum(chosen) - a)))
                break
    return found


def _pair(a: int, b: int, other: int) -> PromptPair:
    right, wrong = (str((a + second) % MODULUS) for second in (b, other))
    return PromptPair(prompt(a, b), prompt(a, other), right, wrong)


BEHAVIORS = {
    "mod-add-sums": BuiltIn(
        "Two numbers below 53 and an equals sign; answer: their sum modulo 53. Corrupted: the "
        "second number is another one, whose sum is the foil. Some of the clean sums are those "
        "that the model was trained on, which a feature says.",
        lambda model: sums(),
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
