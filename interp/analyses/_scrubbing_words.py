"""What a test of a hypothesis says, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from interp.analyses._scrubbing_claims import (
    against_chance,
    claim_in_words,
    drawn,
    percent,
    standing,
    what_moves,
)
from interp.analyses._scrubbing_result import Result, against_constant, loss_interval
from interp.explanations.words import label
from interp.methods.scrubbing.budget import Leak
from interp.methods.scrubbing.found import Without
from interp.scores import Interval

LEAST_COST = 0.1
"""Nats below which a node counts as not used."""
_MOST = 3
"""Features that are named one by one."""


def verdict(result: Result) -> str:
    """Read the loss on its scale, what it owes to the label, its dearest claim, what is next."""
    done = result.found.measured.done
    said = f"Partial ({percent(done)} of the draws): " if done < 1 else ""
    if not np.isfinite(result.found.measured.loss).any():
        return f"{said}nothing is scrubbed so far."
    parts = [_loss(result), _named(result), _leaks(result), _nulls(result), _dearest(result)]
    text = " ".join(part for part in (*parts, _unused(result), _next(result)) if part)
    return f"{said}{text[0].lower()}{text[1:]}" if said else text


def _loss(result: Result) -> str:
    """Say the loss, and how far that is from the floor to the model, beside a constant guess."""
    bounds, (floor, _) = loss_interval(result), result.floor
    said = f" (95 %: {bounds.low:.3g} to {bounds.high:.3g})" if isinstance(bounds, Interval) else ""
    said = f"Scrubbed, the loss is {result.loss:.3g} nats{said}"
    if not result.tested:
        return f"{said}; exchanging what it names costs nothing, so there is nothing to recover."
    low = float(result.floor[1].mean())
    said = (
        f"{said}: {percent(result.recovered)} of the way from {floor} ({low:.2g}) to the model "
        f"({result.model:.2g})"
    )
    if result.rest_stays:
        return f"{said}."
    bounds = against_constant(result)
    guess = f"a constant guess ({result.constant:.2g}, {percent(result.of_constant)})"
    if not isinstance(bounds, Interval):
        sure = ", on too few references to be sure"
        return f"{said}, {'worse' if result.guesses_better else 'better'} than {guess}{sure}."
    if bounds.low <= 0 <= bounds.high:
        return f"{said}, not to be told from {guess}."
    return f"{said}, {'worse' if result.guesses_better else 'better'} than {guess}."


def _named(result: Result) -> str:
    """Say where the model hardly needs what is named."""
    lost = float(result.found.exchanged.mean()) - result.model if result.found.exchanged.size else 1
    if result.rest_stays or lost > LEAST_COST:
        return ""
    return (
        f"Exchanging only what it names costs the model {lost:.2g} nats: it hardly relies on these "
        "parts."
    )


def _leaks(result: Result) -> str:
    """Say through what the label passes, what that makes of the score, and what is without."""
    leaks = result.found.budget.leaks
    if not leaks:
        return ""
    nodes = {node.id: (node, above) for node, above in result.claimed.nodes()}
    sets = [" with ".join(label(*nodes[group[0]]) for group in leak.groups) for leak in leaks]
    whole = all(leak.kind == "identity" for leak in leaks)
    said = (
        f"{'Nearly the whole input, with the label,' if whole else 'The label'} passes through "
        f"{', or '.join([*sets[:2], *(['others'] * (len(sets) > 2))])}, so a high score could come "
        "from telling the answer"
    )
    worst = _worst(result, leaks)
    if worst is None:
        return f"{said}."
    told = f"{said}: with {label(*nodes[worst.node])} from any input the loss is {worst.loss:.3g}"
    share = f", {percent(result.share(worst.loss))} of the way" if result.tested else ""
    still = [
        some for some, leak in zip(sets, leaks, strict=True) if (worst.node,) not in leak.groups
    ]
    return f"{told}{share}{f' ({still[0]} can still tell it)' if still else ''}."


def _worst(result: Result, leaks: tuple[Leak, ...]) -> Without | None:
    """Return the test without the node that helps most to let the label through."""
    # A node beside which another passes the same is no test: the label still passes.
    alone = {group[0] for leak in leaks for group in leak.groups if len(group) == 1}
    without = [one for one in result.found.without if one.node in alone]
    return max(without, key=lambda one: one.loss, default=None)


def _nulls(result: Result) -> str:
    said: list[str] = []
    for values, what in (
        (result.found.sites, f"the {what_moves(result.claimed)} at random sites"),
        (result.found.features, "random features of the data at its own"),
    ):
        random = drawn(values)
        if len(random):
            better, p = standing(result.loss, random)
            chance = against_chance(p)
            said.append(f"{better} with {what} (p = {p:.2g}{f': {chance}' if chance else ''})")
    return f"Of random hypotheses, it beats {' and '.join(said)}." if said else ""


def _dearest(result: Result) -> str:
    paid = [one for one in result.found.claims if one.low > 0]
    if not paid or not result.priced:
        return ""
    dear = max(paid, key=lambda one: one.after - one.before)
    return (
        f"The dearest claim is that {claim_in_words(result.claimed, dear)} "
        f"({dear.after - dear.before:+.2g} nats)."
    )


def _unused(result: Result) -> str:
    """Name what can be read off sites although nothing depends on it there."""
    # What happens in a model that is worse than a guess says little about use.
    found = [] if result.guesses_better else list(_readable(result))
    if not found:
        return ""
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return f"Decodable, but not used: {'; '.join(found[:_MOST])}{more}."


def _readable(result: Result) -> Iterator[str]:
    nodes = {node.id: (node, above) for node, above in result.claimed.nodes()}
    more = {one.node: one for one in result.found.without}
    for probe in result.found.probes:
        readable = probe.low > max(probe.majority, probe.tokens)
        if readable and probe.node in more and more[probe.node].more_high < LEAST_COST:
            yield f"{probe.feature} at {label(*nodes[probe.node])}"


def _next(result: Result) -> str:
    if result.found.measured.done < 1:
        return ""
    if not result.guesses_better:
        return "Next: try to break it with inputs made from its own features."
    if not result.priced:
        return ""
    paid = max(result.found.claims, key=lambda one: one.after - one.before, default=None)
    if paid is not None and paid.node == result.claimed.graph.id:
        return "Next: look up in Roles which parts act on the loss, and name these too."
    return "Next: let more through at the dearest claim, or look at where it fails worst."
