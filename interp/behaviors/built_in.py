"""The behaviors that come with the bundled models, by name.

Each is a function from a number of pairs to prompt pairs, deterministic: the first ``n`` pairs of
a larger request are the pairs of a smaller one. One task per file; this one only names them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from interp.behaviors import balance, induction
from interp.behaviors._record import Behavior, PromptPair
from interp.behaviors.typed import from_pairs
from interp.errors import BadInput, UnknownName


@dataclass(frozen=True)
class BuiltIn:
    """A named source of prompt pairs for one model. ``most``: how many it can make."""

    model: str
    summary: str
    pairs: Callable[[int], Sequence[PromptPair]]
    most: int = 1000


BUILT_IN = {
    "paren-near-misses": BuiltIn(
        "paren-balancer",
        "Balanced strings of 16 parentheses against the same string with one parenthesis "
        "turned over, at places spread over the string.",
        balance.near_misses,
    ),
    "induction-first-cue": BuiltIn(
        "induction-handmade",
        "Ten different letters and the third one again; corrupted: the third letter's first "
        "occurrence is another letter, so that there is nothing to copy after.",
        induction.first_cue,
    ),
}


def for_model(model: str) -> tuple[str, ...]:
    """List the names of the behaviors made for ``model``."""
    return tuple(name for name, source in BUILT_IN.items() if source.model == model)


@lru_cache(maxsize=32)
def built_in(name: str, n: int) -> Behavior:
    """Make the built-in behavior ``name`` with ``n`` pairs.

    Raises:
        UnknownName: There is no such behavior.
        BadInput: It cannot make so many pairs.
    """
    if name not in BUILT_IN:
        raise UnknownName.of("behavior", name, BUILT_IN)
    source = BUILT_IN[name]
    if not 1 <= n <= source.most:
        raise BadInput(f"{n} pairs of {name} were asked for.", f"It makes 1 to {source.most}.")
    return from_pairs(source.model, source.pairs(n), name=name, source=source.summary)
