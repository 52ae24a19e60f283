"""What a search for hypotheses finds (no torch)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from interp.methods.scrubbing.intervals import percentile
from interp.methods.scrubbing.nulls import rank
from interp.scores import Absent, Interval

PerRef = Float[np.ndarray, "ref"]
PerEvaluation = Float[np.ndarray, "evaluation"]


@dataclass(frozen=True, eq=False)
class Levels:
    """What the objective is read against, on each reference of one half, in nats.

    Attributes:
        model: The model itself.
        shuffled: Answers of other inputs.
        constant: The best answer that ignores the input.
    """

    model: PerRef
    shuffled: PerRef
    constant: PerRef


@dataclass(frozen=True, eq=False)
class Candidate:
    """A hypothesis that no other one found beats in both the objective and bits.

    Attributes:
        hypothesis: Canonical JSON.
        said: What it claims, one sentence a node.
        search: Mean objective on the half searched, in nats, as the search saw it.
        again: The same with fresh draws; None where not computed yet.
        bits: Its price.
        values: Objective on each reference held out, draws averaged; empty where not computed yet.
        null: Mean objective there of random hypotheses with the same tree; NaN where not computed.
        leaks: The fewest nodes that together determine the label, as people read them.
        without: Largest mean objective there without one of these; None where there is none, or
            where it is not computed.
    """

    hypothesis: str
    said: tuple[str, ...]
    search: float
    again: float | None
    bits: float
    values: PerRef
    null: Float[np.ndarray, "null"]
    leaks: tuple[str, ...]
    without: float | None

    @property
    def held_out(self) -> float:
        """Mean objective on the half held out; NaN where not computed yet."""
        return float(self.values.mean()) if self.values.size else float("nan")

    @property
    def interval(self) -> Interval | Absent:
        """The interval of that; the same each time."""
        if not self.values.size:
            return Absent("it is not computed yet")
        return percentile(lambda mean: mean, self.values, rng=np.random.default_rng(0))

    @property
    def drawn(self) -> Float[np.ndarray, "some"]:
        """The random hypotheses that are computed."""
        return self.null[np.isfinite(self.null)]

    @property
    def rank(self) -> tuple[int, int]:
        """Its place among the random hypotheses, and of how many."""
        return rank(self.held_out, self.drawn.tolist(), larger_is_better=False)


@dataclass(frozen=True, eq=False)
class Searched:
    """The state of a search.

    Attributes:
        values: Mean objective of every hypothesis evaluated, in order, in nats.
        bits: Its price.
        start: Number of the start that it was evaluated from.
        current: Objective and price together, in nats, of the one that the search was at then.
        best: The least that was found until then.
        optima: Starts that ended where no single change helps.
        starts: Starts that were made.
        front: The best that no other one beats in both, the best first.
        search: What it is read against, on the half searched.
        held_out: The same on the half held out; None before anything is computed there.
    """

    values: PerEvaluation
    bits: PerEvaluation
    start: Int[np.ndarray, "evaluation"]
    current: PerEvaluation
    best: PerEvaluation
    optima: int
    starts: int
    front: tuple[Candidate, ...]
    search: Levels
    held_out: Levels | None


def pareto(values: PerEvaluation, bits: PerEvaluation) -> Int[np.ndarray, "front"]:
    """Return those that no other one beats in both, the cheapest first; of equals the first."""
    order = np.lexsort((np.arange(len(values)), values, bits))
    found: list[int] = []
    least = np.inf
    for at in order.tolist():
        if values[at] < least:
            found.append(at)
            least = float(values[at])
    return np.array(found, dtype=np.int64)
