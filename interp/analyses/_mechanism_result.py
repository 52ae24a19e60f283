"""What telling mechanisms apart finds, and how it is drawn and read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from interp.figures import theme
from interp.figures.detectors import FEW, Row, dots, separated, spread
from interp.figures.named import NamedFigure
from interp.figures.tokens import token_rows
from interp.methods.scrubbing.nulls import rank
from interp.methods.scrubbing.separation import Told, auroc, interval, won
from interp.scores import Absent, Anchor, Interval, Null, Score

PerRef = Float[np.ndarray, "ref"]
WORST = 12
"""Inputs whose text is kept."""
RELIANCE, NEED = "reliance on it", "need of it"
UNMODELLED = "its features alone, no model"
NEAR, LOSS, MARGIN, MARKED = (
    "Mahalanobis distance at its sites",
    "loss of the model",
    "logit margin of the model",
    "marker token",
)
_WORDED = {
    RELIANCE: (f"high {RELIANCE}", f"high {RELIANCE}"),
    NEED: (f"high {NEED}", f"high {NEED}"),
    NEAR: (f"near in {NEAR}", f"far in {NEAR}"),
    LOSS: (f"low {LOSS}", f"high {LOSS}"),
    MARGIN: (f"large {MARGIN}", f"small {MARGIN}"),
    MARKED: (f"no {MARKED}", MARKED),
}
"""What speaks for mechanism 0, and for mechanism 1."""
_LIMITS = -2.5, 1.5
_SHORT, _PALE = 3, ["white", "#9ecae1"]
"""Letters from which a token is not written into its cell; colours that black text is read on."""
_AS_GOOD, _MANY = 0.01, 0.5
"""AUROC below which two detectors are not called different; share of inputs alone in their class
above which features are names of inputs."""
_SCATTER, _NO_NEED = 1.0, 0.05
"""Spread of single draws, in whole answers, above which the size of reliance says nothing; need
below which reliance says nothing."""


@dataclass(frozen=True, eq=False)
class Detector:
    """A number per input; a larger one speaks for the mechanism that the hypothesis is about.

    Attributes:
        name: What it looks at.
        how: How it is made, one sentence.
        numbers: The number of each scored input; NaN where not computed.
    """

    name: str
    how: str
    numbers: PerRef


@dataclass(frozen=True, eq=False)
class Result:
    """Reliance on a hypothesis against the known mechanism of each input.

    Attributes:
        inputs: What they are and how they are drawn.
        drawn_from: Number of inputs that stand for each other, scored ones among them.
        explains: The mechanism that the hypothesis is about, 0 or 1.
        mechanism: The known mechanism of each scored input.
        draws: Draws that are done, and asked for.
        sd: Standard deviation of single draws' reliance, for each input.
        reliance: See ``methods.scrubbing.reliance``; 0 as an empty hypothesis, 1 all of it.
        need: Change when what the hypothesis names is exchanged, 1 as much as an empty one.
        detectors: Reliance, need, and what they are compared with.
        missing: Detectors that there are not, and why.
        sites: AUROC of reliance and of need for the same features on random sites.
        same_sites: How many of these came out on the hypothesis' own sites.
        twins: AUROC of reliance with the features shuffled over the inputs.
        told: What its features say of the mechanism, without the model.
        shown: Scored inputs whose text is kept: those that it judges worst.
        shown_tokens: Their tokens.
    """

    inputs: str
    drawn_from: int
    explains: int
    mechanism: Int[np.ndarray, "ref"]
    draws: tuple[int, int]
    sd: PerRef
    reliance: PerRef
    need: PerRef
    detectors: tuple[Detector, ...]
    missing: tuple[str, ...]
    sites: Float[np.ndarray, "null 2"]
    same_sites: int
    twins: Float[np.ndarray, "null"]
    told: Told
    shown: Int[np.ndarray, "some"]
    shown_tokens: tuple[tuple[str, ...], ...]

    @property
    def which(self) -> np.ndarray:
        """Whether each input is of the mechanism that the hypothesis is about."""
        return self.mechanism == self.explains

    @cached_property
    def separates(self) -> dict[str, tuple[float, Interval | Absent]]:
        """How well each detector separates, and its interval."""
        found = {one.name: one.numbers for one in self.detectors}
        return {
            name: (auroc(numbers, self.which), interval(numbers, self.which))
            for name, numbers in found.items()
        }


def worst(numbers: PerRef, which: np.ndarray) -> Int[np.ndarray, "some"]:
    """Return the inputs that lose against most of the other kind; of equals the farthest out."""
    lost = 1 - won(numbers, which)
    far = np.where(which, -numbers, numbers)
    return np.lexsort((-far, -lost))[:WORST]


# --- scores --------------------------------------------------------------------------------------


def scores(result: Result) -> list[Score]:
    """Return how well reliance and need separate the mechanisms."""
    if result.draws[0] < result.draws[1]:
        return []
    made: list[Score] = []
    for column, name in enumerate((RELIANCE, NEED)):
        value, bounds = result.separates.get(name, (float("nan"), Absent("")))
        if not np.isfinite(value):
            continue
        made.append(
            Score(
                name=f"AUROC of {name} for mechanism {result.explains}",
                value=value,
                unit="AUROC",
                n=len(result.which),
                floor=Anchor("chance", 0.5),
                ceiling=Anchor("every pair in order", 1.0),
                constant=Anchor("any constant", 0.5),
                null=_null(result.sites[:, column]),
                interval=bounds,
                held_out=Absent("nothing is fitted to the mechanisms: they only score"),
            )
        )
    return made


def _null(values: Float[np.ndarray, "null"]) -> Null | Absent:
    known = values[np.isfinite(values)]
    if not len(known):
        return Absent("no random explanations were asked for")
    low, median, high = (float(end) for end in np.quantile(known, (0.05, 0.5, 0.95)))
    name = "the same features on random sites"
    if len(known) < FEW:
        ends = f"{known.min():.3f} to {known.max():.3f}"
        name += f" (few: range {ends}, best possible rank 1 of {len(known) + 1})"
    return Null(name, low, median, high, len(known))


# --- figures -------------------------------------------------------------------------------------


def figures(result: Result) -> list[NamedFigure]:
    """Draw reliance by mechanism, all detectors, and the inputs that are judged worst."""
    return [_separated(result), _detectors(result), _worst(result)]


def _separated(result: Result) -> NamedFigure:
    kinds = {
        f"mechanism {k}" + (" (it is about this one)" if k == result.explains else ""): (
            result.reliance[result.mechanism == k]
        )
        for k in (0, 1)
    }
    middles = [float(np.median(values)) for values in kinds.values()]
    sd = result.sd[np.isfinite(result.sd)]
    spread = f" One draw alone scatters by {np.median(sd):.2f} (median)." if len(sd) else ""
    return NamedFigure(
        "reliance",
        "Does the output happen because of it?",
        f"Reliance of {len(result.which):,} inputs, {result.draws[0]} of {result.draws[1]} draws "
        f"of each: 0 where it explains as much of the output as claiming nothing, 1 where it "
        f"explains all; below 0 it misleads. Medians {middles[0]:.2f} (mechanism 0) and "
        f"{middles[1]:.2f} (mechanism 1).{spread} Drawn from {result.drawn_from:,} inputs: "
        f"{result.inputs}",
        separated(
            kinds,
            title="reliance",
            limits=_LIMITS,
            marks={"claims nothing": 0.0, "explains all": 1.0},
        ),
    )


def _detectors(result: Result) -> NamedFigure:
    rows: list[Row] = []
    for one in result.detectors:
        value, bounds = result.separates[one.name]
        ends = (bounds.low, bounds.high) if isinstance(bounds, Interval) else None
        name = _worded(result, one.name)
        rows.append(Row(name, value, ends, None, one.how, one.name in (RELIANCE, NEED)))
        if one.name in (RELIANCE, NEED):
            column = result.sites[:, (RELIANCE, NEED).index(one.name)]
            rows.append(Row(f"same, random sites{_rank(value, column)}", value, None, column))
        if one.name == RELIANCE and np.isfinite(result.twins).any():
            name = f"same, shuffled features{_rank(value, result.twins)}"
            rows.append(Row(name, value, None, result.twins))
    return NamedFigure(
        "detectors",
        "Beside what else would tell",
        f"AUROC: the chance that an input of mechanism {result.explains} has more of what its row "
        f"is worded as than one of the other (of 'low loss': the lower one). Rows are worded as "
        f"was fixed beforehand; 0.5 is chance, and what is below was not turned round. 95 % "
        f"intervals over inputs.{' '.join([_of_nulls(result), *result.missing])}",
        dots(rows, title=f"AUROC for mechanism {result.explains}"),
        wide=True,
    )


def _worded(result: Result, name: str) -> str:
    """Name a detector with its direction: that of the mechanism which the hypothesis is about."""
    return _WORDED[name][result.explains] if name in _WORDED else name


def _of_nulls(result: Result) -> str:
    """Say what the grey rows are."""
    if not len(result.sites):
        return ""
    drawn = result.sites[np.isfinite(result.sites[:, 0]), 0]
    said = f" Grey: {spread(drawn)[3] if len(drawn) else 'range'} of random explanations of the "
    said += "same size"
    if len(result.sites) < FEW:
        n = len(result.sites)
        said += f": {n} of each kind, so that rank 1 of {n + 1} is the best possible"
    return f"{said}. {result.same_sites} of the random sites are its own."


def _rank(value: float, null: Float[np.ndarray, "null"]) -> str:
    known = null[np.isfinite(null)]
    if not len(known) or not np.isfinite(value):
        return ""
    place, of = rank(value, known.tolist(), larger_is_better=True)
    return f": rank {place} of {of}"


def _worst(result: Result) -> NamedFigure:
    lost = 1 - won(result.reliance, result.which)
    order = result.shown[::-1]
    texts = result.shown_tokens[::-1]
    n = max(len(text) for text in texts)
    values = np.full((len(order), n), np.nan)
    for row, ref, text in zip(values, order, texts, strict=True):
        row[: len(text)] = lost[ref]
    hover = [
        [theme.label(one_input(result, int(ref)), 200) if i < len(text) else "" for i in range(n)]
        for ref, text in zip(order, texts, strict=True)
    ]
    figure = token_rows(
        values,
        rows=[f"#{ref}, mechanism {result.mechanism[ref]}" for ref in order],
        texts=texts,
        first=0,
        titles=("input", "share lost to"),
        most=1.0,
        hover=hover,
    )
    # Here the text is what is looked at: letters stay in narrow cells, on a pale colour.
    short = [[theme.label(t) if len(t) < _SHORT else "" for t in text] for text in texts]
    figure.update_traces(
        text=[row + [""] * (n - len(row)) for row in short],
        texttemplate="%{text}",
        textfont={"color": "black"},
        colorscale=_PALE,
        selector={"type": "heatmap"},
    )
    wrong = int((lost > 0.5).sum())
    return NamedFigure(
        "worst",
        "Where it errs most",
        f"The {len(order)} inputs that it judges worst. Colour: the share of the other mechanism's "
        f"inputs that stand on the wrong side of this one; of {wrong:,} of {len(lost):,} inputs it "
        f"is more than half. Click one to ask about it.",
        figure,
        selectable=True,
        texts=tuple((f"#{ref}", _judged(result, int(ref))) for ref in result.shown),
        wide=True,
    )


def one_input(result: Result, ref: int) -> str:
    """Say what was found about one input."""
    at = np.flatnonzero(result.shown == ref)
    text = "".join(result.shown_tokens[int(at[0])]) if len(at) else f"input {ref}"
    sd = f" (single draws ± {result.sd[ref]:.2f})" if np.isfinite(result.sd[ref]) else ""
    need = f"; need {result.need[ref]:.2f}" if np.isfinite(result.need[ref]) else ""
    lost = 1 - won(result.reliance, result.which)[ref]
    return (
        f"{text}: mechanism {result.mechanism[ref]}; reliance {result.reliance[ref]:.2f}{sd}"
        f"{need}; loses against {lost:.1%} of the other mechanism's inputs."
    )


def _judged(result: Result, ref: int) -> str:
    """Say what was found about one input, and what of that is not to be read."""
    parts = [one_input(result, ref)]
    if result.sd[ref] > _SCATTER:
        parts.append(
            "The size of its reliance is not to be read: single draws scatter by more than the "
            "whole answer."
        )
    if result.need[ref] < _NO_NEED:
        parts.append(
            "Its reliance is no sign of the explanation: next to nothing happens without what is "
            "named."
        )
    return " ".join(parts)


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say what was found about a clicked input."""
    ref = clicked(result, cell)
    if ref is None:
        return None
    need = (
        " Need: how much the answer changes when only what is named is exchanged; 1 is as much as "
        "exchanging everything, far more where that changes little."
    )
    return _judged(result, ref) + need * bool(np.isfinite(result.need[ref])), []


