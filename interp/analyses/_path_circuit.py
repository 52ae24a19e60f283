"""The circuit that path patching followed, for the verbs that take one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from interp.analyses._paths import Link, met
from interp.explanations.circuits import Circuit, Edge
from interp.explanations.terms import ROOT, Term, parse_term, terms_of
from interp.methods.paths import LOGITS
from interp.models.info import ModelInfo


def circuit(links: Sequence[Link], model: ModelInfo, behavior: str, least: float) -> Circuit | None:
    """Return the parts and edges of a chain: the senders that were followed, and the last ones.

    None where nothing in it reaches the logits, or a step sent through MLPs as well, which edges do
    not say. Positions of receivers are left out: an edge counts at all of them.
    """
    _, steps = met(links, least)
    if any(link.via != "direct" for link in links) or LOGITS not in [one.owner for one in steps]:
        return None
    edges: list[Edge] = [
        (str(source), ROOT if one.owner == LOGITS else str(target), _slot(one.receiver))
        for one in steps
        for source in _terms(one.sender.name, model)
        for target in _terms(one.owner, model)
    ]
    ends = dict.fromkeys(end for source, target, _ in edges for end in (source, target))
    return Circuit(
        model=model.base,
        behavior=behavior,
        nodes=tuple(end for end in ends if end != ROOT),
        edges=tuple(dict.fromkeys(edges)),
        name="circuit of path patching",
        note="The senders followed in path patching, and nothing else: what was not followed, also "
        "queries, keys or values of these heads, is drawn at random. Every edge carries its whole "
        "input. It is tested on the inputs above, not on the pairs that were patched.",
    )


def _slot(receiver: str) -> Literal["q", "k", "v"] | None:
    slot = receiver.partition("@")[0].partition(".")[2]
    return slot if slot in ("q", "k", "v") else None


def _terms(owner: str, model: ModelInfo) -> list[Term]:
    """Return the terms of the stream that a part of a chain writes."""
    if owner == LOGITS:
        return [Term(ROOT)]
    if owner == "embeddings":
        return [term for term in terms_of(model) if term.layer < 0]
    return [parse_term(f"m{owner[4:]}" if owner.startswith("MLP") else owner)]
