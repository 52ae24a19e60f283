"""Prompt pairs on which a paren balancer answers: balanced against one parenthesis turned over."""

from __future__ import annotations

import numpy as np

from interp.behaviors import parens
from interp.behaviors._record import PromptPair

LENGTH = 14


def near_misses(n: int) -> list[PromptPair]:
    """Make ``n`` pairs: a uniform balanced string, and it with one parenthesis turned over.

    The place turned over is drawn uniformly, so that effects by position are not an artefact of
    always corrupting the same place. Turning one parenthesis over always unbalances.
    """
    rng = np.random.default_rng(21)
    pairs: list[PromptPair] = []
    for _ in range(n):
        clean = parens.to_strings(parens.dyck_words(rng, LENGTH, 1))[0]
        where = int(rng.integers(LENGTH))
        turned = ")" if clean[where] == "(" else "("
        pairs.append(
            PromptPair(clean, clean[:where] + turned + clean[where + 1 :], "balanced", "unbalanced")
        )
    return pairs
