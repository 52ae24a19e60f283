"""Other versions of a hypothesis that are worth testing next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.analyses._scrubbing_result import Result, loss_interval
from interp.explanations.hypothesis import EXACT, SEPARATE, SHARED, Hypothesis, Node
from interp.explanations.words import label
from interp.figures.named import NamedFigure
from interp.figures.scale import Mark, scale
from interp.methods.scrubbing.intervals import of_mean
from interp.scores import Interval


def compared(steps: Sequence[tuple[Any, Result]]) -> NamedFigure | None:
    """Draw a version beside those before it, and say what the last change did."""
    asked = [(spec, result) for spec, result in steps if np.isfinite(result.loss)]
    if len(asked) < 2:
        return None
    (_, then), (_, now) = asked[-2:]
    marks = [
        Mark(f"{len(asked) - 1 - k} before: {short(result.claimed)}", result.loss, ends(result))
        for k, (_, result) in enumerate(asked[:-1])
    ]
    return NamedFigure(
        "versions",
        "Versions of this hypothesis",
        _difference(then, now),
        scale(
            now.loss,
            ends(now),
            [Mark("the model", now.model), Mark("best constant guess", now.constant)],
            unit="nats",
            title_of_x="mean cross-entropy loss, nats (lower is better)",
            versions=marks[::-1],
        ),
        wide=True,
    )


def _difference(then: Result, now: Result) -> str:
    """Say by how much the loss changed, paired where references and draws are the same."""
    a, b = then.found.measured.loss, now.found.measured.loss
    same = a.shape == b.shape and np.array_equal(then.refs, now.refs) and then.inputs == now.inputs
    change = now.loss - then.loss
    if not same or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return f"Against the version before: {change:+.3g} nats, on other references or draws."
    bounds = of_mean(b - a, np.random.default_rng(0), now.found.groups)
    said = (
        f" (95 %: {bounds.low:+.3g} to {bounds.high:+.3g})" if isinstance(bounds, Interval) else ""
    )
    return (
        f"Against the version before: {change:+.3g} nats{said}, on the same references and draws."
    )


def short(hypothesis: Hypothesis) -> str:
    """Name a hypothesis by its first claims: "L1H0: counts · L2H1: horizon"."""
    first = hypothesis.graph.children[:3]
    said = [f"{label(node)}: {', '.join(node.features) or node.agree}" for node in first]
    more = " · …" if len(hypothesis.graph.children) > len(first) else ""
    return (" · ".join(said) or "nothing claimed") + more


def ends(result: Result) -> tuple[float, float] | None:
    """Return the ends of the loss' interval, if it has one."""
    bounds = loss_interval(result)
    return (bounds.low, bounds.high) if isinstance(bounds, Interval) else None


def variations(hypothesis: Hypothesis, result: Result) -> Sequence[tuple[str, Hypothesis]]:
    """List versions worth testing next: a claim less, the label less, other sampling."""
    nodes = {node.id: (node, above) for node, above in hypothesis.nodes()}
    versions: list[tuple[str, Hypothesis]] = []
    paid = [one for one in result.found.claims if one.low > 0 and one.node != hypothesis.graph.id]
    for what, words, field in (
        ("agree", "Let all of {} through", "agree"),
        ("rest", "Keep what else {} reads", "other"),
    ):
        of = [one for one in paid if one.what == what]
        if of:
            dear = max(of, key=lambda one: one.after - one.before)
            node, above = nodes[dear.node]
            changed = node.model_copy(update={field: EXACT})
            said = words.format(label(node, above))
            versions.append((said, _version(hypothesis, changed)))
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
