"""What a search for hypotheses finds, and how it is drawn and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from interp.analyses import _few_draws
from interp.explanations.hypothesis import Hypothesis
from interp.explanations.words import summary
from interp.figures import pareto as drawn
from interp.figures.named import NamedFigure
from interp.figures.scale import Mark
from interp.methods.scrubbing.intervals import percentile
from interp.methods.scrubbing.measure import METRICS
from interp.methods.scrubbing.searched import Candidate, Levels, Searched
from interp.scores import Absent, Anchor, Interval, Null, Score

_NO_BITS = 1e-9
_NULL = "trees like it at random sites, with random features of the data for its own"


@dataclass(frozen=True, eq=False)
class Result:
    """Hypotheses found.

    Attributes:
        inputs: How the inputs are drawn.
        objective: "loss" or "kl".
        price: Nats that a bit may cost.
        depth: 1: direct inputs of the logits; 2: inputs of those too.
        components: Number of components that there are.
        features: Names of the features that were tried.
        expressions: What they are.
        told: Columns left out, as they alone determine the label.
        exact: Whether components could be kept in full.
        evaluations: Hypotheses to be evaluated at most.
        found: The search so far.
    """

    inputs: str
    objective: str
    price: float
    depth: int
    components: int
    features: tuple[str, ...]
    expressions: tuple[str, ...]
    told: tuple[str, ...]
    exact: bool
    evaluations: int
    found: Searched

    @property
    def best(self) -> Candidate:
        """The hypothesis with the least objective and price together on the half searched."""
        return self.found.front[0]

    @property
    def measure(self) -> str:
        """What the objective is called, with its unit and direction."""
        return f"mean {METRICS[self.objective][0]}, nats (lower is better)"

    @property
    def tested(self) -> bool:
        """Whether the best hypothesis was tested on the half held out."""
        return bool(self.best.values.size)


@lru_cache(maxsize=128)
def claimed(text: str) -> Hypothesis:
    """Read canonical JSON."""
    return Hypothesis.model_validate_json(text)


# --- figures --------------------------------------------------------------------------------------


def figures(result: Result) -> list[NamedFigure]:
    """Draw loss against bits, the best with their scale, and how the search went."""
    found = result.found
    best = [_best(i, one) for i, one in enumerate(found.front)]
    searched = _marks(found.search, "searched")
    held_out = _marks(found.held_out, "held out") if found.held_out else []
    common = _common(result)
    return [
        NamedFigure(
            "front",
            "What is explained, for how many bits",
            _caption(result),
            drawn.front(
                found.bits, found.values, best, [*searched, *held_out], title=result.measure
            ),
            selectable=True,
        ),
        NamedFigure(
            "best",
            "The best hypotheses, on inputs that no search has seen",
            " ".join([_tested(result), f"Of each: {common}" if common else ""]).strip(),
            drawn.ranked(
                best,
                (held_out or searched)[:2],
                title=result.measure,
                band=_band(found.front),
            ),
            selectable=True,
            texts=tuple(
                (one.name, _in_words(candidate, common))
                for one, candidate in zip(best, found.front, strict=True)
            ),
        ),
        NamedFigure(
            "path",
            "How the search went",
            f"Objective plus {result.price:g} nats a bit, on the inputs searched. A start ends "
            "where no single change makes it fall by more than the standard error of the change, "
            f"or when its share of {result.evaluations:,} evaluations is used up: "
            f"{found.optima} of {found.starts} came to such an end.",
            drawn.path(
                found.current, found.best, found.start, title="objective + price × bits, nats"
            ),
        ),
    ]


def _marks(levels: Levels, half: str) -> list[Mark]:
    """Name what the objective is read against, and on which half."""
    return [
        Mark(f"{name}, {half}", float(of.mean()))
        for name, of in (
            ("model", levels.model),
            ("constant", levels.constant),
            ("shuffled", levels.shuffled),
        )
    ]


def _common(result: Result) -> str:
    """Return what all of the best begin with, or nothing."""
    first = {one.said[0] for one in result.found.front}
    return first.pop() if len(first) == 1 and len(result.found.front) > 1 else ""


def _band(front: Sequence[Candidate]) -> str:
    fewest = min((len(one.drawn) for one in front if len(one.drawn)), default=0)
    return "5 to 95 %" if fewest >= _few_draws.FEWEST else "range"


def _best(number: int, one: Candidate) -> drawn.Best:
    ends, many = one.interval, len(list(claimed(one.hypothesis).nodes())) - 1
    place, of = one.rank if len(one.drawn) else (0, 0)
    return drawn.Best(
        name=f"{number + 1}. {many} claim{'' if many == 1 else 's'}, {one.bits:.1f} bits",
        said=" ".join(one.said[1:]) or one.said[0],
        bits=one.bits,
        search=one.search,
        held_out=one.held_out,
        interval=(ends.low, ends.high) if isinstance(ends, Interval) else (np.nan, np.nan),
        null=one.drawn,
        band=_few_draws.ends(one.drawn) if of else (np.nan, np.nan),
        note=_few_draws.rank_in_words(place, of) if of else "",
    )


def _caption(result: Result) -> str:
    n = len(result.found.search.model)
    depth = "the logits" if result.depth == 1 else "the logits, or of one of their inputs"
    said = [
        f"{n:,} inputs are searched: they are the references, and all that is drawn from; one draw "
        f"each, the same random numbers for all. Claims are about inputs of {depth}: "
        f"{result.components} components and {len(result.features)} true features of the data, or "
        "two of them together.",
    ]
    if result.told:
        said.append(
            f"Left out: {', '.join(result.told)}, which determines the label by itself"
            + ("." if result.exact else "; so does agreeing on everything.")
        )
    said += [_halves(result), f"Inputs: {result.inputs}"]
    return " ".join(said)


def _halves(result: Result) -> str:
    """Say on which half each point and line is, and what is at 0 bits."""
    found = result.found
    said = "Grey and red points are on the inputs searched"
    said += ", blue ones on those held out; " if found.held_out else "; "
    said += "each line names its half (constant: the best constant guess)."
    nothing = found.values[found.bits < _NO_BITS]
    if not len(nothing):
        return said
    return (
        f"{said} At 0 bits all is exchanged, which is shuffled answers of the same half, but for "
        f"the luck of one draw: {nothing[0]:.3g} and {found.search.shuffled.mean():.3g}."
    )


def _tested(result: Result) -> str:
    if not result.tested:
        return "Tested at the end, on the other half."
    n = len(result.best.values)
    return (
        f"{n:,} inputs held out, exchanged among themselves only, with fresh draws. Grey: {_NULL}"
        f" ({_band(result.found.front)}); lines are of the inputs held out. "
        "Chosen is what was best on the inputs searched, so there it looks better than it is."
    )


def _in_words(one: Candidate, common: str = "") -> str:
    """Say what a hypothesis claims, without what is common to several, and what it gives."""
    features = claimed(one.hypothesis).features
    where = "; ".join(f"{n} = {f.expr}" for n, f in features.items() if f.expr != f'column("{n}")')
    claims = one.said[1:] or ("No claims.",) if one.said[0] == common else one.said
    said = [*claims, f"Where {where}." if where else ""]
    said.append(f"Searched {one.search:.3g} nats{_again(one)}.")
    if one.values.size:
        said.append(f"Held out {one.held_out:.3g}{_ends(one)}.")
    if len(one.drawn):
        among = _few_draws.rank_in_words(*one.rank)
        said.append(f"Among trees like it at random: {among}.")
    if one.leaks:
        said.append(f"What passes through {' and '.join(one.leaks)} determines the label.")
    return " ".join(part for part in said if part)


def _ends(one: Candidate) -> str:
    ends = one.interval
    return f" (95 %: {ends.low:.3g} to {ends.high:.3g})" if isinstance(ends, Interval) else ""


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say what a clicked hypothesis of the front claims."""
    at = int(cell["0"])
    if at >= len(result.found.front):
        return None
    one = result.found.front[at]
    return f"{at + 1}. {_in_words(one)}", []


