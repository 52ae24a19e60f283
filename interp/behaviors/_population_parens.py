"""Populations of strings of parentheses: fair coins with extra balanced ones, and the hard mix."""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import Final

import numpy as np
from numpy.typing import NDArray

from interp.behaviors import parens
from interp.behaviors._population_record import Drawn, Population
from interp.behaviors.parens import Steps

MOST: Final = 10_000
LENGTHS: Final = parens.HARD_MIX_LENGTHS
BALANCED_WEIGHT: Final = 9
"""How many times as likely a balanced string is as fair coins make it: itself and 8 extra ones."""
_SEEDS: Final = {"strings": 51, "hard mix": 52}


def coin_strings(rng: np.random.Generator, count: int) -> list[str]:
    """Draw strings independently: an even length of 2 to 40, fair coins, balanced ones weighted.

    A length and whether the string is balanced are drawn together, by their exact weights; then
    the string, uniform among those.

    Args:
        rng: Source of all randomness.
        count: Number of strings.
    """
    weights = _weights()
    cells = rng.choice(weights.size, count, p=weights.ravel() / weights.sum())
    strings = np.empty(count, object)
    for cell in np.unique(cells).tolist():
        row, balanced = divmod(cell, 2)
        places = np.flatnonzero(cells == cell)
        make = parens.dyck_words if balanced else _unbalanced_words
        strings[places] = parens.to_strings(make(rng, LENGTHS[row], len(places)))
    return strings.tolist()


def _weights() -> NDArray[np.float64]:
    """Weight of each length, unbalanced and balanced: ``[length, 2]``."""
    halves = np.array(LENGTHS) // 2
    # Catalan's number of balanced strings, out of 4^half strings.
    share = np.array([comb(2 * h, h) / (h + 1) / 4**h for h in halves.tolist()])
    return np.stack([1 - share, BALANCED_WEIGHT * share], axis=1)


def _unbalanced_words(rng: np.random.Generator, length: int, count: int) -> Steps:
    """Draw uniformly among the unbalanced strings of one length: coins, again where balanced."""
    words = parens.iid_words(rng, length, count)
    while len(again := np.flatnonzero(_balanced(words))):
        words[again] = parens.iid_words(rng, length, len(again))
    return words


def _balanced(words: Steps) -> NDArray[np.bool_]:
    depth = np.cumsum(words, axis=1, dtype=np.int64)
    return (depth.min(axis=1) >= 0) & (depth[:, -1] == 0)


@lru_cache(maxsize=1)
def _strings() -> tuple[Drawn, ...]:
    return _judged(coin_strings(np.random.default_rng(_SEEDS["strings"]), MOST))


@lru_cache(maxsize=1)
def _hard_mix() -> tuple[Drawn, ...]:
    return _judged(parens.hard_mix(np.random.default_rng(_SEEDS["hard mix"]), MOST).strings)


def _judged(strings: list[str] | tuple[str, ...]) -> tuple[Drawn, ...]:
    names = ("unbalanced", "balanced")
    right = {text: int(parens.is_balanced(text)) for text in set(strings)}
    return tuple(Drawn(text, names[right[text]], names[1 - right[text]]) for text in strings)


_MODELS: Final = ("paren-balancer",)
_MEANINGS: Final = {
    "balanced": "every ( is closed, and no ) comes before its (",
    "count": "as many ( as )",
    "horizon": "read from the end, never more ( than )",
    "start": "the first parenthesis is (",
    "depth": "most parentheses open at once",
    "length": "number of parentheses",
}
_NAMES: Final = {"OPEN": parens.OPEN, "CLOSE": parens.CLOSE}
_FEATURES: Final = {
    "balanced": lambda text: int(parens.is_balanced(text)),
    "count": lambda text: int(parens.equal_counts(text)),
    "horizon": lambda text: int(parens.horizon(text)),
    "start": lambda text: int(parens.starts_open(text)),
    "depth": parens.depth,
    "length": len,
}

POPULATIONS: Final = (
    Population(
        "paren-strings",
        "Strings of 2 to 40 parentheses, drawn with repetition: an even length, all as likely, "
        "then fair coins, but balanced strings 9 times as likely as coins make them. Balanced "
        "are 26.1%, with equal counts 39.1%, with horizon 39.1%, starting with ( 61.6%, with "
        "equal counts but unbalanced 13.0%; counted in the data of Redwood Research's paren "
        "balancer (2022), which this follows: 26.4, 39.4, 39.3, 62.1 and 13.0%. Answer: balanced "
        "or unbalanced; foil: the other.",
        _MODELS,
        MOST,
        lambda n: _strings()[:n],
        _FEATURES,
        _NAMES,
        _MEANINGS,
    ),
    Population(
        "paren-hard-mix",
        "Strings of 2 to 40 parentheses, every even length equally often and with repetition: 35% "
        "uniform balanced ones, 30% fair coins, 20% equal counts in random order, 15% balanced "
        "ones after one edit; 43% are balanced. Answer: balanced or unbalanced; foil: the other.",
        _MODELS,
        MOST,
        lambda n: _hard_mix()[:n],
        _FEATURES,
        _NAMES,
        _MEANINGS,
    ),
)
