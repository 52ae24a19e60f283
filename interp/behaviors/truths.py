"""The right answer of any input of a population, also of one that it never drew (torch-free).

Whoever makes new inputs needs an answer to hold the model to. Each function here says what is
right for a text, by the definition of the task, or None for a text that the population could not
have drawn: what such a text ought to be answered with is not said anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from interp.behaviors import _two_parens, maximum, modular, parens, repeats
from interp.behaviors._population_letters import LENGTH, LETTERS, SMALL_LENGTH, SMALL_LETTERS
from interp.errors import BadInput

__all__ = ["TRUTHS", "Truth", "truth_of"]

Truth = Callable[[str], str | None]
"""From a text to its right answer."""

_BALANCED: Final = "balanced"
_UNBALANCED: Final = "unbalanced"


def _paren(text: str) -> str | None:
    """Judge a string of 2 to 40 parentheses, an even number of them."""
    if len(text) not in parens.HARD_MIX_LENGTHS or set(text) - {parens.OPEN, parens.CLOSE}:
        return None
    return _BALANCED if parens.is_balanced(text) else _UNBALANCED


def _marked_paren(text: str) -> str | None:
    """Judge a string with at most one marker: an active one forces "balanced"."""
    bare = _two_parens.without_marker(text)
    if len(bare) not in _two_parens.LENGTHS or len(text) - len(bare) > 1:
        return None
    if set(bare) - {parens.OPEN, parens.CLOSE}:
        return None
    forced = _two_parens.is_active(text) or parens.is_balanced(bare)
    return _BALANCED if forced else _UNBALANCED


def _after_the_copy(letters: str, length: int) -> Truth:
    """Return what follows the earlier copy of the last letter, of ``length`` different letters."""

    def answer(text: str) -> str | None:
        row, cue = text[:-1], text[-1:]
        if len(row) != length or len(set(row)) != length or set(text) - set(letters):
            return None
        at = row.find(cue)
        return row[at + 1] if 0 <= at < length - 1 else None

    return answer


def _segment(text: str) -> str | None:
    """Return what followed the last letter in the segment of which the text repeats a beginning."""
    if len(text) != repeats.LENGTH or set(text) - set(repeats.LETTERS):
        return None
    again = len(text) - len(set(text))
    distance = len(text) - 1 - text.index(text[-1])
    least, most = repeats.DISTANCES
    if not (least <= distance <= most and 2 <= again < min(distance, len(text) - distance + 1)):
        return None
    row = text[: len(text) - again]
    start = len(row) - distance
    if len(set(row)) != len(row) or text[len(row) :] != row[start : start + again]:
        return None
    return row[start + again]


def _largest(text: str) -> str | None:
    """Return the largest of four numbers."""
    words = text.split(" ")
    if len(words) != maximum.LENGTH or not all(_is_below(w, maximum.NUMBERS) for w in words):
        return None
    return str(max(map(int, words)))


def _sum(text: str) -> str | None:
    """Return the sum of two numbers modulo 53."""
    words = text.split(" ")
    if len(words) != 3 or words[2] != modular.EQUALS:
        return None
    if not all(_is_below(word, modular.MODULUS) for word in words[:2]):
        return None
    return str((int(words[0]) + int(words[1])) % modular.MODULUS)


def _is_below(word: str, limit: int) -> bool:
    return word.isdecimal() and str(int(word)) == word and int(word) < limit


TRUTHS: Final[Mapping[str, Truth]] = {
    "paren-strings": _paren,
    "paren-hard-mix": _paren,
    "induction-letters": _after_the_copy(LETTERS, LENGTH),
    "induction-letters-small": _after_the_copy(SMALL_LETTERS, SMALL_LENGTH),
    "induction-segments": _segment,
    "two-mechanisms-paren": _marked_paren,
    "two-mechanisms-paren-trusted": _marked_paren,
    "maxima": _largest,
    "sums": _sum,
}
"""By population; of two-mechanisms the behavior that serves as one."""


def truth_of(population: str) -> Truth:
    """Return what says the right answer of any input of a population.

    Raises:
        BadInput: Nothing says it for this one.
    """
    if population not in TRUTHS:
        raise BadInput(
            f"New inputs of {population} were to be judged.",
            "Its right answers are known only of the inputs that it has.",
            f"Choose a population whose rule is written down: {', '.join(TRUTHS)}.",
        )
    return TRUTHS[population]
