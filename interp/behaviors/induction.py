"""Prompt pairs on which induction answers: "… a b … a" is followed by "b"."""

from __future__ import annotations

import string

import numpy as np

from interp.behaviors._record import PromptPair


def first_cue(n: int) -> list[PromptPair]:
    """Make ``n`` pairs of ten different letters and a repeat of the third.

    In the corrupted prompt the third letter is replaced by one that occurs nowhere, so the last
    letter has no earlier occurrence to copy after. The foil is the letter that followed the
    fifth: a wrong answer that is in the prompt too.
    """
    rng = np.random.default_rng(20)
    pairs: list[PromptPair] = []
    for _ in range(n):
        letters = [str(c) for c in rng.permutation(list(string.ascii_lowercase))[:11]]
        *prompt, unseen = letters
        corrupted = [*prompt[:2], unseen, *prompt[3:], prompt[2]]
        pairs.append(
            PromptPair("".join([*prompt, prompt[2]]), "".join(corrupted), prompt[3], prompt[5])
        )
    return pairs
