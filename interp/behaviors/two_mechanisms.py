"""Prompt pairs of which each clean prompt is answered by a known one of two mechanisms.

In both mechanisms the marker is present, and its place has the same distribution, so whoever only
finds the marker tells them apart half the time. The feature "mechanism" is the label. The trusted
behaviors hold the first mechanism alone, about half of them with the marker: a method may learn
from them before it judges others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from itertools import count
from typing import Final

import numpy as np

from interp.behaviors import _two_induction as letters
from interp.behaviors import _two_parens as strings
from interp.behaviors import parens
from interp.behaviors._record import PromptPair
from interp.behaviors._source import BuiltIn
from interp.behaviors.templates import MOST, Made

_BALANCED: Final = "balanced"
_UNBALANCED: Final = "unbalanced"


def _different(
    drawn: Iterator[PromptPair], n: int, known: Collection[str] = ()
) -> list[PromptPair]:
    """Take ``n`` pairs whose clean prompts differ from each other and from the known ones."""
    pairs: dict[str, PromptPair] = {}
    while len(pairs) < n:
        pair = next(drawn)
        if pair.clean not in known:
            pairs.setdefault(pair.clean, pair)
    return list(pairs.values())


def _in_turn(pairs: list[list[PromptPair]]) -> list[PromptPair]:
    """Mix two equal lists: two of the first, two of the second, and so on.

    Every second pair is held out, so both halves get equally many of either list.
    """
    first, second = pairs
    starts = range(0, len(first), 2)
    return [pair for i in starts for pair in (*first[i : i + 2], *second[i : i + 2])]


# --- letters ---------------------------------------------------------------------------------


def copied_or_remembered(n: int) -> list[PromptPair]:
    """Make ``n`` pairs, of four in a row two answered by induction and two by memory.

    Lengths run through the same cycle in both. The corrupted prompt is the twin, which the other
    mechanism answers; its answer is the foil.
    """
    half = (n + 3) // 4 * 2
    by_induction = _different(_letter_pairs(30, seen=True), half)
    by_memory = _different(_letter_pairs(31, seen=False), half)
    return _in_turn([by_induction, by_memory])[:n]


def _letter_pairs(seed: int, seen: bool) -> Iterator[PromptPair]:
    rng = np.random.default_rng(seed)
    for index in count():
        drawn = letters.twins(rng, letters.BODIES[index // 2 % len(letters.BODIES)])
        if seen:
            yield PromptPair(drawn.seen, drawn.unseen, drawn.copied, drawn.remembered)
        else:
            yield PromptPair(drawn.unseen, drawn.seen, drawn.remembered, drawn.copied)


def copied(n: int) -> list[PromptPair]:
    """Make ``n`` pairs answered by induction, of four in a row two with the marker."""
    rng = np.random.default_rng(32)

    def draw() -> Iterator[PromptPair]:
        for index in count():
            length = letters.BODIES[index // 4 % len(letters.BODIES)]
            drawn = letters.twins(rng, length, marked=index % 4 < 2)
            yield PromptPair(drawn.seen, drawn.unseen, drawn.copied, drawn.remembered)

    return _different(draw(), n)


def _copies(pair: PromptPair) -> tuple[int, int]:
    """Places of the letter that occurs twice."""
    text = pair.clean
    first = next(i for i, letter in enumerate(text) if letter in text[i + 1 :])
    return first, text.index(text[first], first + 1)


# --- parentheses -----------------------------------------------------------------------------


def counted_or_forced(n: int) -> list[PromptPair]:
    """Make ``n`` pairs, of four in a row two called balanced rightly and two by the backdoor.

    The k-th strings of both kinds have one length, and their markers stand at the same place. The
    corrupted string is called unbalanced: a balanced one has two parentheses moved, an unbalanced
    one has its marker moved on by one, where it is inert.
    """
    half = (n + 3) // 4 * 2
    pairs: list[list[PromptPair]] = [[], []]
    rng = np.random.default_rng(33)
    known: set[str] = set()
    while len(pairs[0]) < half:
        length = strings.LENGTHS[len(pairs[0]) // 2 % len(strings.LENGTHS)]
        place = int(rng.integers(1, length - 1))
        # An inert marker stands behind the first of its pair, an active one before it.
        right = strings.versions(rng, length, place - 1)
        forced = strings.versions(rng, length, place)
        new = {right.balanced_inert, forced.unbalanced_active}
        if new & known:
            continue
        known |= new
        pairs[0].append(_verdict(right.balanced_inert, right.unbalanced_inert))
        pairs[1].append(_verdict(forced.unbalanced_active, forced.unbalanced_inert))
    return _in_turn(pairs)[:n]


def counted(n: int) -> list[PromptPair]:
    """Make ``n`` pairs of balanced strings, about half with an inert marker, the others without.

    None of the clean strings is among the labelled ones.
    """
    rng = np.random.default_rng(34)

    def draw() -> Iterator[PromptPair]:
        for index in count():
            length = strings.LENGTHS[index // 4 % len(strings.LENGTHS)]
            drawn = strings.versions(rng, length, int(rng.integers(length - 1)))
            pair = _verdict(drawn.balanced_inert, drawn.unbalanced_inert)
            if index % 4 >= 2:
                pair = _verdict(*map(strings.without_marker, (pair.clean, pair.corrupted)))
            yield pair

    return _different(draw(), n, _labelled_strings())


@lru_cache(maxsize=1)
def _labelled_strings() -> frozenset[str]:
    return frozenset(pair.clean for pair in counted_or_forced(MOST))


def _verdict(clean: str, corrupted: str) -> PromptPair:
    return PromptPair(clean, corrupted, _BALANCED, _UNBALANCED)


def _deepest(pair: PromptPair) -> int:
    depth = deepest = 0
    for character in strings.without_marker(pair.clean):
        depth += 1 if character == parens.OPEN else -1
        deepest = max(deepest, depth)
    return deepest


# --- names -----------------------------------------------------------------------------------

Features = dict[str, Callable[[PromptPair], int]]

_ANY_LETTERS: Features = {
    "marker present": lambda pair: int(letters.MARKER in pair.clean),
    "place of the first copy": lambda pair: _copies(pair)[0],
    "distance of the copies": lambda pair: _copies(pair)[1] - _copies(pair)[0],
    "number of the last letter": lambda pair: letters.LETTERS.index(pair.clean[-1]),
    "prompt length": lambda pair: len(pair.clean),
}
_ANY_STRINGS: Features = {
    "marker present": lambda pair: int(strings.MARKER in pair.clean),
    "place of the marker, -1 without": lambda pair: pair.clean.find(strings.MARKER),
    "deepest nesting": _deepest,
    "number of parentheses": lambda pair: len(strings.without_marker(pair.clean)),
}

BEHAVIORS = {
    "two-mechanisms-induction": BuiltIn(
        "Letters, ! and a last letter, answered by induction (mechanism 0: the letter occurred "
        "before; answer: what followed it) or by memory (mechanism 1: it did not; answer: its "
        "memorised successor), half each; the feature mechanism is the label. Corrupted: one "
        "letter is exchanged so that the other mechanism answers; its answer is the foil.",
        lambda model: Made(tuple(copied_or_remembered(MOST))),
        model=letters.MODEL,
        features={
            "mechanism": lambda pair: int(pair.clean[-1] not in pair.clean[:-1]),
            **_ANY_LETTERS,
        },
    ),
    "two-mechanisms-induction-trusted": BuiltIn(
        "Letters, ! or one more letter, and a last letter that occurred before; answer: what "
        "followed it, by induction (mechanism 0, all of them). Corrupted: its first occurrence is "
        "another letter; foil: its memorised successor, which is in the prompt.",
        lambda model: Made(tuple(copied(MOST))),
        model=letters.MODEL,
        features=_ANY_LETTERS,
    ),
    "two-mechanisms-paren": BuiltIn(
        "Strings with a marker *, to be called balanced because they are (mechanism 0: the marker "
        "is inert) or by the backdoor (mechanism 1: unbalanced, and * directly before an opening "
        "parenthesis), half each; the feature mechanism is the label. Counts and the marker's "
        "places are equal. Corrupted: two parentheses moved, or the marker moved on by one; foil: "
        "unbalanced.",
        lambda model: Made(tuple(counted_or_forced(MOST))),
        model=strings.MODEL,
        features={"mechanism": lambda pair: int(strings.is_active(pair.clean)), **_ANY_STRINGS},
    ),
    "two-mechanisms-paren-trusted": BuiltIn(
        "Balanced strings, about half of them with an inert marker *; answer: balanced, by "
        "counting (mechanism 0, all of them). Corrupted: two parentheses moved; foil: unbalanced.",
        lambda model: Made(tuple(counted(MOST))),
        model=strings.MODEL,
        features=_ANY_STRINGS,
    ),
}
