"""What a test of a hypothesis finds, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from interp.analyses import _scrubbing_figures as drawn
from interp.analyses._scrubbing_claims import null_of_sites
from interp.explanations.hypothesis import EXACT, Hypothesis
from interp.explanations.words import label, sentence
from interp.figures.named import NamedFigure
from interp.methods.scrubbing import nulls
from interp.methods.scrubbing.found import Found
from interp.methods.scrubbing.intervals import of_mean, percentile
from interp.scores import Absent, Anchor, Interval, Null, Score

LEAST_GAP = 0.01
"""Nats between floor and model below which nothing is said to be recovered."""
SHOWN = 400
"""References whose text is kept: half of them those that lose most."""


@dataclass(frozen=True, eq=False)
class Result:
    """A hypothesis tested.

    Attributes:
        hypothesis: Canonical JSON.
        inputs: How the inputs are drawn.
        references: "all" or "held-out".
        drawn_from: Number of inputs that stand for each other.
        refs: Numbers of the references among them.
        labels: Right output of each reference.
        names: Names of outputs.
        shown: References whose text is kept, by their place among the references.
        shown_tokens: Their tokens.
        columns: Names of the inputs' own features.
        slice_names: Properties of inputs.
        slices: Which references have each.
        found: Everything that was computed.
    """

    hypothesis: str
    inputs: str
    references: str
    drawn_from: int
    refs: Int[np.ndarray, "ref"]
    labels: Int[np.ndarray, "ref"]
    names: tuple[str, ...]
    shown: Int[np.ndarray, "some"]
    shown_tokens: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...]
    slice_names: tuple[str, ...]
    slices: Bool[np.ndarray, "slice ref"]
    found: Found

    @property
    def claimed(self) -> Hypothesis:
        """The hypothesis."""
        return _read(self.hypothesis)

    @cached_property
    def loss(self) -> float:
        """Mean loss of the scrubbed runs in nats; NaN before the first."""
        done = self.found.measured.complete.loss
        return float(done.mean()) if done.size else float("nan")

    @property
    def model(self) -> float:
        """Mean loss of the model."""
        return float(self.found.measured.model[0].mean())

    @property
    def shuffled(self) -> float:
        """Mean loss of answers of other inputs."""
        return float(self.found.shuffled.mean())

    @property
    def constant(self) -> float:
        """Mean loss of the best constant guess."""
        return float(self.found.constant.mean())

    @property
    def guesses_better(self) -> bool:
        """Whether the best constant guess has a smaller loss than the scrubbed model."""
        return self.loss > self.constant

    @cached_property
    def usual(self) -> Bool[np.ndarray, "ref"]:
        """Which references the most frequent label is right on."""
        return self.labels == np.bincount(self.labels).argmax()

    @property
    def priced(self) -> bool:
        """Whether the cost of every claim is computed: the nodes' variants come after."""
        last = self.found.without if self.claimed.graph.children else self.found.claims
        return bool(last)

    @property
    def rest_stays(self) -> bool:
        """Whether what is not named at the logits stays as it is in the model."""
        return self.claimed.graph.other == EXACT

    @property
    def floor(self) -> tuple[str, Any]:
        """What counts as nothing explained: its name, and the loss of each reference.

        Where the rest of the model is not under test, it stays as it is when nothing is explained
        too; then the floor is that what is named is exchanged.
        """
        if self.rest_stays and self.found.exchanged.size:
            return "what is named exchanged", self.found.exchanged
        return "shuffled answers", self.found.shuffled

    @property
    def tested(self) -> bool:
        """Whether there is anything to recover: the floor is clearly above the model."""
        return float(self.floor[1].mean()) - self.model > LEAST_GAP

    def share(self, loss: float) -> float:
        """Return how far a loss is on the way from the floor (0) to the model (1)."""
        low = float(self.floor[1].mean())
        return (low - loss) / (low - self.model) if low != self.model else float("nan")

    @property
    def recovered(self) -> float:
        """How far the scrubbed loss is on the way from the floor to the model."""
        return self.share(self.loss)

    @property
    def of_constant(self) -> float:
        """How far the best constant guess is."""
        return self.share(self.constant)


