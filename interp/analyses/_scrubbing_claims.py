"""Claims of a hypothesis, one by one, in words."""

from __future__ import annotations

from interp.explanations.hypothesis import Hypothesis
from interp.explanations.words import label
from interp.methods.scrubbing.found import Paid


def claim_in_words(hypothesis: Hypothesis, paid: Paid) -> str:
    """Say one claim: what does not matter, or through what something matters."""
    nodes = {node.id: (node, above) for node, above in hypothesis.nodes()}
    node, above = nodes[paid.node]
    name = "the logits" if above is None else label(node, above)
    if paid.what == "rest":
        named = " and ".join(label(child) for child in node.children)
        reads = f"{name} read" if above is None else f"{name} reads"
        return f"nothing {'else that ' if named else ''}{reads} matters"
    verb = "matter" if above is None else "matters"
    if not node.features:
        return f"{name} may come from any input"
    return f"{name} {verb} only through {' and '.join(node.features)}"
