"""Prompt pairs on which induction answers: "… a b … a" is followed by "b"."""

from __future__ import annotations

import string

import numpy as np

from interp.behaviors._record import PromptPair


def first_cue(n: int) -> list[PromptPair]:
    """Make ``n`` different pairs of ten different letters and a repeat of the third.

    In the corrupted prompt the third letter is replaced by one that occurs nowhere, so the last
    letter has no earlier occurrence to copy after. The foil is the letter that followed the
    fifth: a wrong answer that is in the prompt too.
    """
    rng = np.random.default_rng(20)
    pairs: dict[str, PromptPair] = {}
    while len(pairs) < n:
        letters = [str(c) for c in rng.permutation(list(string.ascii_lowercase))[:11]]
        *prompt, unseen = letters
        clean = "".join([*prompt, prompt[2]])
        corrupted = "".join([*prompt[:2], unseen, *prompt[3:], prompt[2]])
        pairs.setdefault(clean, PromptPair(clean, corrupted, prompt[3], prompt[5]))
    return list(pairs.values())