# --- the answer -----------------------------------------------------------------------------------


def verdict(result: Result) -> str:
    """Read what was found, what is left of it where nothing was chosen, and what it owes."""
    one, found = result.best, result.found
    what = summary(claimed(one.hypothesis)).rstrip(".")
    told = (
        f"The best of {len(found.values):,} hypotheses from {found.starts} "
        f"start{'s' if found.starts > 1 else ''} ({what}; {one.bits:.1f} bits) has a "
        f"{_name(result)} of {one.search:.3g} nats on the inputs searched{_again(one)}"
    )
    if not result.tested or found.held_out is None:
        return f"{told}; it is not tested on the others yet."
    parts = [
        f"{told} and {one.held_out:.3g}{_ends(one)} on those held out: {_optimism(one)}.",
        f"There the model has {found.held_out.model.mean():.2g}, shuffled answers "
        f"{found.held_out.shuffled.mean():.2g}, the best constant guess "
        f"{_constant(one, float(found.held_out.constant.mean()))}.",
        _ways(result),
        _ranked(one),
        _leaks(one),
        _next(result),
    ]
    return " ".join(part for part in parts if part)


def _ways(result: Result) -> str:
    """Say what is recovered on either half."""
    one, found = result.best, result.found
    assert found.held_out is not None
    if min(_gap(found.held_out), _gap(found.search)) <= 0:
        return ""
    searched, held = _share(one.search, found.search), _share(one.held_out, found.held_out)
    return (
        f"Of the way from shuffled answers to the model it recovers {held:.3f} held out, and "
        f"{searched:.3f} on the inputs searched, which chose it."
    )


