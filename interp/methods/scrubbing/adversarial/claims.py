"""Parts of a hypothesis as hypotheses of their own, to be attacked one at a time (torch-free)."""

from __future__ import annotations

from interp.errors import UnknownName
from interp.explanations.hypothesis import EXACT, SAME_AS, Hypothesis, Node
from interp.explanations.terms import ROOT


def excluded_only(hypothesis: Hypothesis) -> Hypothesis:
    """Return the hypothesis with all that it names exact: only what it leaves out is exchanged."""
    return hypothesis.model_copy(update={"graph": _exact(hypothesis.graph)})


def _exact(node: Node) -> Node:
    children = tuple(_exact(child) for child in node.children)
    return node.model_copy(update={"agree": EXACT, "pool": None, "children": children})


def claim_only(hypothesis: Hypothesis, name: str) -> Hypothesis:
    """Return the hypothesis that makes one claim: all but that node and what is below it is exact.

    Args:
        hypothesis: The hypothesis.
        name: Id of a node.

    Raises:
        UnknownName: There is no such node, or it is the root, which is no claim.
    """
    names = [node.id for node, above in hypothesis.nodes() if above is not None]
    if name not in names:
        raise UnknownName.of("claim", name, names)
    graph = _path(hypothesis.graph, name)
    assert graph is not None
    return hypothesis.model_copy(update={"graph": graph})


def _path(node: Node, name: str) -> Node | None:
    """Return the way from a node down to the one that is kept as it is."""
    if node.id == name:
        return _own(node, {below.id for below in _below(node)})
    found = [way for child in node.children if (way := _path(child, name)) is not None]
    if not found:
        return None
    exact = {"agree": EXACT, "other": EXACT, "pool": None, "children": tuple(found)}
    return node.model_copy(update=exact)


def _own(node: Node, known: set[str]) -> Node:
    """Draw anew what was drawn as for a node that is exact now."""
    children = tuple(_own(child, known) for child in node.children)
    far = node.other.startswith(SAME_AS) and node.other.removeprefix(SAME_AS) not in known
    return node.model_copy(update={"other": "shared" if far else node.other, "children": children})


def _below(node: Node) -> list[Node]:
    return [node, *(one for child in node.children for one in _below(child))]


def exchanges(hypothesis: Hypothesis) -> bool:
    """Whether a hypothesis allows anything to be exchanged."""
    return any(
        node.agree != EXACT or ((node.site == ROOT or bool(node.children)) and node.other != EXACT)
        for node, _ in hypothesis.nodes()
    )
