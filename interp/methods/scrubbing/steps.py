"""Which claim costs how much: the claims of a hypothesis made one after another (torch-free).

Before any claim everything is as in the model. The first claim is that what is not named at the
logits does not matter; then, node by node from the logits down, that it matters only through its
features, and that of its inputs only its children matter. A claim that is not made yet leaves its
node as it is on the input of the node above. All steps use the same random numbers, so that the
costs add up to the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from interp.explanations.hypothesis import EXACT, Hypothesis, Node
from interp.explanations.terms import ROOT


@dataclass(frozen=True)
class Claim:
    """One claim, and the hypothesis with this claim and all before it.

    Attributes:
        node: Id of the node that it is about.
        what: "rest" (its other inputs do not matter) or "agree" (only its features matter).
        depth: Depth of the node; the logits have 0.
        upto: The hypothesis made so far.
    """

    node: str
    what: str
    depth: int
    upto: Hypothesis


def claims(hypothesis: Hypothesis) -> tuple[Claim, ...]:
    """List the claims of a hypothesis in order; claims that say nothing are left out."""
    order: list[tuple[Node, int, str]] = []
    _collect(hypothesis.graph, 0, order)
    made: set[tuple[str, str]] = set()
    found: list[Claim] = []
    for node, depth, what in order:
        made.add((node.id, what))
        graph = _upto(hypothesis.graph, made)
        upto = hypothesis.model_copy(update={"graph": graph})
        found.append(Claim(node.id, what, depth, upto))
    return tuple(found)


def _collect(node: Node, depth: int, order: list[tuple[Node, int, str]]) -> None:
    if node.agree != EXACT:
        order.append((node, depth, "agree"))
    if node.site == ROOT or node.children:
        order.append((node, depth, "rest"))
    for child in node.children:
        _collect(child, depth + 1, order)


def _upto(node: Node, made: set[tuple[str, str]]) -> Node:
    """Return a node with only those claims that are made."""
    changes: dict[str, object] = {}
    if (node.id, "agree") not in made:
        changes["agree"] = EXACT
    if (node.id, "rest") in made:
        changes["children"] = tuple(_upto(child, made) for child in node.children)
    elif node.site == ROOT:
        changes |= {"children": (), "other": EXACT}
    else:
        changes["children"] = ()
    return node.model_copy(update=changes)
