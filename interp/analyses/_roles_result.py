"""What the search for roles finds, and how it is drawn and read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from interp.analyses._roles_asked import SEVERAL
from interp.explanations.matching import Placed
from interp.figures import ablation as drawn
from interp.figures import heatmap, labels, theme
from interp.figures.named import NamedFigure

MOST_DRAWN = 40
"""Components that are drawn; of more, those with the largest effects."""
TOLD, MOST_LISTED = 3, 12
LARGE = 0.1
"""Nats: effects no larger are drawn paler, and counted apart."""
_PALE = "#f4a582"
_ACROSS = 70
"""Letters of all column labels together that fit side by side."""
ANSWER = "answer − foil"
"""The difference of logits where each input has its own two."""
PerComponent = Float[np.ndarray, "component"]
Shares = Float[np.ndarray, "component candidate"]


@dataclass(frozen=True)
class Result:
    """Direct effects of components, and what features explain of what they write.

    Numbers are NaN where they are not computed yet.

    Attributes:
        inputs: Where the inputs come from.
        n_inputs: Inputs asked for.
        n_searched: Those that roles were found on; the rest is held out.
        difference: The difference of logits whose terms are explained, in words.
        draws: Other inputs whose output each input takes.
        components: Names: the embedding, then each layer's heads and MLP.
        sites: Their terms, as hypotheses name them.
        candidates: Features, then two of them joined.
        expressions: Of the features.
        left_out: Features that are the same on all inputs, or nearly tell each apart.
        tells: Whether each candidate determines the right answer on the inputs searched.
        loss: Mean loss of the bare runs in nats.
        effect: Mean rise of the loss in nats when the output is another input's.
        low: Lower end of its 95 % interval.
        high: Upper end.
        acts: Whether the interval excludes 0 by more than rounding.
        constant: Whether a component writes the same on all inputs.
        best: Candidate that explains most; empty where it is not known yet.
        alone: Single feature that does.
        eta2: Share of the variance that each candidate explains.
        null: 95 % quantile of it over shuffles.
        largest: 95 % quantile of a component's largest share over the same shuffles.
    """

    inputs: str
    n_inputs: int
    n_searched: int
    difference: str
    draws: int
    components: tuple[str, ...]
    sites: tuple[str, ...]
    candidates: tuple[str, ...]
    expressions: tuple[str, ...]
    left_out: tuple[str, ...]
    tells: Bool[np.ndarray, "candidate"]
    loss: float | None
    effect: PerComponent
    low: PerComponent
    high: PerComponent
    acts: Bool[np.ndarray, "component"]
    constant: Bool[np.ndarray, "component"]
    best: tuple[str, ...]
    alone: tuple[str, ...]
    eta2: Shares
    null: Shares
    largest: PerComponent

    @property
    def complete(self) -> bool:
        """Whether everything is computed."""
        return not np.isnan(self.eta2).any()

    @property
    def features(self) -> dict[str, str]:
        """Expression of each feature by its name."""
        return dict(zip(self.candidates, self.expressions, strict=False))

    @property
    def rows(self) -> list[int]:
        """Components that are drawn, in the order of layers."""
        size = np.nan_to_num(np.abs(self.effect))
        return sorted(np.argsort(-size, kind="stable")[:MOST_DRAWN].tolist())

    @property
    def acting(self) -> list[int]:
        """Components whose effect is told from 0, those with the largest first."""
        order = np.argsort(-np.abs(self.effect), kind="stable").tolist()
        return [at for at in order if self.acts[at]]

    @property
    def cols(self) -> list[int]:
        """Candidates that are drawn: features, and two joined that are the role of what acts."""
        joined = {
            SEVERAL.join(one.features) for one in self.table if one.acts and len(one.features) > 1
        }
        return [*range(len(self.expressions)), *sorted(map(self.candidates.index, joined))]

    @property
    def table(self) -> tuple[Placed, ...]:
        """The components with their roles, as hypotheses are made of them."""
        return tuple(self._placed(at) for at in range(len(self.components)))

    def share(self, at: int, candidate: str) -> float:
        """Return the share that a candidate explains of a component."""
        return float(self.eta2[at, self.candidates.index(candidate)]) if candidate else np.nan

    def _placed(self, at: int) -> Placed:
        best, alone = (
            candidate if self.share(at, candidate) > self.largest[at] else ""
            for candidate in (self.best[at], self.alone[at])
        )
        tells = dict(zip(self.candidates, self.tells.tolist(), strict=True))
        return Placed(
            component=self.components[at],
            site=self.sites[at],
            effect=float(self.effect[at]),
            low=float(self.low[at]),
            high=float(self.high[at]),
            acts=bool(self.acts[at]),
            features=tuple(best.split(SEVERAL)) if best else (),
            eta2=self.share(at, self.best[at]),
            alone=alone,
            eta2_alone=self.share(at, self.alone[at]),
            tells=tells.get(best, False),
            tells_alone=tells.get(alone, False),
        )


# --- figures -------------------------------------------------------------------------------------


def figures(result: Result) -> list[NamedFigure]:
    """Draw direct effects with their intervals, and what features explain."""
    return [_effects(result), _shares(result)]


def _effects(result: Result) -> NamedFigure:
    rows = result.rows[::-1]
    names = [result.components[at] for at in rows]
    values = (result.effect[rows], result.low[rows], result.high[rows])
    title = "rise of the loss (nats)"
    figure = drawn.ways(names, {"direct effect": values}, titles=(title, "component"))
    size = np.abs(result.effect)
    acts = [theme.POSITIVE if size[at] > LARGE else _PALE for at in rows]
    colours = [
        colour if result.acts[at] else theme.NEUTRAL for at, colour in zip(rows, acts, strict=True)
    ]
    figure.update_traces(
        text=[_hover(result, at) for at in rows],
        hovertemplate="%{text}<extra></extra>",
        customdata=[[len(rows) - 1 - i, len(result.cols)] for i in range(len(rows))],
        marker={"color": colours, "symbol": "circle", "size": 9},
        selected={"marker": {"opacity": 1.0}},
        unselected={"marker": {"opacity": 0.5}},
        showlegend=False,
    )
    # Rows stay where they are while the figure fills in.
    figure.update_yaxes(range=[-0.5, len(rows) - 0.5])
    # The name of the line stands above the rows.
    figure.update_layout(height=130 + 24 * max(3, len(rows)), margin_t=30)
    figure.add_annotation(
        x=0, y=1, yref="paper", yanchor="bottom", text="no change", showarrow=False,
        font={"size": labels.SIZE},
    )  # fmt: skip
    loss = "" if result.loss is None else f" The bare loss is {result.loss:.3g} nats."
    n = len(result.components)
    some = f" The {len(rows)} largest of {n} components." if len(rows) < n else ""
    return NamedFigure(
        "effects",
        "What each component does to the loss directly",
        f"Mean rise of the loss when the component's output at the position read, and nothing "
        f"else, is that of another input ({result.draws} others each), with 95 % intervals. Red: "
        f"the interval excludes 0, pale where the effect is no more than {LARGE:g} nats. What "
        f"later components made of the output stays. {result.n_searched} of {result.n_inputs} "
        f"inputs; the rest is held out.{loss}{some}",
        figure,
        selectable=True,
        texts=tuple((result.components[at], _told(result, at)) for at in rows),
    )


def _shares(result: Result) -> NamedFigure:
    rows, cols = result.rows, result.cols
    values, null = result.eta2[np.ix_(rows, cols)], result.null[np.ix_(rows, cols)]
    hover = [[_hover_share(result, at, of) for of in cols] for at in rows]
    shown = [["" if np.isnan(v) else f"{v:.2f}" for v in row] for row in values]
    with np.errstate(invalid="ignore"):
        below = values <= null
    figure = heatmap.heatmap(
        values,
        rows=[result.components[at] for at in rows],
        cols=[_two_lines(result.candidates[of]) for of in cols],
        titles=("component", "feature", "η²"),
        hover=hover,
        limits=(0.0, 1.0),
        text=[
            ["" if b else t for b, t in zip(*of, strict=True)]
            for of in zip(below, shown, strict=True)
        ],
        hatched=below,
    )
    letters = [len(result.candidates[of]) for of in cols]
    if sum(letters) > _ACROSS:
        figure.update_xaxes(tickangle=-90)
        figure.update_layout(height=240 + 34 * max(3, len(rows)))
    out = f" Left out: {', '.join(result.left_out)}." if result.left_out else ""
    if result.difference == ANSWER:
        out = (
            " The answer differs from input to input: what is explained is how strongly the "
            f"component writes it, not which one.{out}"
        )
    return NamedFigure(
        "features",
        "What features explain of what each component writes",
        f"η²: share of the variance of the component's term in {result.difference} that lies "
        "between inputs of different features. Struck out: no more than 95 % of shuffled features "
        "explain. Features of one input overlap, so that shares do not add up. Two joined are "
        f"shown where they are the role of a component that acts.{out}",
        figure,
        selectable=True,
        texts=tuple((name, expr) for name, expr in result.features.items()),
    )


def _two_lines(candidate: str) -> str:
    return theme.label(candidate, 41).replace(SEVERAL, " ×<br>")


def _hover(result: Result, at: int) -> str:
    name = result.components[at]
    if np.isnan(result.effect[at]):
        return f"{name}: not computed yet"
    bounds = (float(part[at]) for part in (result.effect, result.low, result.high))
    return f"{name}: {drawn.told(*bounds)} nats"


def _hover_share(result: Result, at: int, of: int) -> str:
    name = f"{result.components[at]}, {theme.label(result.candidates[of], 90)}"
    if np.isnan(result.eta2[at, of]):
        return f"{name}: not computed yet"
    if result.constant[at]:
        return f"{name}: nothing varies"
    return f"{name}: η² {result.eta2[at, of]:.3f}<br>chance {result.null[at, of]:.3f}"


# --- words ---------------------------------------------------------------------------------------


def _told(result: Result, at: int) -> str:
    """Say what one component does and is a sign of."""
    if np.isnan(result.effect[at]):
        return "not computed yet"
    bounds = (float(part[at]) for part in (result.effect, result.low, result.high))
    return f"{drawn.told(*bounds)} nats, {_sign(result, at)}"


def _sign(result: Result, at: int) -> str:
    one = result.table[at]
    if np.isnan(result.eta2[at]).any():
        return "features are not compared yet"
    if result.constant[at]:
        return "constant: it writes the same on all inputs"
    if not one.features:
        return f"no feature explains more than chance (η² {one.eta2:.2f})"
    shares = f"η² {one.eta2:.2f}, chance {result.largest[at]:.2f}"
    said = f"a sign of {SEVERAL.join(one.features)} ({shares})"
    if len(one.features) > 1:
        said += f", {result.alone[at]} alone {one.eta2_alone:.2f}"
    return said + (", which determines the answer" if one.tells else "")


def verdict(result: Result) -> str:
    """Name what acts, what it is a sign of, and one next step."""
    if not result.complete:
        done = int(np.isfinite(result.effect).sum())
        return (
            f"{done} of {len(result.components)} components are measured; what features explain "
            "comes last."
        )
    acting = result.acting
    if not acting:
        return (
            f"No component's direct effect is told from 0 on {result.n_searched} inputs. Next: ask "
            "more inputs, or check that the model answers these at all."
        )
    told = [f"{result.components[at]} {_told(result, at)}" for at in acting[:TOLD]]
    left = len(acting) - TOLD
    more = f"; {left} more differ{'s' * (left == 1)} from 0" if left > 0 else ""
    named = [result.table[at] for at in acting if result.table[at].features]
    tells = sum(one.tells for one in named)
    loss = "" if result.loss is None else f"; the bare loss is {result.loss:.3g} nats"
    return (
        f"{_many(result)} ({result.n_searched} inputs searched{loss}). Most: "
        f"{'; '.join(told)}{more}. {_next(named, tells)}"
    )


def _many(result: Result) -> str:
    """Count the components that act, and those of them that do so by much."""
    n, of = len(result.acting), len(result.components)
    large = sum(abs(result.effect[at]) > LARGE for at in result.acting)
    told = (
        f"effect of {n} of {of} components differs"
        if n == 1
        else (f"effects of {n} of {of} components differ")
    )
    many = "none" if not large else "all" if large == n > 1 else large
    return f"The direct {told} from 0, {many} by more than {LARGE:g} nats"


def _next(named: list[Placed], tells: int) -> str:
    if not named:
        return (
            "Next: ask features that could matter, or more inputs: none explains more than chance."
        )
    if tells == len(named):
        return (
            "All roles determine the answer, so that a hypothesis of them says little. Next: ask "
            "what these components read."
        )
    some = ", with and without what determines the answer" if tells else ""
    roles = f"the {len(named)} roles" if len(named) > 1 else "this role"
    return f"Next: test {roles} as a hypothesis on the inputs held out{some}."


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say what the clicked component does, and of a cell what its feature explains.

    For a component as a whole every candidate is drawn, whether it is in the map or not.
    """
    at, col = result.rows[int(cell["0"])], int(cell["1"])
    name, known = result.components[at], not np.isnan(result.eta2[at]).any()
    text = f"{name} exchanged: {_told(result, at)}."
    if not known or result.constant[at]:
        return text, []
    if col < len(result.cols):
        of = result.cols[col]
        return (
            f"{result.candidates[of]} explains {result.eta2[at, of]:.3f} of the variance of "
            f"{name}, {result.null[at, of]:.3f} by chance. {text}"
        ), []
    order = np.argsort(-result.eta2[at], kind="stable")[:MOST_LISTED]
    none = np.full(len(order), np.nan)
    series = {
        "η²": (result.eta2[at][order], none, none),
        "95 % of shuffles": (result.null[at][order], none, none),
    }
    figure = drawn.ways(
        [_two_lines(result.candidates[of]) for of in order],
        series,
        titles=("share of the variance explained", "feature"),
    )
    caption = f"What explains most of the term of {name} in {result.difference}."
    return text, [NamedFigure("cell", name, caption, figure)]
