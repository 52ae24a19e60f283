"""What a test of a hypothesis says, in sentences."""

from __future__ import annotations

import numpy as np

from interp.analyses._scrubbing_result import Result, loss_interval
from interp.explanations.hypothesis import Hypothesis
from interp.explanations.words import label
from interp.methods.scrubbing.found import Paid
from interp.methods.scrubbing.nulls import rank
from interp.scores import Interval


def verdict(result: Result) -> str:
    """Read the loss, its scale, what it owes to the label, its dearest claim, and what is next."""
    found = result.found
    if not np.isfinite(found.measured.loss).any():
        return "Nothing is scrubbed yet."
    parts = [_loss(result), _constant(result), _nulls(result), _leaks(result), _dearest(result)]
    return " ".join(part for part in (*parts, _unused(result), _next(result)) if part)


def _loss(result: Result) -> str:
    found, bounds = result.found, loss_interval(result)
    said = f" (95 %: {bounds.low:.3g} to {bounds.high:.3g})" if isinstance(bounds, Interval) else ""
    n, draws = found.measured.complete.loss.shape[::-1]
    return (
        f"Scrubbed under this hypothesis the loss is {result.loss:.3g} nats{said} over {n:,} "
        f"references and {draws} draw{'s' if draws > 1 else ''}; the model has {result.model:.2g}, "
        f"the best constant guess {result.constant:.2g}, shuffled answers {result.shuffled:.2g}."
    )


def _constant(result: Result) -> str:
    share, bounds = result.recovered, loss_interval(result)
    told = f"{share:.0%} of the way from {result.floor[0]} back to the model"
    if not isinstance(bounds, Interval):
        return f"That is {told}."
    if bounds.low > result.constant:
        return (
            f"That is {told}, and still worse than ignoring the input: a constant guess would be "
            f"{result.of_constant:.0%} of the way."
        )
    if bounds.high < result.constant:
        return f"That is {told}; a constant guess would be {result.of_constant:.0%} of the way."
    return f"That is {told}, and cannot be told from a constant guess."


def _nulls(result: Result) -> str:
    said: list[str] = []
    for values, what in (
        (result.found.sites, "the same features at random sites"),
        (result.found.features, "random features of the data at these sites"),
    ):
        done = values[np.isfinite(values[:, 0]), 0]
        if len(done):
            place, of = rank(result.loss, done, larger_is_better=False)
            said.append(f"{place} of {of} among {what} (their median is {np.median(done):.2g})")
    return f"Its rank is {'; '.join(said)}." if said else ""


def _leaks(result: Result) -> str:
    budget = result.found.budget
    if not budget.leaks:
        return ""
    nodes = {node.id: (node, above) for node, above in result.claimed.nodes()}
    sets = [
        " with ".join(label(*nodes[group[0]]) for group in leak.groups) for leak in budget.leaks[:2]
    ]
    told = f"The label is determined by what {' or '.join(sets)} lets through"
    without = [one for one in result.found.without if one.node in budget.leaking_nodes]
    if not without:
        return f"{told}."
    worst = max(without, key=lambda one: one.loss)
    return f"{told}: without {label(*nodes[worst.node])} the loss is {worst.loss:.2g}."


def _dearest(result: Result) -> str:
    paid = [one for one in result.found.claims if one.low > 0]
    if not paid:
        return ""
    dear = max(paid, key=lambda one: one.after - one.before)
    return (
        f"The dearest claim is that {claim_in_words(result.claimed, dear)} "
        f"({dear.after - dear.before:+.2g} nats, 95 %: {dear.low:+.2g} to {dear.high:+.2g})."
    )


def claim_in_words(hypothesis: Hypothesis, paid: Paid) -> str:
    """Say one claim: what does not matter, or through what something matters."""
    nodes = {node.id: (node, above) for node, above in hypothesis.nodes()}
    node, above = nodes[paid.node]
    name = "the logits" if above is None else label(node, above)
    if paid.what == "rest":
        named = " and ".join(label(child) for child in node.children)
        return (
            f"nothing else that {name} reads matters" if named else f"nothing {name} reads matters"
        )
    if not node.features:
        return f"{name} does not matter"
    return f"{name} matters only through {' and '.join(node.features)}"


def _unused(result: Result) -> str:
    """Name a feature that can be read off a site although nothing depends on it there."""
    nodes = {node.id: (node, above) for node, above in result.claimed.nodes()}
    more = {one.node: one for one in result.found.without}
    for probe in result.found.probes:
        readable = probe.low > max(probe.majority, probe.tokens)
        if readable and probe.node in more and more[probe.node].more_low <= 0:
            return (
                f"{probe.feature} can be read off {label(*nodes[probe.node])} (accuracy "
                f"{probe.accuracy:.2f}, most frequent class {probe.majority:.2f}, tokens alone "
                f"{probe.tokens:.2f}), but leaving it out costs nothing: decodable, not used."
            )
    return ""


def _next(result: Result) -> str:
    if result.found.measured.done < 1:
        return ""
    if result.loss < result.constant:
        return "Next: try to break it with inputs made from its own features."
    return "Next: leave the dearest claim out, or look at where it fails worst."
