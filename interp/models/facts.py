"""The facts of a card: a number, its unit, how many cases it rests on, and what was promised.

A fact is a row ``{claim, value, unit, n}`` of a card's front matter; with ``at_least`` or
``at_most`` it is a promise that can be broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Fact = Mapping[str, Any]


def is_promise(fact: Fact) -> bool:
    """Whether the fact has a bound."""
    return "at_least" in fact or "at_most" in fact


def holds(fact: Fact) -> bool:
    """Whether the value is within its bounds; one that is no number is not."""
    low, high = fact.get("at_least", -float("inf")), fact.get("at_most", float("inf"))
    return bool(low <= fact["value"] <= high)


def in_words(fact: Fact) -> str:
    """Say a fact in one line: the claim, the value with its unit, the promise if there is one."""
    said = f"{str(fact['claim']).rstrip('.')}: {fact['value']:.4g} {fact['unit']}".rstrip()
    bounds = {"at least": fact.get("at_least"), "at most": fact.get("at_most")}
    told = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
    verdict = f"; promised {told}, {'holds' if holds(fact) else 'does not hold'}" if told else ""
    return f"{said} (n = {fact['n']:,}{verdict})"