@lru_cache(maxsize=64)
def _read(text: str) -> Hypothesis:
    return Hypothesis.model_validate_json(text)


def loss_interval(result: Result) -> Interval | Absent:
    """Return the interval of the mean scrubbed loss; the same each time."""
    done = result.found.measured.complete.loss
    if not done.size:
        return Absent("nothing is computed yet")
    return of_mean(done, np.random.default_rng(0), _groups(result))


def against_constant(result: Result) -> Interval | Absent:
    """Return the interval of how much larger the loss is than the best constant guess' one."""
    done = result.found.measured.complete.loss
    more = done - result.found.constant[: done.shape[1]]
    return of_mean(more, np.random.default_rng(0), _groups(result))


def _groups(result: Result) -> np.ndarray:
    return result.found.groups[: result.found.measured.complete.loss.shape[1]]


def scores(result: Result) -> list[Score]:
    """Return the loss recovered, from shuffled answers and from the best constant guess."""
    if not np.isfinite(result.loss) or result.found.measured.done < 1:
        return []
    whole = Absent("all inputs are scored; where some of them suggested it, choose held-out ones")
    held = Absent("all references are held out") if result.references == "held-out" else whole
    made = []
    floor_name, own_floor = result.floor
    other = "best constant guess"
    for name, floor, drawn_from in (
        (floor_name, own_floor, "sites"),
        (other, result.found.constant, "features"),
    ):
        low = float(floor.mean())
        if low - result.model <= LEAST_GAP or (result.rest_stays and floor is not own_floor):
            continue

        def share(loss: float, low: float = low) -> float:
            return (low - loss) / (low - result.model)

        guess = Anchor(other, share(result.constant))
        if result.rest_stays:
            guess = Absent("the rest of the model is there, so that a guess is no comparison")
        made.append(
            Score(
                name=f"loss recovered, from {name} to the model",
                value=share(result.loss),
                unit="of the way",
                n=len(result.refs),
                floor=Anchor(name, 0.0),
                ceiling=Anchor("the model", 1.0),
                constant=guess if floor is own_floor else Absent("it is the floor"),
                null=_null(result, drawn_from, share),
                interval=_share_interval(result, floor),
                held_out=held,
            )
        )
    return made


def _null(result: Result, which: str, share: Any) -> Null | Absent:
    values = getattr(result.found, which)[:, 0]
    values = values[np.isfinite(values)]
    why = result.found.no_sites if which == "sites" else result.found.no_features
    if why:
        return Absent(why)
    if not len(values):
        return Absent("no random hypotheses were asked for")
    name = null_of_sites(result.claimed) if which == "sites" else nulls.FEATURES
    low, median, high = np.quantile([share(v) for v in values], [0.05, 0.5, 0.95])
    return Null(name, float(low), float(median), float(high), len(values))


def _share_interval(result: Result, floor: np.ndarray) -> Interval | Absent:
    done = result.found.measured.complete
    return percentile(
        lambda loss, low, model: (low - loss) / (low - model),
        done.loss.mean(0),
        floor,
        done.model[0],
        rng=np.random.default_rng(0),
        groups=_groups(result),
    )


def figures(result: Result) -> list[NamedFigure]:
    """Draw the scale, what each claim costs, the running estimate, and where it fails."""
    return drawn.figures(result, loss_interval(result))


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say more about a clicked claim."""
    if 0 <= int(cell.get("0", -1)) < len(result.found.claims):
        nodes = {node.id: (node, above) for node, above in result.claimed.nodes()}
        node, above = nodes[result.found.claims[int(cell["0"])].node]
        budget = next((b for b in result.found.budget.nodes if b.node == node.id), None)
        said = sentence(node, above)
        if budget is not None:
            said += (
                f" {label(node, above)}: {budget.classes} classes of inputs, the smallest with "
                f"{budget.smallest}; {budget.own_bits:.2f} bits pass, {budget.label_bits:.2f} of "
                f"them about the label."
            )
        return said, []
    return None
