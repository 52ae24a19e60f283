"""What a test of a hypothesis says, in sentences."""

from __future__ import annotations

import numpy as np

from interp.analyses._scrubbing_claims import claim_in_words
from interp.analyses._scrubbing_result import Result, against_constant, loss_interval
from interp.explanations.words import label
from interp.methods.scrubbing.nulls import rank
from interp.scores import Interval

LEAST_COST = 0.1
"""Nats below which a node counts as not used."""


def verdict(result: Result) -> str:
    """Read the loss, its scale, what it owes to the label, its dearest claim, and what is next."""
    found = result.found
    if not np.isfinite(found.measured.loss).any():
        return "Nothing is scrubbed yet."
    parts = [_loss(result), _constant(result), _named(result), _nulls(result)]
    parts += [_leaks(result), _dearest(result)]
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
    if not result.tested:
        return "Exchanging what it names costs nothing, so there is nothing to recover."
    share = result.recovered + 0.0
    told = f"{share:.0%} of the way from {result.floor[0]} back to the model".replace("-0%", "0%")
    if result.rest_stays:
        return f"That is {told}."
    bounds, guess = against_constant(result), f"{result.of_constant:.0%} of the way"
    more = result.loss - result.constant
    if isinstance(bounds, Interval) and bounds.low <= 0 <= bounds.high:
        return f"That is {told}, and cannot be told from a constant guess."
    sure = "" if isinstance(bounds, Interval) else " (there are too few references to be sure)"
    if more > 0:
        return (
            f"That is {told}, and still worse than ignoring the input{sure}: a constant guess "
            f"would be {guess}."
        )
    return f"That is {told}; a constant guess would be {guess}{sure}."


def _named(result: Result) -> str:
    """Say where the model hardly needs what is named."""
    lost = float(result.found.exchanged.mean()) - result.model if result.found.exchanged.size else 1
    if result.rest_stays or lost > LEAST_COST:
        return ""
    return (
        f"Exchanging all that it names, and nothing else, costs the model only {lost:.2g} nats: "
        "these are not the parts that it relies on."
    )


def _nulls(result: Result) -> str:
    said: list[str] = []
    featured = any(node.features for node, _ in result.claimed.nodes())
    same = "the same features" if featured else "the same tree"
    for values, what in (
        (result.found.sites, f"{same} at random sites"),
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
    every = budget.leaks[:2]
    whole = all(leak.kind == "identity" for leak in every)
    told = f"The label is determined by what {' or '.join(sets)} lets through"
    told = f"{told}, which is nearly the whole input" if whole else told
    # A node beside which another passes the same is no test: the label still passes.
    alone = {group[0] for leak in every for group in leak.groups if len(group) == 1}
    without = [one for one in result.found.without if one.node in alone]
    if not without or len(every) > 1:
        return f"{told}."
    worst = max(without, key=lambda one: one.loss)
    name = label(*nodes[worst.node])
    return f"{told}: with {name} from any input the loss is {worst.loss:.2g}."


def _dearest(result: Result) -> str:
    paid = [one for one in result.found.claims if one.low > 0]
    if not paid:
        return ""
    dear = max(paid, key=lambda one: one.after - one.before)
    return (
        f"The dearest claim is that {claim_in_words(result.claimed, dear)} "
        f"({dear.after - dear.before:+.2g} nats, 95 %: {dear.low:+.2g} to {dear.high:+.2g})."
    )


def _unused(result: Result) -> str:
    """Name a feature that can be read off a site although nothing depends on it there."""
    nodes = {node.id: (node, above) for node, above in result.claimed.nodes()}
    more = {one.node: one for one in result.found.without}
    for probe in result.found.probes:
        readable = probe.low > max(probe.majority, probe.tokens)
        if readable and probe.node in more and more[probe.node].more_high < LEAST_COST:
            return (
                f"{probe.feature} can be read off {label(*nodes[probe.node])} (accuracy "
                f"{probe.accuracy:.2f}, most frequent class {probe.majority:.2f}, tokens alone "
                f"{probe.tokens:.2f}), but any input's will do there: decodable, not used."
            )
    return ""


def _next(result: Result) -> str:
    if result.found.measured.done < 1:
        return ""
    if result.loss < result.constant:
        return "Next: try to break it with inputs made from its own features."
    paid = max(result.found.claims, key=lambda one: one.after - one.before, default=None)
    if paid is not None and paid.node == result.claimed.graph.id:
        return "Next: look up in Roles which parts act on the loss, and name these too."
    return "Next: let more through at the dearest claim, or look at where it fails worst."
