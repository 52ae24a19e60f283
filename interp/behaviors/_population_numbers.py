"""Populations of numbers: the largest of four, and all sums modulo 53."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from interp.behaviors import maximum, modular
from interp.behaviors._population_record import Drawn, Population

MOST_MAXIMA: Final = 4_000
_SEED, _ORDER_SEED = 55, 56


@lru_cache(maxsize=1)
def _maxima() -> tuple[Drawn, ...]:
    shape = (MOST_MAXIMA, maximum.LENGTH)
    rows = np.random.default_rng(_SEED).integers(maximum.NUMBERS, size=shape).tolist()
    return tuple(_largest(row) for row in rows)


def _largest(numbers: list[int]) -> Drawn:
    largest = max(numbers)
    below = [number for number in numbers if number < largest]
    foil = str(max(below)) if below else ""
    return Drawn(" ".join(map(str, numbers)), str(largest), foil)


def _place(text: str) -> int:
    numbers = maximum.numbers_of(text)
    return numbers.index(max(numbers))


@lru_cache(maxsize=1)
def _sums() -> tuple[Drawn, ...]:
    order = np.random.default_rng(_ORDER_SEED).permutation(modular.MODULUS**2).tolist()
    both = (divmod(place, modular.MODULUS) for place in order)
    return tuple(Drawn(modular.prompt(a, b), str((a + b) % modular.MODULUS)) for a, b in both)


def _term(text: str, which: int) -> int:
    return int(text.split()[which])


POPULATIONS: Final = (
    Population(
        "maxima",
        "Four numbers from 0 to 63, each drawn independently and uniformly, so that numbers may "
        "be equal. Answer: the largest; foil: the largest of those below it, none where all four "
        "are equal. The feature place is that of the first copy of the largest; second is the "
        "second largest, equal to it where it comes twice.",
        ("max-of-4",),
        MOST_MAXIMA,
        lambda n: _maxima()[:n],
        {
            "maximum": lambda text: max(maximum.numbers_of(text)),
            "place": _place,
            "second": lambda text: sorted(maximum.numbers_of(text))[-2],
        },
        meanings={
            "maximum": "the largest number",
            "place": "position of its first copy",
            "second": "the second largest number, equal to the largest where that comes twice",
        },
    ),
    Population(
        "sums",
        "Two numbers a and b below 53 and an equals sign: all 2,809, each once, in a fixed "
        "shuffled order; a + b and b + a may be in different halves. Answer: their sum modulo 53. "
        "Some of them are those that the model was trained on.",
        ("mod-add",),
        modular.MODULUS**2,
        lambda n: _sums()[:n],
        {
            "a": lambda text: _term(text, 0),
            "b": lambda text: _term(text, 1),
            "sum": lambda text: (_term(text, 0) + _term(text, 1)) % modular.MODULUS,
        },
        {"EQUALS": modular.EQUALS},
        {
            "a": "the first number",
            "b": "the second number",
            "sum": f"(a + b) mod {modular.MODULUS}",
        },
    ),
)