def clicked(result: Result, cell: dict[str, Any]) -> int | None:
    """Return the input of a clicked row; rows are drawn last first."""
    row = int(cell.get("0", -1))
    return int(result.shown[::-1][row]) if 0 <= row < len(result.shown) else None


# --- the sentence --------------------------------------------------------------------------------


def verdict(result: Result) -> str:
    """Read the answer: how well it separates, against what, and whether it is circular."""
    value, bounds = result.separates[RELIANCE]
    if result.draws[0] < result.draws[1]:
        return f"After {result.draws[0]} of {result.draws[1]} draws: AUROC {value:.3f} so far."
    ends = f" [{bounds.low:.3f}, {bounds.high:.3f}]" if isinstance(bounds, Interval) else ""
    said = (
        f"Reliance on this explanation puts an input of mechanism {result.explains} above one of "
        f"the other in {value:.1%} of pairs: AUROC {value:.3f}{ends}, where chance is 0.5"
        f"{_random(result)}."
    )
    chance, beside = _chance(result, value, bounds), _beside(result, value, bounds)
    onward = "Next: ask why the input that is judged worst is answered as it is."
    parts = (said, chance, _circular(result), beside, onward)
    return " ".join(part for part in parts if part)


def _random(result: Result) -> str:
    own = f", {result.same_sites} of them its own" if result.same_sites else ""
    nulls = (
        (result.sites[:, 0], "the same features on random sites", own),
        (result.twins, "its sites with the features shuffled", ""),
    )
    value, parts = result.separates[RELIANCE][0], []
    for null, name, more in nulls:
        known = null[np.isfinite(null)]
        if len(known):
            low, median, high, ends = spread(known)
            place, of = rank(value, known.tolist(), larger_is_better=True)
            few = ", the best possible" if place == 1 and len(known) < FEW else ""
            parts.append(
                f"{name} have {median:.2f} in the median ({ends} {low:.2f} to {high:.2f}{more}; "
                f"rank {place} of {of}{few})"
            )
    return f"; {' and '.join(parts)}" if parts else ""