def _gap(levels: Levels) -> float:
    return float(levels.shuffled.mean() - levels.model.mean())


def _share(value: float, levels: Levels) -> float:
    """Return how far a value is on the way from shuffled answers to the model."""
    return (float(levels.shuffled.mean()) - value) / _gap(levels)


def _again(one: Candidate) -> str:
    return "" if one.again is None else f" ({one.again:.3g} with fresh draws)"


def _name(result: Result) -> str:
    return "loss" if result.objective == "loss" else "KL from the model"


def _optimism(one: Candidate) -> str:
    more, ends = one.held_out - one.search, one.interval
    if isinstance(ends, Interval) and ends.low <= one.search <= ends.high:
        return f"{more:+.2g}, within the interval"
    return f"{more:+.2g}" + (", as it was chosen where it looked best" if more > 0 else "")


def _constant(one: Candidate, constant: float) -> str:
    """Say whether a hypothesis explains more than ignoring the input would."""
    ends = one.interval
    if not isinstance(ends, Interval):
        return f"{constant:.2g}"
    if ends.low > constant:
        return f"{constant:.2g}: this is still worse than ignoring the input"
    if ends.high < constant:
        return f"{constant:.2g}"
    return f"{constant:.2g}, from which this cannot be told"


def _ranked(one: Candidate) -> str:
    if not len(one.drawn):
        return ""
    low, high = _few_draws.ends(one.drawn)
    few = len(one.drawn) < _few_draws.FEWEST
    spread = f", they range from {low:.2g} to {high:.2g}" if few else ""
    return (
        f"Among {_NULL}, it has {_few_draws.rank_in_words(*one.rank)} (their median is "
        f"{np.median(one.drawn):.2g}{spread})."
    )


def _leaks(one: Candidate) -> str:
    if not claimed(one.hypothesis).graph.children:
        return ""
    if not one.leaks:
        return "What it lets through does not determine the label."
    less = "it" if len(one.leaks) == 1 else "one of them"
    without = "" if one.without is None else f": without {less} it is {one.without:.2g}"
    return f"The label is determined by what passes through {' and '.join(one.leaks)}{without}."


def _next(result: Result) -> str:
    found, one = result.found, result.best
    if not claimed(one.hypothesis).graph.children:
        return "Nothing is worth its bits at this price. Next: search at a lower price."
    if found.optima < found.starts and len(found.values) >= result.evaluations:
        return (
            f"Starts that were stopped while changes still helped: {found.starts - found.optima} "
            f"of {found.starts}. Next: evaluate more, or test the best claim by claim."
        )
    return "Next: test it claim by claim on the inputs held out."


def scores(result: Result) -> list[Score]:
    """Return how far the best hypothesis is from shuffled answers to the model, held out."""
    one, held = result.best, result.found.held_out
    if not result.tested or held is None or _gap(held) <= 0:
        return []
    return [
        Score(
            name=f"{METRICS[result.objective][0]} recovered on the inputs held out, "
            "from shuffled answers to the model",
            value=_share(one.held_out, held),
            unit="of the way",
            n=len(one.values),
            floor=Anchor("shuffled answers", 0.0),
            ceiling=Anchor("the model", 1.0),
            constant=Anchor("best constant guess", _share(float(held.constant.mean()), held)),
            null=_null(one, held),
            interval=percentile(
                lambda value, floor, ceiling: (floor - value) / (floor - ceiling),
                one.values,
                held.shuffled,
                held.model,
                rng=np.random.default_rng(0),
            ),
            held_out=Absent("the value itself is on inputs that did not choose it"),
        )
    ]


def _null(one: Candidate, held: Levels) -> Null | Absent:
    if not len(one.drawn):
        claims = claimed(one.hypothesis).graph.children
        return Absent(
            "no random hypotheses were asked for" if claims else "there are no claims to exchange"
        )
    return _few_draws.null(_NULL, [_share(value, held) for value in one.drawn], one.rank[0])
