"""Rows of letters for ``induction-2l``: a chain or chance, and segments that come twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from interp.behaviors import repeats

VOCABULARY: Final = ("[BOS]", *repeats.LETTERS)
LENGTH: Final = 64
PERIODS: Final = (4, 32)
GAP: Final = 8  # most letters before a segment that belong to none
CONCENTRATION: Final = 0.15  # of the Dirichlet distribution of what follows a letter in the chain
_CHAIN_SEED: Final = 0

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Token rows with [BOS] first, and what is known of each token.

    Attributes:
        tokens: ``[row, pos]``.
        copied: ``[row, pos]``, True at tokens that a copy decides: all of it but the first.
        chained: ``[row]``, True where the letters are drawn from the chain.
    """

    tokens: Ids
    copied: NDArray[np.bool_]
    chained: NDArray[np.bool_]


def chain() -> NDArray[np.float64]:
    """What follows each letter in the chain, as probabilities ``[letter, next letter]``."""
    letters = len(repeats.LETTERS)
    rng = np.random.default_rng([_CHAIN_SEED, letters])
    return rng.dirichlet(np.full(letters, CONCENTRATION), letters)


def draw(rng: np.random.Generator, count: int, following: NDArray[np.float64]) -> Rows:
    """Draw rows: the first half from the chain, the others uniform, both with copied segments.

    A segment of 4 to 32 letters is followed at once by itself; between its copy and the next
    segment are up to 8 letters. What is not copied is drawn as if there were no copies, so that in
    a chain one step is out of order where a copy begins and where it ends.
    """
    n = len(following)
    letters = rng.integers(n, size=(count, LENGTH))
    chained = np.arange(count) < count // 2
    upto = following.cumsum(1)
    chances = rng.random((count, LENGTH))
    for at in range(1, LENGTH):
        reached = upto[letters[chained, at - 1]] < chances[chained, at, None]
        letters[chained, at] = np.minimum(reached.sum(1), n - 1)
    source, copied = np.tile(np.arange(LENGTH), (count, 1)), np.zeros((count, LENGTH), np.bool_)
    for row in range(count):
        _repeat(rng, source[row], copied[row])
    letters = np.take_along_axis(letters, source, 1)
    first = np.zeros((count, 1), np.int64)
    copied = np.concatenate([first.astype(bool), copied], 1)
    return Rows(np.concatenate([first, letters + 1], 1), copied, chained)


def _repeat(rng: np.random.Generator, source: Ids, copied: NDArray[np.bool_]) -> None:
    """Say for each place of a row where its letter is from, and whether a copy decides it."""
    start = int(rng.integers(GAP + 1))
    while start < LENGTH:
        period = int(rng.integers(PERIODS[0], PERIODS[1] + 1))
        second, end = start + period, min(start + 2 * period, LENGTH)
        source[second:end] = np.arange(second, end) - period
        copied[second + 1 : end] = True
        start += 2 * period + int(rng.integers(GAP + 1))


def doubled(rng: np.random.Generator, count: int, period: int) -> Ids:
    """[BOS] and two copies of ``period`` different letters: ``[row, pos]``."""
    letters = len(repeats.LETTERS)
    once = np.argsort(rng.random((count, letters)), 1)[:, :period] + 1
    return np.concatenate([np.zeros((count, 1), np.int64), once, once], 1)
