"""What comparing scores with successes finds, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from interp.explanations.hypothesis import ANY, EXACT, Hypothesis, Near, Node
from interp.explanations.words import label, plain, sentence
from interp.figures import ablation, estimates, labels
from interp.figures.named import NamedFigure
from interp.figures.scale import Mark
from interp.methods.scrubbing.candidates import KINDS
from interp.methods.scrubbing.worth import FEWEST, Compared, score_of
from interp.scores import Absent, Interval, Score

MECHANISMS, ADVERSARIAL = "mechanisms", "adversarial"
MEASURES: Final = ("loss recovered", "closeness by KL")
ALL, WITHIN, BITS, NO_LABEL = (
    "all hypotheses",
    "within kinds",
    "at equal bits",
    "none that determines the label",
)
ALONE: Final = " alone"
BOTH: Final = "within kinds, none that determines the label"
SHOWN = 5
"""Hypotheses that are listed of the best, and of those whose ranks differ most."""
_CLAIMS = 2
"""Claims that are told of hypotheses that were made in the same way."""
_SUCCESS: Final = {
    MECHANISMS: "AUROC of reliance, first mechanism against second",
    ADVERSARIAL: "share of inputs on which the model errs",
}
PerHypothesis = Float[np.ndarray, "hypothesis"]


@dataclass(frozen=True)
class Correlated:
    """A rank correlation: of which measure, among which hypotheses; or why there is none."""

    measure: str
    subset: str
    score: Score | Absent


@dataclass(frozen=True, eq=False)
class Result:
    """Hypotheses with their scores and what each is good for; NaN where not computed.

    Attributes:
        model: The model.
        behavior: The inputs' name.
        downstream: What success is: "mechanisms" or "adversarial".
        inputs: What the inputs are that hypotheses are about.
        n_explained: How many of these stand for each other.
        n_judged: Inputs that success is judged on, for each hypothesis.
        tried: Hypotheses that were made; those equal in effect are one.
        kinds: Which of ``KINDS`` each is.
        hows: How each was made.
        hypotheses: Canonical JSON.
        bits: Entropy that the nodes' classes let through, added up.
        leaks: Whether features determine the label.
        model_loss: Loss of the model in nats.
        shuffled_loss: Loss of shuffled answers: the floor.
        constant_loss: Loss of the best constant guess.
        loss: Mean scrubbed loss in nats.
        kl: Mean KL(model ‖ scrubbed) in nats.
        success: Larger is better; NaN where a hypothesis cannot be used so.
        low: Lower end of its 95 % interval.
        high: Upper end.
        group: Hypotheses of one number have their success from one computation; -1: not yet.
        correlated: The correlations; none before the end.
    """

    model: str
    behavior: str
    downstream: str
    inputs: str
    n_explained: int
    n_judged: int
    tried: int
    kinds: tuple[str, ...]
    hows: tuple[str, ...]
    hypotheses: tuple[str, ...]
    bits: PerHypothesis
    leaks: Bool[np.ndarray, "hypothesis"]
    model_loss: float
    shuffled_loss: float
    constant_loss: float
    loss: PerHypothesis
    kl: PerHypothesis
    success: PerHypothesis
    low: PerHypothesis
    high: PerHypothesis
    group: Int[np.ndarray, "hypothesis"]
    correlated: tuple[Correlated, ...]

    @property
    def share(self) -> PerHypothesis:
        """How far each loss is on the way from shuffled answers (0) to the model (1)."""
        return (self.shuffled_loss - self.loss) / (self.shuffled_loss - self.model_loss)

    @property
    def success_name(self) -> str:
        """What success is."""
        return _SUCCESS[self.downstream]

    @property
    def known(self) -> Int[np.ndarray, "some"]:
        """Hypotheses that have a score and a success."""
        return np.flatnonzero(np.isfinite(self.loss) & np.isfinite(self.success))

    @property
    def ranks(self) -> tuple[PerHypothesis, PerHypothesis]:
        """Ranks of score and success among the known, from 0 to 1; NaN elsewhere."""
        at, n = self.known, max(len(self.known) - 1, 1)
        made = np.full((2, len(self.loss)), np.nan)
        for row, values in zip(made, (-self.loss, self.success), strict=True):
            row[at] = (rankdata(values[at]) - 1) / n
        return made[0], made[1]

    @property
    def misleading(self) -> list[int]:
        """Hypotheses whose ranks by score and by success are farthest apart, those first."""
        score, success = self.ranks
        apart = np.abs(score - success)[self.known]
        return self.known[np.argsort(-apart, kind="stable")].tolist()

    @property
    def best(self) -> list[int]:
        """Hypotheses that are good for most, of equals those with the higher score first."""
        at = self.known
        return at[np.lexsort((self.loss[at], -self.success[at]))].tolist()

    def named(self, k: int) -> str:
        """Return what people read for a hypothesis: of those made alike also what they claim."""
        made = list(zip(self.kinds, self.hows, strict=True))
        alike = [i for i, one in enumerate(made) if one == made[k]]
        own = f", {_differs(self, k, alike)}" if len(alike) > 1 else ""
        return f"{k + 1}. {self.kinds[k]}: {plain(self.hows[k])}{own}"

    @property
    def constant_share(self) -> float:
        """How far the best constant guess is on the way from shuffled answers (0) to the model."""
        return (self.shuffled_loss - self.constant_loss) / (self.shuffled_loss - self.model_loss)

    def correlation(self, measure: str, subset: str) -> Score | Absent:
        """Return one of the correlations."""
        for one in self.correlated:
            if (one.measure, one.subset) == (measure, subset):
                return one.score
        return Absent("not computed yet")

    def with_one(
        self, k: int, score: tuple[float, float], success: tuple[float, float, float], group: int
    ) -> Result:
        """Return a copy with one more hypothesis: loss and KL, success and its ends, its group."""
        news = dict(zip(("loss", "kl"), score, strict=True))
        news |= dict(zip(("success", "low", "high"), success, strict=True))
        arrays = {name: getattr(self, name).copy() for name in (*news, "group")}
        for name, value in {**news, "group": group}.items():
            arrays[name][k] = value
        return replace(self, **arrays)


def correlations(result: Result, rng: np.random.Generator) -> Result:
    """Return the result with all rank correlations, their intervals and nulls.

    Cost: see ``interp.methods.scrubbing.worth``; about twenty of them.
    """
    kind = np.array([KINDS.index(one) for one in result.kinds])
    found: list[Correlated] = []
    for measure, score in zip(MEASURES, (result.share, -result.kl), strict=True):
        plain = Compared(score, result.success, result.group)
        within = replace(plain, stratum=kind)
        subsets = {
            ALL: plain,
            WITHIN: within,
            BITS: replace(plain, bits=result.bits),
            NO_LABEL: plain.some(~result.leaks),
            BOTH: within.some(~result.leaks),
        }
        subsets |= {
            f"{name}{ALONE}": plain.some(kind == number)
            for number, name in enumerate(KINDS)
            if (kind == number).sum() >= FEWEST
        }
        success = "AUROC" if result.downstream == MECHANISMS else "share of errors"
        for subset, compared in subsets.items():
            name = f"rank correlation of {measure} with {success}, {subset}"
            found.append(Correlated(measure, subset, score_of(name, compared, rng)))
    return replace(result, correlated=tuple(found))


# --- figures --------------------------------------------------------------------------------------


def figures(result: Result) -> list[NamedFigure]:
    """Draw the scatter, correlations by subset, and the hypotheses those listed."""
    return [_scatter(result), _correlations(result), _listed(result)]


def told(score: Score | Absent) -> str:
    """Write a correlation with its interval."""
    if isinstance(score, Absent):
        return "none"
    if isinstance(score.interval, Absent):
        return f"{score.value:.2f}"
    return f"{score.value:.2f} [{score.interval.low:.2f}, {score.interval.high:.2f}]"


def _scatter(result: Result) -> NamedFigure:
    names = [
        f"{result.named(k)}{' (features determine the label)' if result.leaks[k] else ''}"
        for k in range(len(result.kinds))
    ]
    overall, within = (result.correlation(MEASURES[0], one) for one in (ALL, WITHIN))
    figure = estimates.success(
        result.share,
        result.success,
        result.kinds,
        names,
        titles=(
            "loss recovered, shuffled answers 0 to the model 1",
            labels.wrapped(result.success_name, 30),
        ),
        correlation=f"rank correlation {told(overall)}; within kinds {told(within)}",
        mark=Mark("best constant guess", result.constant_share),
    )
    traces: list[Any] = list(figure.data)
    for trace, kind in zip(traces, dict.fromkeys(result.kinds), strict=True):
        here = [int(k) for k in result.known if result.kinds[int(k)] == kind]
        values = (result.success[here], result.low[here], result.high[here])
        trace.update(
            customdata=[[k] for k in here],
            selected={"marker": {"opacity": 1.0}},
            unselected={"marker": {"opacity": 0.5}},
            error_y={
                "array": values[2] - values[0],
                "arrayminus": values[0] - values[1],
                "symmetric": False,
                "thickness": 0.6,
                "width": 0,
            },
        )
    n = len(result.kinds)
    nothing = n - len(result.known) if result.correlated else 0
    groups = len(np.unique(result.group[result.known]))
    same = (
        f" Their successes come from {groups} computations." if groups < len(result.known) else ""
    )
    return NamedFigure(
        "scatter",
        "Score, and what it buys",
        f"{n} hypotheses that differ in effect, of {result.tried} made; "
        f"{int(result.leaks.sum())} have features that determine the label. Scores: "
        f"{result.n_explained:,} inputs, model {result.model_loss:.3g} nats, best constant guess "
        f"{result.constant_loss:.3g} (dotted, {result.constant_share:.0%} of the way), shuffled "
        f"{result.shuffled_loss:.3g}. Success: "
        f"{result.n_judged:,} inputs each, lines 95 %.{same}"
        + (f" {nothing} cannot be used so and are not drawn." if nothing else "")
        + f" {result.inputs}",
        figure,
        selectable=len(result.known) > 0,
    )


def _correlations(result: Result) -> NamedFigure:
    subsets = list(dict.fromkeys(one.subset for one in result.correlated)) or [ALL, WITHIN]
    series = {}
    for measure in MEASURES:
        ends = np.array([_ends(result.correlation(measure, subset)) for subset in subsets])
        series[measure] = ends[:, 0], ends[:, 1], ends[:, 2]
    lacking = [
        f"{one.subset}: {one.score.reason}."
        for one in result.correlated
        if isinstance(one.score, Absent) and one.measure == MEASURES[0]
    ]
    counts = [
        f"{one.subset} {one.score.n}"
        for one in result.correlated
        if isinstance(one.score, Score) and one.measure == MEASURES[0]
    ]
    return NamedFigure(
        "correlations",
        "Does a higher score buy more?",
        "Rank correlation of score and success with 95 % intervals (bootstrap over hypotheses; "
        "those whose success is one computation go together). Within kinds: right ones are "
        "compared with right ones, random ones with random ones. "
        + (f"Hypotheses: {', '.join(counts)}. " if counts else "")
        + " ".join(lacking),
        ablation.ways(subsets, series, titles=("rank correlation (−1 to 1)", "among")),
    )


def _ends(score: Score | Absent) -> tuple[float, float, float]:
    if isinstance(score, Absent):
        return float("nan"), float("nan"), float("nan")
    if not isinstance(score.interval, Interval):
        return score.value, float("nan"), float("nan")
    return score.value, score.interval.low, score.interval.high


def listed(result: Result) -> list[int]:
    """Return the best hypotheses, then those whose ranks differ most."""
    return list(dict.fromkeys([*result.best[:SHOWN], *result.misleading[:SHOWN]]))


def _listed(result: Result) -> NamedFigure:
    rows = listed(result)
    score, success = result.ranks
    nothing = np.full(len(rows), np.nan)
    series = {
        "by score": (score[rows], nothing, nothing),
        "by success": (success[rows], nothing, nothing),
    }
    figure = ablation.ways(
        [labels.wrapped(result.named(k), 48, 2) for k in rows],
        series,
        titles=("rank, 0 lowest to 1 highest", "hypothesis"),
    )
    figure.update_xaxes(range=[-0.05, 1.05])
    return NamedFigure(
        "listed",
        "The best, and those whose ranks differ most",
        f"First the {SHOWN} that are good for most, then those whose ranks by score and by success "
        "are farthest apart: a high score that buys little, or the reverse.",
        figure,
        texts=tuple((result.named(k), in_words(result, k)) for k in rows),
        wide=True,
    )


def in_words(result: Result, k: int) -> str:
    """Say a hypothesis in sentences."""
    hypothesis = _read(result.hypotheses[k])
    return " ".join(sentence(node, above) for node, above in hypothesis.nodes())


def _differs(result: Result, k: int, alike: list[int]) -> str:
    """Say what a hypothesis claims that not all of those made alike do."""
    shared = set.intersection(*(set(_claims(result.hypotheses[i])) for i in alike))
    own = _claims(result.hypotheses[k])
    told = [one for one in own if one not in shared] or list(own) or ["no claims"]
    more = f" and {len(told) - _CLAIMS} more" if len(told) > _CLAIMS else ""
    return ", ".join(told[:_CLAIMS]) + more


@lru_cache(maxsize=256)
def _claims(text: str) -> tuple[str, ...]:
    nodes = list(_read(text).nodes())
    return tuple(f"{label(node, above)} {_way(node)}" for node, above in nodes if above is not None)


def _way(node: Node) -> str:
    """Say in a few words what of a node matters."""
    if node.agree == EXACT:
        return "in full"
    if node.agree == ANY:
        return "from any input"
    if isinstance(node.agree, Near):
        return f"through about {node.agree.near}"
    return f"through {' and '.join(node.features)}"


@lru_cache(maxsize=256)
def _read(text: str) -> Hypothesis:
    return Hypothesis.model_validate_json(text)


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say a clicked hypothesis in sentences, with its numbers."""
    k = int(cell["0"])
    if not 0 <= k < len(result.kinds):
        return None
    leak = " Its features determine the label." if result.leaks[k] else ""
    return (
        f"{result.named(k)}. Scrubbed loss {result.loss[k]:.3g} nats, {result.share[k]:.0%} of the "
        f"way from shuffled answers to the model; KL {result.kl[k]:.3g} nats; "
        f"{result.bits[k]:.2f} bits let through.{leak} {_capital(result.success_name)} "
        f"{result.success[k]:.3g} [{result.low[k]:.3g}, {result.high[k]:.3g}]. "
        f"{in_words(result, k)}",
        [],
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
