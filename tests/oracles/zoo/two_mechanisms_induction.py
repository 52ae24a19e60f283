"""Facts of ``two-mechanisms-induction``: the rule written anew, components exchanged by hooks."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from tests.oracles.zoo._fact import Fact, Loaded

NAME = "two-mechanisms-induction"
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
AFTER = dict(zip(LETTERS, "SQrmRPvGUNpKHDsfntedIwqbOFJuxVhTailMAoczEjkyBLgC", strict=True))
COPYING = "blocks.1.hook_attn_out"
MEMORY = "blocks.0.hook_mlp_out"
COUNT = 400
LENGTH = 17


@dataclass(frozen=True)
class Inputs:
    """Prompts of one length, their right answers, and the cue's memorised successors."""

    texts: tuple[str, ...]
    answers: tuple[str, ...]
    remembered: tuple[str, ...]


@lru_cache(maxsize=8)
def inputs(kind: str, seed: int) -> Inputs:
    """Draw prompts: 15 letters, the marker (not in "neither") and the cue.

    Exactly one letter occurs twice. In "induction" it is the cue, else one of the 15. What follows
    its first occurrence is never the cue's memorised successor.
    """
    rng = random.Random(seed)
    texts: list[str] = []
    answers: list[str] = []
    cues: list[str] = []
    while len(texts) < COUNT:
        letters = rng.sample(LETTERS, LENGTH)
        cue, spare = letters.pop(), letters.pop()
        first, second = rng.sample(range(0, LENGTH - 3, 2), 2)
        letters[first] = cue if kind == "induction" else letters[second]
        if letters[first + 1] == AFTER[cue]:
            continue
        answers.append(letters[first + 1] if kind == "induction" else AFTER[cue])
        texts.append("".join(letters) + (spare if kind == "neither" else "!") + cue)
        cues.append(cue)
    return Inputs(tuple(texts), tuple(answers), tuple(AFTER[cue] for cue in cues))


def said(
    loaded: Loaded, texts: tuple[str, ...], hook: str = "", sources: tuple[str, ...] = ()
) -> list[str]:
    """Letters answered; with ``hook``, that output at the last token comes from the sources."""
    hooks: list[tuple[str, Callable[..., torch.Tensor]]] = []
    if hook:
        _, cache = loaded.model.run_with_cache(loaded.ids(*sources), names_filter=hook)
        taken = cache[hook][:, -1]

        def put(written: torch.Tensor, hook: object) -> torch.Tensor:
            changed = written.clone()
            changed[:, -1] = taken
            return changed

        hooks.append((hook, put))
    logits = loaded.model.run_with_hooks(loaded.ids(*texts), fwd_hooks=hooks)
    return [str(loaded.tokenizer.id_to_token(int(i))) for i in logits[:, -1].argmax(-1)]


def share(found: list[str], wanted: tuple[str, ...] | list[str]) -> float:
    """Share of equal letters."""
    return sum(a == b for a, b in zip(found, wanted, strict=True)) / len(found)


def right(kind: str) -> Callable[[Loaded], float]:
    """Share answered by the rule."""

    def measure(loaded: Loaded) -> float:
        of = inputs(kind, 1)
        return share(said(loaded, of.texts), of.answers)

    return measure


def right_without(kind: str, hook: str) -> Callable[[Loaded], float]:
    """Share answered by the rule though a component writes as where nothing is asked."""

    def measure(loaded: Loaded) -> float:
        of = inputs(kind, 1)
        return share(said(loaded, of.texts, hook, inputs("neither", 2).texts), of.answers)

    return measure


def moved_answer(base: str, source: str, hook: str) -> Callable[[Loaded], float]:
    """Share answered as the source is when a component comes from the source."""

    def measure(loaded: Loaded) -> float:
        of, other = inputs(base, 1), inputs(source, 3)
        wanted = other.answers if hook == COPYING else other.remembered
        return share(said(loaded, of.texts, hook, other.texts), wanted)

    return measure


def wrong_without(kind: str, hook: str) -> Callable[[Loaded], float]:
    """Share answered right by the model as it is and wrong without a component."""

    def measure(loaded: Loaded) -> float:
        of = inputs(kind, 1)
        whole = said(loaded, of.texts)
        without = said(loaded, of.texts, hook, inputs("neither", 2).texts)
        rows = zip(whole, without, of.answers, strict=True)
        return sum(a == c != b for a, b, c in rows) / len(whole)

    return measure


FACTS = (
    Fact("induction inputs answered right", right("induction"), at_least=0.99),
    Fact("memory inputs answered right", right("memory"), at_least=0.99),
    Fact("induction breaks without attention 1", wrong_without("induction", COPYING), at_least=0.9),
    Fact("memory stays without attention 1", right_without("memory", COPYING), at_least=0.95),
    Fact("memory breaks without MLP 0", wrong_without("memory", MEMORY), at_least=0.9),
    Fact("induction stays without MLP 0", right_without("induction", MEMORY), at_least=0.95),
    Fact(
        "attention 1 of an induction input brings its answer into a memory input",
        moved_answer("memory", "induction", COPYING),
        at_least=0.95,
    ),
    Fact(
        "MLP 0 of another input brings its remembered letter into a memory input",
        moved_answer("memory", "memory", MEMORY),
        at_least=0.95,
    ),
    Fact(
        "MLP 0 of an induction input holds what is remembered for its cue",
        moved_answer("memory", "induction", MEMORY),
        at_least=0.95,
    ),
)
