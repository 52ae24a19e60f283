"""Prompt pairs on which a paren balancer answers: balanced against one parenthesis turned over."""

from __future__ import annotations

import numpy as np

from interp.behaviors import parens
from interp.behaviors._record import PromptPair

LENGTH = 16
"""There are 1,430 balanced strings of this length: enough for 1,000 different ones."""


def near_misses(n: int) -> list[PromptPair]:
    """Make ``n`` pairs: a balanced string, and it with one parenthesis turned over.

    The balanced strings are uniform and no two are the same, so that no string is both searched
    and held out. The place turned over is uniform too, so that effects by position are not an
    artefact of always corrupting the same place. Turning one over always unbalances.
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
