"""Strings of parentheses: generators for data and features of single strings.

Nothing here needs torch. The generators work on arrays of *steps*, one row per string, +1 for
``(`` and -1 for ``)``; ``to_strings`` turns such rows into text.

A string is balanced when reading left to right never closes more than was opened and the totals
agree. Two weaker properties together say the same thing:

* ``equal_counts``: as many ``(`` as ``)``;
* ``horizon``: reading right to left, the proportion of ``(`` never exceeds one half, that is no
  suffix has more ``(`` than ``)``.

With equal counts, opens minus closes of a suffix is minus that of the prefix before it, so "no
suffix opens too much" is "no prefix closes too much". Hence
``is_balanced(s) == (equal_counts(s) and horizon(s))``. The empty string is balanced.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

OPEN: Final = "("
CLOSE: Final = ")"

HARD_MIX_LENGTHS: Final[tuple[int, ...]] = tuple(range(2, 41, 2))
"""Lengths of the hard mix, in equal shares."""

HARD_MIX_SHARES: Final[dict[str, float]] = {
    "dyck": 0.35,
    "iid": 0.30,
    "equal_count": 0.20,
    "near_miss": 0.15,
}
"""Share of each category within each length of the hard mix."""

Steps = NDArray[np.int8]
"""One row per string: +1 for an opening parenthesis, -1 for a closing one."""


@dataclass(frozen=True)
class ParenSample:
    """Strings with the category each was drawn from; the two run in parallel.

    The category says how a string was made, not whether it is balanced.
    """

    strings: tuple[str, ...]
    categories: tuple[str, ...]


# --- features of one string -----------------------------------------------------------------


def is_balanced(text: str) -> bool:
    """Whether every parenthesis has its partner."""
    depth = 0
    for step in _steps_of(text):
        depth += step
        if depth < 0:
            return False
    return depth == 0


def equal_counts(text: str) -> bool:
    """Whether there are as many opening as closing parentheses."""
    return sum(_steps_of(text)) == 0


def starts_open(text: str) -> bool:
    """Whether the first parenthesis is an opening one; False for the empty string."""
    return _steps_of(text)[:1] == [1]


def horizon(text: str) -> bool:
    """Whether no suffix has more opening than closing parentheses."""
    excess = 0
    for step in reversed(_steps_of(text)):
        excess += step
        if excess > 0:
            return False
    return True


def depth(text: str) -> int:
    """How many parentheses are open at most at once; 0 for the empty string."""
    return int(np.cumsum(_steps_of(text)).max(initial=0))


def _steps_of(text: str) -> list[int]:
    """The string as +1 and -1.

    Raises:
        ValueError: If the string holds anything but parentheses.
    """
    strange = sorted(set(text) - {OPEN, CLOSE})
    if strange:
        raise ValueError(f"only {OPEN!r} and {CLOSE!r} are allowed, found {strange[0]!r}")
    return [1 if character == OPEN else -1 for character in text]


# --- generators of one category --------------------------------------------------------------


def dyck_words(rng: np.random.Generator, length: int, count: int) -> Steps:
    """Balanced strings, uniform over all balanced strings of this length.

    Cycle lemma: of the cyclic shifts of a word with n opens and n+1 closes exactly one stays at
    or above zero until its last step, a close. Dropping that step leaves a Dyck word, and each
    Dyck word comes from equally many arrangements. That shift starts just after the first
    minimum of the running sum.
    """
    half = _half(length)
    row = np.repeat(np.array([1, -1], dtype=np.int8), [half, half + 1])
    words = _shuffled_rows(rng, row, count)
    depth = np.cumsum(words, axis=1, dtype=np.int64)
    start = np.argmin(depth, axis=1) + 1  # argmin takes the first of equal minima
    order = (start[:, None] + np.arange(length)) % (length + 1)
    return np.take_along_axis(words, order, axis=1)


def iid_words(rng: np.random.Generator, length: int, count: int) -> Steps:
    """Every parenthesis drawn on its own, open or closed with equal chance."""
    return (2 * rng.integers(0, 2, size=(count, length), dtype=np.int8) - 1).astype(np.int8)


def equal_count_words(rng: np.random.Generator, length: int, count: int) -> Steps:
    """As many opens as closes, in uniformly random order; some come out balanced."""
    row = np.repeat(np.array([1, -1], dtype=np.int8), _half(length))
    return _shuffled_rows(rng, row, count)


def near_miss_words(rng: np.random.Generator, length: int, count: int) -> Steps:
    """Uniform Dyck words with one small edit.

    Half of them have a random ``(`` exchanged with a random ``)``, the others one position
    flipped. A flip always unbalances; an exchange may leave the string balanced, so a near miss
    must be labelled by ``is_balanced``.
    """
    words = dyck_words(rng, length, count)
    if length == 0:
        return words
    swap = rng.random(count) < 0.5
    scores = rng.random((count, length))
    # The largest score among the opens (closes) picks one of them uniformly.
    opened = np.argmax(np.where(words > 0, scores, -1.0), axis=1)
    closed = np.argmax(np.where(words < 0, scores, -1.0), axis=1)
    flipped = np.argmax(scores, axis=1)
    rows = np.arange(count)
    edited = words.copy()
    edited[rows[swap], opened[swap]] = -1
    edited[rows[swap], closed[swap]] = 1
    edited[rows[~swap], flipped[~swap]] *= -1
    return edited


def to_strings(steps: Steps) -> list[str]:
    """Rows of +1 and -1 as text."""
    count, length = steps.shape
    if length == 0:
        return [""] * count
    codes = np.where(steps > 0, ord(OPEN), ord(CLOSE)).astype(np.uint8)
    joined = codes.tobytes().decode("ascii")
    return [joined[start : start + length] for start in range(0, count * length, length)]


# --- the hard mix ----------------------------------------------------------------------------

_GENERATORS: Final[dict[str, Callable[[np.random.Generator, int, int], Steps]]] = {
    "dyck": dyck_words,
    "iid": iid_words,
    "equal_count": equal_count_words,
    "near_miss": near_miss_words,
}


def hard_mix(
    rng: np.random.Generator, count: int, lengths: Sequence[int] = HARD_MIX_LENGTHS
) -> ParenSample:
    """A shuffled sample that rewards counting and depth alike.

    Args:
        rng: Source of all randomness; equal states give equal samples.
        count: Number of strings. Lengths get equal shares and categories the shares of
            ``HARD_MIX_SHARES``, to the nearest string.
        lengths: The even lengths to draw from.
    """
    strings: list[str] = []
    categories: list[str] = []
    for length, in_length in zip(lengths, _split(count, [1.0] * len(lengths)), strict=True):
        shares = _split(in_length, list(HARD_MIX_SHARES.values()))
        for category, in_category in zip(HARD_MIX_SHARES, shares, strict=True):
            strings += to_strings(_GENERATORS[category](rng, length, in_category))
            categories += [category] * in_category
    order: list[int] = rng.permutation(len(strings)).tolist()
    return ParenSample(
        strings=tuple(strings[index] for index in order),
        categories=tuple(categories[index] for index in order),
    )


def _split(total: int, weights: Sequence[float]) -> list[int]:
    """Divide a total in proportion to weights; the parts add up to it exactly."""
    edges = np.rint(total * np.cumsum([0.0, *weights]) / sum(weights)).astype(int)
    return [int(part) for part in np.diff(edges)]


def _shuffled_rows(rng: np.random.Generator, row: Steps, count: int) -> Steps:
    """Independent uniform permutations of one row."""
    return rng.permuted(np.tile(row, (count, 1)), axis=1)


def _half(length: int) -> int:
    """Half of an even length.

    Raises:
        ValueError: If the length is odd or negative.
    """
    if length < 0 or length % 2:
        raise ValueError(f"length must be even and not negative, got {length}")
    return length // 2
