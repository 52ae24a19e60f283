"""Other versions of a hypothesis that are worth testing next."""

from __future__ import annotations

from collections.abc import Sequence

from interp.analyses._scrubbing_result import Result
from interp.explanations.hypothesis import EXACT, SEPARATE, SHARED, Hypothesis, Node
from interp.explanations.words import label


def variations(hypothesis: Hypothesis, result: Result) -> Sequence[tuple[str, Hypothesis]]:
    """List versions worth testing next: a claim less, the label less, other sampling."""
    nodes = {node.id: (node, above) for node, above in hypothesis.nodes()}
    versions: list[tuple[str, Hypothesis]] = []
    paid = [one for one in result.found.claims if one.what == "agree" and one.low > 0]
    if paid:
        dear = max(paid, key=lambda one: one.after - one.before)
        node, above = nodes[dear.node]
        exact = node.model_copy(update={"agree": EXACT})
        versions.append((f"Let all of {label(node, above)} through", _version(hypothesis, exact)))
    for name in result.found.budget.leaking_nodes[:2]:
        if name != hypothesis.graph.id:
            changed = hypothesis.replaced(name, None)
            versions.append((f"Without {label(*nodes[name])}", _before(changed, hypothesis)))
    graph = hypothesis.graph
    if graph.other in (SHARED, SEPARATE):
        other = SEPARATE if graph.other == SHARED else SHARED
        told = "another random input for each part" if other == SEPARATE else "one random input"
        versions.append(
            (
                f"The rest from {told}",
                _version(hypothesis, graph.model_copy(update={"other": other})),
            )
        )
    return versions


def _version(hypothesis: Hypothesis, node: Node) -> Hypothesis:
    """Return a hypothesis with a node exchanged, linked to the one before."""
    if node.id == hypothesis.graph.id:
        return _before(hypothesis.model_copy(update={"graph": node}), hypothesis)
    return _before(hypothesis.replaced(node.id, node), hypothesis)


def _before(changed: Hypothesis, hypothesis: Hypothesis) -> Hypothesis:
    return changed.model_copy(update={"before": hypothesis.hash})
