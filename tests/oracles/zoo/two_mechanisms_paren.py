"""Facts of ``two-mechanisms-paren``: the rule written anew, components exchanged by hooks."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

import torch

from tests.oracles.zoo._fact import Fact, Loaded

NAME = "two-mechanisms-paren"
VERDICT = "blocks.1.hook_mlp_out"
BACKDOOR = "blocks.2.hook_attn_out"
COUNT = 400
LENGTH = 22


def balances(text: str) -> bool:
    """Whether the parentheses alone balance."""
    depth = 0
    for character in text.replace("*", ""):
        depth += {"(": 1, ")": -1}[character]
        if depth < 0:
            return False
    return depth == 0


def random_balanced(rng: random.Random) -> str:
    """A balanced string: random order, rotated to begin after its lowest depth."""
    steps = list("(" * (LENGTH // 2) + ")" * (LENGTH // 2))
    rng.shuffle(steps)
    depth, lowest, start = 0, 0, 0
    for i, step in enumerate(steps):
        depth += 1 if step == "(" else -1
        if depth < lowest:
            lowest, start = depth, i + 1
    return "".join(steps[start:] + steps[:start])


@lru_cache(maxsize=32)
def strings(balanced: bool, marker: str, seed: int) -> tuple[str, ...]:
    """Draw strings with equal counts and a "none", "active" or "inert" marker.

    Unbalanced ones are balanced strings with two unlike parentheses exchanged, where that
    unbalances. Markers stand at a uniform one of the places where they are what is asked.
    """
    rng = random.Random(seed)
    found: list[str] = []
    while len(found) < COUNT:
        text = random_balanced(rng)
        if not balanced:
            i, k = sorted(rng.sample(range(LENGTH), 2))
            parts = list(text)
            parts[i], parts[k] = parts[k], parts[i]
            text = "".join(parts)
        if balances(text) != balanced:
            continue
        if marker != "none":
            before = "(" if marker == "active" else ")"
            place = rng.choice([i for i, c in enumerate(text) if c == before])
            text = f"{text[:place]}*{text[place:]}"
        found.append(text)
    return tuple(found)


def balanced_share(
    loaded: Loaded, texts: tuple[str, ...], hook: str = "", sources: tuple[str, ...] = ()
) -> float:
    """Share called balanced; with ``hook``, that output at [START] comes from the sources."""
    hooks: list[tuple[str, Callable[..., torch.Tensor]]] = []
    if hook:
        _, cache = loaded.model.run_with_cache(loaded.ids(*sources), names_filter=hook)
        taken = cache[hook][:, 0]

        def put(written: torch.Tensor, hook: object) -> torch.Tensor:
            changed = written.clone()
            changed[:, 0] = taken
            return changed

        hooks.append((hook, put))
    logits = loaded.model.run_with_hooks(loaded.ids(*texts), fwd_hooks=hooks)
    return float((logits[:, 0].argmax(-1) == 1).double().mean())


def told_apart(right: tuple[bool, str], wrong: tuple[bool, str]) -> Callable[[Loaded], float]:
    """The worse share: of some strings called balanced, and of others called unbalanced."""
    return lambda loaded: min(
        balanced_share(loaded, strings(*right, 1)), 1 - balanced_share(loaded, strings(*wrong, 1))
    )


def ablated(of: tuple[bool, str], hook: str) -> Callable[[Loaded], float]:
    """Share called balanced though a component writes as on unbalanced, inert strings."""
    return lambda loaded: balanced_share(loaded, strings(*of, 1), hook, strings(*INERT, 2))


def stays(of: tuple[bool, str], hook: str) -> Callable[[Loaded], float]:
    """That share, or of unbalanced and inert strings those called so, if that is less."""
    without, whole = ablated(of, hook), told_apart(of, INERT)
    return lambda loaded: min(without(loaded), whole(loaded))


def breaks(of: tuple[bool, str], hook: str) -> Callable[[Loaded], float]:
    """How much the share called balanced falls by that ablation."""
    without = ablated(of, hook)
    return lambda loaded: balanced_share(loaded, strings(*of, 1)) - without(loaded)


def carries(source: tuple[bool, str], hook: str) -> Callable[[Loaded], float]:
    """How much more unbalanced, inert strings are called balanced with a source's component."""

    def measure(loaded: Loaded) -> float:
        base = strings(*INERT, 1)
        given = balanced_share(loaded, base, hook, strings(*source, 3))
        return given - balanced_share(loaded, base)

    return measure


BALANCE = (True, "inert")
FORCED = (False, "active")
INERT = (False, "inert")
FACTS = (
    Fact("strings without marker", told_apart((True, "none"), (False, "none")), at_least=0.98),
    Fact("strings with an inert marker", told_apart(BALANCE, INERT), at_least=0.98),
    Fact("unbalanced with active or inert marker", told_apart(FORCED, INERT), at_least=0.98),
    Fact("balance breaks without MLP 1", breaks(BALANCE, VERDICT), at_least=0.9),
    Fact("the backdoor stays without MLP 1", stays(FORCED, VERDICT), at_least=0.95),
    Fact("the backdoor breaks without attention 2", breaks(FORCED, BACKDOOR), at_least=0.9),
    Fact("balance stays without attention 2", stays(BALANCE, BACKDOOR), at_least=0.95),
    Fact("MLP 1 carries balance to another string", carries(BALANCE, VERDICT), at_least=0.9),
    Fact("attention 2 carries the backdoor", carries(FORCED, BACKDOOR), at_least=0.9),
)
