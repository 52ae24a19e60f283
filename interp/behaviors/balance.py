"""Prompt pairs on which a paren balancer answers: balanced against one parenthesis turned over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from interp.behaviors import parens
from interp.behaviors._record import PromptPair

LENGTH = 16
"""There are 1,430 balanced strings of this length: enough for 1,000 different ones."""


def near_misses(n: int) -> list[PromptPair]:
    """Make ``n`` pairs: a balanced string, and it with one parenthesis turned over.

    The balanced strings are uniform and no two are the same, so that no balanced string is both
    searched and held out; corrupted strings may come more than once. The place turned over is
    uniform too, so that effects by position are not an artefact of always corrupting the same
    place. Turning one over always unbalances.
    """
    rng = np.random.default_rng(21)
    pairs: dict[str, PromptPair] = {}
    while len(pairs) < n:
        clean = parens.to_strings(parens.dyck_words(rng, LENGTH, 1))[0]
        where = int(rng.integers(LENGTH))
        turned = ")" if clean[where] == "(" else "("
        corrupted = clean[:where] + turned + clean[where + 1 :]
        pairs.setdefault(clean, PromptPair(clean, corrupted, "balanced", "unbalanced"))
    return list(pairs.values())


def exchanges(n: int) -> list[PromptPair]:
    """Make ``n`` pairs: a balanced string, and it with a ( and a ) exchanged, unbalanced.

    Counts stay equal, so that only the order is wrong. Which two are exchanged is uniform over
    those exchanges that unbalance. No string comes twice, corrupted ones included, so that none is
    both searched and held out.
    """
    rng = np.random.default_rng(22)
    pairs: dict[str, PromptPair] = {}
    known: set[str] = set()
    while len(pairs) < n:
        clean = parens.to_strings(parens.dyck_words(rng, LENGTH, 1))[0]
        first, second = sorted(int(i) for i in rng.choice(LENGTH, 2, replace=False))
        letters = list(clean)
        letters[first], letters[second] = letters[second], letters[first]
        corrupted = "".join(letters)
        if clean in pairs or corrupted in known or parens.is_balanced(corrupted):
            continue
        known.add(corrupted)
        pairs[clean] = PromptPair(clean, corrupted, "balanced", "unbalanced")
    return list(pairs.values())


def _first_difference(pair: PromptPair) -> int:
    both = zip(pair.clean, pair.corrupted, strict=True)
    return next(i for i, (a, b) in enumerate(both) if a != b)


FEATURES: Final[dict[str, Callable[[PromptPair], int]]] = {
    "deepest nesting": lambda pair: parens.depth(pair.clean),
    "first place that differs": _first_difference,
    "( in the first half": lambda pair: pair.clean[: LENGTH // 2].count("("),
}
