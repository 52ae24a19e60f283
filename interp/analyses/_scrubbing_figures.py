"""How a test of a hypothesis is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from interp.analyses._scrubbing_claims import (
    against_chance,
    claim_in_words,
    drawn,
    null_of_sites,
    standing,
)
from interp.explanations.hypothesis import SEPARATE, SHARED
from interp.explanations.presets import same_as
from interp.explanations.words import label, sentence
from interp.figures import estimates
from interp.figures.decodable import Claim, used_and_decodable
from interp.figures.named import NamedFigure
from interp.figures.placeholder import placeholder
from interp.figures.scale import Band, Mark, scale
from interp.figures.waterfall import Step, waterfall
from interp.methods.scrubbing import nulls
from interp.methods.scrubbing.found import MOST_OF_NULL
from interp.methods.scrubbing.intervals import spread
from interp.scores import Absent, Interval

if TYPE_CHECKING:
    from interp.analyses._scrubbing_result import Result

_FLOORS = {
    "shuffled": "shuffled answers",
    "constant": "best constant guess",
    "empty, one draw for all": "nothing claimed, one draw for all",
    "empty, separate draws": "nothing claimed, separate draws",
    "what is named exchanged": "what is named exchanged",
    "rest at zero": "the rest at zero",
    "rest at mean": "the rest at its mean",
}
_WORSE = 0.1
"""Change of a loss, in nats, from which an input counts as changed."""
_WORST = 12
_POINTS = 60
_LOSS = "mean cross-entropy loss, nats"
_ON_SCALE = f"{_LOSS} (lower is better)"
_RISE = "rise of the scrubbed model's loss, nats"
_CHANGE = "change of the loss, nats (> 0 is worse)"
_REFS = "evaluations: references × draws"
_SO_FAR = "mean loss so far, nats"
_DIFFERENCES = ("the model's logit difference", "scrubbed logit difference, mean over draws")
_NOT_REACHED = "The run has not reached this, or ended before it."


def figures(result: Result, bounds: Interval | Absent) -> list[NamedFigure]:
    """Draw the scale; then claims, decodable and used, the estimate, inputs, slices, bits."""
    featured = any(node.features for node, above in result.claimed.nodes() if above is not None)
    foils = bool(np.isfinite(result.found.measured.model[2]).any())
    begun = bool(np.isfinite(result.loss))
    every: list[NamedFigure] = [_scale(result, bounds)]
    for name, title, draw, titles, there in (
        ("claims", "Which claim costs how much?", _claims, (_LOSS, ""), True),
        ("used", "Decodable, and used?", _used, (f"held-out accuracy; {_RISE}", ""), featured),
        ("running", "The estimate as it came in", _running, (_REFS, _SO_FAR), True),
        ("against", "Input by input", _against, _DIFFERENCES, foils),
        ("slices", "By kinds of inputs", _slices, (_ON_SCALE, ""), True),
        ("changes", "Where it fails", _changes, (_CHANGE, "inputs (log scale)"), True),
    ):
        if there:
            empty = NamedFigure(name, title, _NOT_REACHED, placeholder(titles), wide=True)
            every.append((draw(result) if begun else None) or empty)
    return every


def _scale(result: Result, bounds: Interval | Absent) -> NamedFigure:
    found = result.found
    anchors = [Mark("the model", result.model), Mark("shuffled answers", result.shuffled)]
    anchors.append(Mark("best constant guess", result.constant))
    anchors += [
        Mark(_FLOORS[one.name], one.loss)
        for one in found.floors
        if one.name not in ("shuffled", "constant") and one.loss is not None
    ]
    leaking = set(found.budget.leaking_nodes)
    nodes = {node.id: (node, above) for node, above in result.claimed.nodes()}
    versions = [
        Mark(
            f"{label(*nodes[one.node])} from any input",
            one.loss,
            (one.low, one.high),
            "it lets the label through, alone or with others",
        )
        for one in found.without
        if one.node in leaking
    ]
    preset = same_as(result.claimed)
    published = preset.published if preset is not None else ()
    versions += [
        Mark(
            "published, other weights",
            one.loss,
            (one.loss - 1.96 * one.se, one.loss + 1.96 * one.se) if one.se else None,
            one.source,
        )
        for one in published
        if one.loss is not None
    ]
    bands = [] if found.no_sites else [_band(null_of_sites(result.claimed), found.sites, result)]
    if not found.no_features:
        bands.append(_band(nulls.FEATURES, found.features, result))
    shown = scale(
        result.loss,
        (bounds.low, bounds.high) if isinstance(bounds, Interval) else None,
        anchors,
        bands,
        unit="nats",
        title_of_x=_ON_SCALE,
        versions=versions,
        percent=(
            Mark(result.floor[0], float(result.floor[1].mean())),
            Mark("the model", result.model),
        ),
    )
    return NamedFigure("scale", "What the number means", _caption(result), shown)


def _band(name: str, values: np.ndarray, result: Result) -> Band:
    done = drawn(values)
    if not len(values):
        return Band(name, done, "none asked for")
    if not len(done) or not np.isfinite(result.loss):
        return Band(name, done)
    better, p = standing(result.loss, done)
    # Spaces that no line is broken at.
    said = f": {against_chance(p)}" if p >= 0.5 else f", p\u00a0=\u00a0{p:.2g}"
    return Band(name, done, f"better than {better}{said}")


def _caption(result: Result) -> str:
    graph = result.claimed.graph
    others = {SHARED: "one random input for all", SEPARATE: "a random input of its own for each"}
    how = others.get(graph.other, "as in the model" if graph.other == "exact" else graph.other)
    found = result.found
    draws = len(found.measured.loss)
    said = [
        f"{len(result.refs):,} references ({result.references}), {draws} "
        f"draw{'s' * (draws > 1)} of each from {result.drawn_from:,} inputs; what is not named at "
        f"the logits: {how}.",
        f"Inputs: {result.inputs}",
    ]
    preset = same_as(result.claimed)
    if preset is not None and preset.published:
        shares = [
            f"{100 * one.recovered:.0f} % ({one.source})"
            for one in preset.published
            if one.recovered is not None
        ]
        told = f"Published: {'; '.join(shares)} recovered. " if shares else ""
        said.append(f"{told}{preset.why_different}")
    if result.claimed.swap_prob < 1:
        said.append(f"Exchanges are made with probability {result.claimed.swap_prob:g}.")
    budget = found.budget
    said.append(
        f"Bits let through: {budget.channel_bits:.2f} by the nodes' classes, "
        f"{budget.structure_bits:.1f} to name the sites; {budget.joint_label_bits:.2f} of the "
        f"label's {budget.label_bits:.2f} bits pass in {budget.joint_classes:,} joint classes."
    )
    few = min(MOST_OF_NULL, result.drawn_from)
    if len(drawn(found.sites)) + len(drawn(found.features)):
        said.append(f"Random hypotheses: one draw each, on the first {few:,} inputs.")
    said += [found.no_sites and f"No null of random sites: {found.no_sites}."]
    said += [found.no_features and f"No null of random features: {found.no_features}."]
    said += [*budget.warnings, budget.unsearched]
    return " ".join(part for part in said if part)


def _claims(result: Result) -> NamedFigure | None:
    steps = [
        Step(
            claim_in_words(result.claimed, one),
            one.before,
            one.after,
            (one.low, one.high),
            depth=one.depth,
        )
        for one in result.found.claims
    ]
    if not steps:
        return None
    ends = ("the model", "the hypothesis" if result.priced else "so far")
    return NamedFigure(
        "claims",
        "Which claim costs how much?",
        "Claims are made one after another, from the logits down; what is not claimed yet stays as "
        "in the model. Costs depend on this order and add up to the whole; 95 % intervals, paired "
        "by reference and draw. Click a bar for its node.",
        waterfall(steps, unit="nats", title=_LOSS, ends=ends),
        selectable=True,
        texts=tuple(
            (label(node, above), sentence(node, above)) for node, above in result.claimed.nodes()
        ),
        wide=True,
    )


def _used(result: Result) -> NamedFigure | None:
    nodes = {node.id: (node, above) for node, above in result.claimed.nodes()}
    more = {one.node: one for one in result.found.without}
    rows = [
        Claim(
            f"{probe.feature} at {label(*nodes[probe.node])}",
            probe.accuracy,
            probe.majority,
            probe.tokens,
            (probe.low, probe.high),
            more[probe.node].more,
            (more[probe.node].more_low, more[probe.node].more_high),
            judged=not result.guesses_better,
        )
        for probe in result.found.probes
        if probe.node in more
    ]
    if not rows:
        return None
    others = "; ".join(
        f"{label(*nodes[one.node])}: {one.reason}" for one in result.found.not_probed[:4]
    )
    said = [
        "Left: how often a linear probe of the site finds the feature on inputs that it was not "
        "trained on, beside the most frequent class and the same linear probe of token counts. "
        "Right: how much the scrubbed model's loss rises when any input may stand for the node; "
        f"the dotted line is at {_WORSE:g} nats: what is surely below it counts as not used. "
        "Lines: 95 %. Filled: surely above both baselines, or above 0.",
    ]
    if result.guesses_better:
        said.append(
            f"Use is not judged here: the scrubbed model ({result.loss:.2g} nats) is worse than a "
            f"constant guess ({result.constant:.2g})."
        )
    if others:
        said.append(f"Not probed: {others}.")
    return NamedFigure(
        "used",
        "Decodable, and used?",
        " ".join(said),
        used_and_decodable(rows, title=_RISE, least=_WORSE),
        wide=True,
    )


def _running(result: Result) -> NamedFigure:
    """Draw the estimate as references came in, in the order of the computation."""
    done = result.found.measured.loss
    flat = done[np.isfinite(done)]
    at = np.unique(np.linspace(min(20, len(flat)), len(flat), _POINTS).astype(int))
    total, square = np.cumsum(flat), np.cumsum(flat**2)
    mean = total[at - 1] / at
    sd = np.sqrt(np.maximum(square[at - 1] / at - mean**2, 0) / at)
    # Behind the first draw of all references those of one reference depend on each other.
    both = spread(done[:, np.isfinite(done).all(0)]) if len(flat) == done.size else None
    if both is not None:
        refs, draws = np.minimum(at, done.shape[1]), np.maximum(at / done.shape[1], 1)
        late = at > done.shape[1]
        sd[late] = np.sqrt(both.inputs / refs + both.draws / (refs * draws))[late]
    marks = [Mark("the model", result.model), Mark("best constant guess", result.constant)]
    marks.append(Mark("shuffled answers", result.shuffled))
    return NamedFigure(
        "running",
        "The estimate as it came in",
        "References in their order, then further draws of all of them."
        + _parts_of_variance(result),
        estimates.running(
            at,
            mean,
            mean - 1.96 * sd,
            mean + 1.96 * sd,
            marks=marks,
            title=_SO_FAR,
        ),
        wide=True,
    )


def _parts_of_variance(result: Result) -> str:
    done = result.found.measured.loss
    if not np.isfinite(done).all() or len(done) < 2 or done.shape[1] < 2:
        return ""
    parts = spread(done)
    of_inputs = parts.inputs / done.shape[1]
    of_draws = parts.draws / done.size
    more = "inputs" if of_inputs > of_draws else "draws"
    return (
        f" Of the estimate's variance {of_inputs:.2g} come from inputs and {of_draws:.2g} from "
        f"draws (nats²): more {more} would narrow the interval most."
    )


def _against(result: Result) -> NamedFigure | None:
    done = result.found.measured.complete
    diff, own = result.found.measured.diff, result.found.measured.model[2]
    seen = np.isfinite(diff).any(0) & np.isfinite(own)
    if not seen.any() or not done.loss.size:
        return None
    shown = result.shown[seen[result.shown]]
    mean, sd = np.nanmean(diff[:, shown], 0), np.nanstd(diff[:, shown], 0)
    dots = estimates.against(
        own[shown],
        mean,
        sd,
        [result.names[i] if result.names[i] else str(i) for i in result.labels[shown]],
        ["".join(result.shown_tokens[i]) for i in np.flatnonzero(seen[result.shown])],
        titles=_DIFFERENCES,
    )
    gap = done.of("gap")
    return NamedFigure(
        "against",
        "Input by input",
        f"Logit of the right answer minus that of the foil; {len(shown)} of {len(own):,} "
        f"references, half of them those that lose most. Over all: mean change "
        f"{np.nanmean(gap):.2f} logits, KL(model ‖ scrubbed) {done.kl.mean():.2f} nats, "
        f"{_accuracy(result, done.right, np.arange(done.right.shape[1]))}.",
        dots,
        wide=True,
    )


def _changes(result: Result) -> NamedFigure | None:
    done = result.found.measured.complete
    if not done.loss.size:
        return None
    change = done.loss.mean(0) - done.model[0]
    order = np.argsort(-(np.nan_to_num(result.found.measured.loss).mean(0)), kind="stable")
    places = {int(ref): i for i, ref in enumerate(result.shown)}
    worst = [int(ref) for ref in order if int(ref) in places][:_WORST]
    return NamedFigure(
        "changes",
        "Where it fails",
        f"Change of each reference's loss, draws averaged. A mean near the model's may hide inputs "
        f"that get worse and others that get better: they are counted from {_WORSE} nats on.",
        estimates.changes(change, delta=_WORSE, title=_CHANGE),
        texts=tuple((f"#{ref}", one_input(result, ref)) for ref in worst),
        wide=True,
    )


def one_input(result: Result, ref: int) -> str:
    """Say what happens to one reference."""
    found = result.found.measured
    places = np.flatnonzero(result.shown == ref)
    text = "".join(result.shown_tokens[places[0]]) if len(places) else f"input {ref}"
    name = result.names[result.labels[ref]] or str(result.labels[ref])
    return (
        f"{text}: right is {name}; loss {np.nanmean(found.loss[:, ref]):.2f} nats scrubbed, "
        f"{found.model[0, ref]:.2g} in the model."
    )


def _accuracy(result: Result, right: np.ndarray, refs: np.ndarray) -> str:
    """Say an accuracy beside those of the model and of the most frequent answer of all."""
    return (
        f"accuracy {right.mean():.3f} (model {result.found.measured.model[1, refs].mean():.3f}, "
        f"most frequent answer {result.usual[refs].mean():.2f})"
    )


def _slices(result: Result) -> NamedFigure | None:
    done = result.found.measured
    if not np.isfinite(done.loss).all():
        return None
    rows: list[tuple[str, str]] = []
    marks: list[Mark] = []
    for name, members in zip(result.slice_names, result.slices, strict=True):
        if members.sum() < 2:
            continue
        loss, refs, called = done.loss[:, members], np.flatnonzero(members), _slice(name)
        half = 1.96 * float(loss.mean(0).std(ddof=1)) / np.sqrt(len(refs))
        mean, guess = float(loss.mean()), _guess(result, refs)
        ends = (mean - half, mean + half)
        marks.append(Mark(f"{called} ({len(refs):,})", mean, ends, level=guess))
        said = _accuracy(result, done.right[:, members], refs)
        rows.append((called, f"{said}, loss {mean:.3f} nats (constant guess {guess.value:.3f})"))
    return NamedFigure(
        "slices",
        "By kinds of inputs",
        "Mean loss of the references that have each property, 95 % intervals. Grey bars: the best "
        "constant guess of all, on these references.",
        scale(
            result.loss,
            None,
            [Mark("the model", result.model)],
            unit="nats",
            title_of_x=_ON_SCALE,
            versions=marks,
            level=_guess(result, np.arange(len(result.refs))),
        ),
        texts=tuple(rows),
        wide=True,
    )


def _slice(name: str) -> str:
    """Call a kind of inputs by its feature of two values: "count: true" for "count = 1"."""
    feature, _, value = name.rpartition(" = ")
    return f"{feature}: {'true' if value == '1' else 'false'}" if feature else name


def _guess(result: Result, refs: np.ndarray) -> Mark:
    """Return the loss of the best constant guess, one for all inputs, on some references."""
    return Mark("best constant guess", float(result.found.constant[refs].mean()))
