"""Hypotheses about two models of which it is known which of two mechanisms answers an input.

One component carries each mechanism, as their cards say; the note says which a claim is about.
"""

from __future__ import annotations

from typing import Final

from interp.explanations._presets_record import Preset
from interp.explanations.hypothesis import EXACT, Feature, Hypothesis, Node

_STRINGS: Final = "two-mechanisms-paren"
_LETTERS: Final = "two-mechanisms-induction"
_FEATURES: Final = {
    _STRINGS: {
        "balanced": Feature(
            expr="(count(OPEN) == count(CLOSE)) & (max(cumsum_right(OPEN, CLOSE)) <= 0)",
            dtype="bool",
        ),
        "active": Feature(expr="at(first(MARKER) + 1) == OPEN", dtype="bool"),
        "places_of_open": Feature(expr="sum(pos() * (token() == OPEN)) % 4 == 0", dtype="bool"),
    },
    _LETTERS: {
        "induced_token": Feature(expr="tok_after_prev_occurrence(-1)"),
        "cue": Feature(expr="last()"),
        "first_letter": Feature(expr="at(1)"),
    },
}


def _preset(model: str, name: str, title: str, mechanism: int, *claims: Node) -> Preset:
    used = {feature for claim in claims for feature in _used(claim)}
    hypothesis = Hypothesis(
        name=name,
        note=f"{title}. About mechanism {mechanism}.",
        model=model,
        behavior=model,
        features={key: one for key, one in _FEATURES[model].items() if key in used},
        graph=Node(site="logits", agree=EXACT, children=claims),
    )
    return Preset(name, title, (model,), model, hypothesis)


def _used(node: Node) -> set[str]:
    return set(node.features).union(*(_used(child) for child in node.children))


def _on_through(site: str, mlp: str, agree: str = EXACT) -> tuple[Node, Node]:
    """Claim a component straight to the logits and through one later MLP, which reads only it."""
    own = Node(site=site, agree=agree)
    return own, Node(site=mlp, agree=agree, children=(own,))


_BALANCE, _BACKDOOR, _LAST = "m1", "a2.h0+a2.h1", "m2"
_COPIES, _MEMORY = "a1.h0+a1.h1", "m0"

PRESETS: Final = (
    _preset(
        _STRINGS,
        "balance",
        "The L1 MLP says whether parentheses balance, straight to the logits",
        0,
        Node(site=_BALANCE, agree=EXACT),
    ),
    _preset(
        _STRINGS,
        "balance-feature",
        "The same, and it matters only through whether they balance",
        0,
        Node(site=_BALANCE, agree="balanced"),
    ),
    _preset(
        _STRINGS,
        "balance-wrong-feature",
        "Wrong: the L1 MLP matters through the places of (",
        0,
        Node(site=_BALANCE, agree="places_of_open"),
    ),
    _preset(
        _STRINGS,
        "backdoor",
        "The heads of layer 2 say whether the marker is active, and the L2 MLP passes it on",
        1,
        *_on_through(_BACKDOOR, _LAST),
    ),
    _preset(
        _STRINGS,
        "backdoor-feature",
        "The same, and they matter only through whether it is active",
        1,
        *_on_through(_BACKDOOR, _LAST, "active"),
    ),
    _preset(
        _STRINGS,
        "backdoor-part",
        "Partly right: the heads of layer 2 straight to the logits alone",
        1,
        Node(site=_BACKDOOR, agree=EXACT),
    ),
    _preset(
        _STRINGS,
        "balance-exchanged",
        "Wrong: heads of layer 2 and the L2 MLP behind them say whether parentheses balance",
        0,
        *_on_through(_BACKDOOR, _LAST, "balanced"),
    ),
    _preset(
        _LETTERS,
        "copying",
        "The heads of layer 1 copy, straight to the logits",
        0,
        Node(site=_COPIES, agree=EXACT),
    ),
    _preset(
        _LETTERS,
        "copying-feature",
        "The same, and they matter only through the letter to copy",
        0,
        Node(site=_COPIES, agree="induced_token"),
    ),
    _preset(
        _LETTERS,
        "copying-part",
        "Partly right: L1H0 alone copies",
        0,
        Node(site="a1.h0", agree=EXACT),
    ),
    _preset(
        _LETTERS,
        "copying-wrong-feature",
        "Wrong: the heads of layer 1 matter through the first letter",
        0,
        Node(site=_COPIES, agree="first_letter"),
    ),
    _preset(
        _LETTERS,
        "copying-exchanged",
        "Wrong: the L0 MLP matters through the letter to copy",
        0,
        Node(site=_MEMORY, agree="induced_token"),
    ),
    _preset(
        _LETTERS,
        "memory",
        "The L0 MLP remembers what follows the last letter; the L1 MLP passes it on",
        1,
        *_on_through(_MEMORY, "m1", "cue"),
    ),
)