def _chance(result: Result, value: float, bounds: Interval | Absent) -> str:
    if isinstance(bounds, Interval) and bounds.high < 0.5:
        return f"That is below chance: outputs of mechanism {1 - result.explains} rely on it more."
    if isinstance(bounds, Interval) and bounds.low <= 0.5:
        return "That cannot be told from chance."
    shuffled = result.twins[np.isfinite(result.twins)]
    if len(shuffled) and value <= spread(shuffled)[2]:
        return "Shuffled features do as well: what it says of the features is not what separates."
    return ""


def _circular(result: Result) -> str:
    told = result.told
    if not told.together:
        return ""
    if told.singletons > _MANY:
        return (
            f"Its features tell nearly every input apart ({told.singletons:.0%} are alone in their "
            f"class), so they would name the mechanism of each without looking at the model."
        )
    names = told.alone or ("its features together",)
    tell = "tells" if len(names) == 1 and told.alone else "tell"
    return (
        f"Circular: on these inputs {' and '.join(names)} {tell} the mechanism for certain, so "
        f"this would separate them without looking at the model. What is about the model is only "
        f"how much worse other sites and shuffled features do."
    )


def _beside(result: Result, value: float, bounds: Interval | Absent) -> str:
    """Say what tells most without the explanation, whichever way round, and if it tells less."""
    others = {
        name: found[0]
        for name, found in result.separates.items()
        if name not in (RELIANCE, NEED) and np.isfinite(found[0])
    }
    if not others:
        return ""
    best = max(others, key=lambda name: abs(others[name] - 0.5))
    far = others[best]
    turned = ", the other way round than was fixed beforehand" if far < 0.5 else ""
    without = "the model" if best == UNMODELLED else "its claims"
    told = f"what tells most without {without}, {_worded(result, best)}, has {far:.3f}{turned}"
    if value <= 0.5 or abs(far - 0.5) >= value - 0.5 - _AS_GOOD:
        return f"For this decision alone it is not needed: {told}."
    if not isinstance(bounds, Interval):
        return f"Beside it, {told}; without an interval no advantage over that is shown."
    if bounds.low <= max(far, 1 - far):
        inside = "whose mirror image is" if far < 0.5 else "which is"
        return f"Beside it, {told}, {inside} inside the interval: no advantage over it is shown."
    return f"Beside it, {told}."
