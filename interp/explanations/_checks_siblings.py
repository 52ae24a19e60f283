"""Static checks of what the children of a node are together."""

from __future__ import annotations

from itertools import combinations

from interp.errors import BadInput
from interp.explanations import words
from interp.explanations.hypothesis import SEPARATE, Node, Positions
from interp.explanations.terms import MASK, STREAM, Term, parse_terms
from interp.models.info import ModelInfo


def said(node: Node, above: Node | None = None) -> str:
    """Name a node by its id and in words."""
    return f"The node {node.id!r} ({words.label(node, above)})"


def check_siblings(node: Node, above: Node | None, model: ModelInfo) -> None:
    """Refuse children of a node that overlap, or whose ways to it do not go together.

    Raises:
        BadInput: They do.
    """
    _check_through(node, above)
    ways = {child.via: child for child in node.children if child.via != "direct"}
    if len(ways) > 1:
        mlps, layers = ways["mlps"], ways["any"]
        raise BadInput(
            f"{said(node, above)} has inputs through MLPs ({mlps.id}) and through any layers "
            f"({layers.id}).",
            "What lies between is run again once for all of them.",
            "Give all its indirect inputs the same via.",
        )
    for one, other in combinations(node.children, 2):
        if _covered_twice(one, other, model.answers.read):
            raise BadInput(
                f"{said(one, node)} and the node {other.id!r} are inputs of {node.id!r}.",
                "They cover the same term in the same slot at the same position, or may do so.",
                "Make one node of them, or give them slots (into) or positions that differ"
                + (", as numbers." if "read" in (one.pos, other.pos) else "."),
            )


def _check_through(node: Node, above: Node | None) -> None:
    """Refuse what has no one meaning where inputs go through other layers."""
    through = [child for child in node.children if child.via != "direct"]
    for child in through:
        if len({(term.layer, term.kind) for term in parse_terms(child.site)}) > 1:
            raise BadInput(
                f"{said(child, node)} goes through other layers.",
                "Its terms are of several layers: they enter at several places.",
                "Make a node of each layer's, or write via: direct.",
            )
    if node.other == SEPARATE and (through or node.site == STREAM):
        raise BadInput(
            f"{said(node, above)} draws what is not named separately.",
            "Its input goes through other layers, which read one stream.",
            "Write other: shared there.",
        )


def _covered_twice(one: Node, other: Node, read: int) -> bool:
    if MASK in (one.site, other.site):
        return one.site == other.site
    if None not in (one.into, other.into) and one.into != other.into:
        return False
    if None not in (one.attn_term, other.attn_term) and one.attn_term != other.attn_term:
        return False
    if not _meet(one.pos, other.pos, read):
        return False
    if STREAM in (one.site, other.site):
        return True
    pairs = ((a, b) for a in parse_terms(one.site) for b in parse_terms(other.site))
    return any(overlap(a, b) for a, b in pairs)


def overlap(one: Term, other: Term) -> bool:
    """Whether two terms are one, or one of them is a part of the other."""
    return one == other or (one.whole == other.whole and not (one.part and other.part))


def _meet(one: Positions, other: Positions, read: int) -> bool:
    """Whether two sets of positions may share one; a position read from the end may be any."""
    listed = [set(at) for at in (one, other) if not isinstance(at, str)]
    if len(listed) == 2:
        return bool(listed[0] & listed[1])
    if not listed or "all" in (one, other):
        return True
    return read < 0 or read in listed[0]
