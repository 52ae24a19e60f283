"""Arms: ways of choosing what to ask a model, each with the same number of queries (torch-free).

An arm with several families spends the first quarter of its queries on all of them alike, the
second on the fourth of them to which the model gave the largest probability of wrong answers, and
the other half on the first of these: the share of errors is counted on that half alone, which chose
nothing. No arm asks one input twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit

from interp.methods.scrubbing.adversarial.edits import Edits
from interp.methods.scrubbing.adversarial.families import Violations
from interp.methods.scrubbing.adversarial.ground import Ground
from interp.methods.scrubbing.adversarial.making import Drawn
from interp.methods.scrubbing.adversarial.moves import Bodies
from interp.methods.scrubbing.adversarial.yields import independent
from interp.methods.scrubbing.intervals import wilson

RANDOM = "random inputs"
NEAR = "one random edit"
RULE = "the rule alone"
NULL = "random hypotheses"
FAMILIES = "this hypothesis"
DISAGREEMENT = "search: disagreement"
EXCLUDED = "search: excluded part"
CLIMB = "search: the model's own answer"

Logits = Float[np.ndarray, "text output"]
Ask = Callable[[Bodies], Logits]
Making = Drawn | Edits | Violations
"""What makes inputs by family: ``names`` are the families, ``make`` gives so many new ones."""
ALL = -1


class Batch(NamedTuple):
    """Inputs that were asked together: which family each is of, and whether it only counts."""

    bodies: Bodies
    logits: Logits
    group: Int[np.ndarray, "text"]
    fresh: bool


def log_odds(logits: Logits, right: Int[np.ndarray, "text"]) -> Float[np.ndarray, "text"]:
    """Return the log odds of the right answer, in nats; of two answers, their logit difference."""
    rows = np.arange(len(logits))
    own = logits[rows, right]
    others = logits.copy()
    others[rows, right] = -np.inf
    most = others.max(1)
    return own - most - np.log(np.exp(others - most[:, None]).sum(1))


def by_families(
    making: Making, ground: Ground, ask: Ask, *, budget: int, batch: int
) -> Generator[Batch, None, None]:
    """Ask what families give.

    Args:
        making: The families.
        ground: What is right.
        ask: Runs the model.
        budget: Queries in all.
        batch: Queries at once.
    """
    known: set[bytes] = set()
    n = len(making.names)
    left = list(range(n))
    asked, doubt, spent = np.zeros(n), np.zeros(n), 0
    limit = budget if n == 1 else budget // 2
    while spent < budget and left:
        fresh = spent >= limit or n == 1
        left.sort(key=lambda f: -doubt[f] / max(asked[f], 1))
        if fresh and n > 1:
            now = left[:1]
        elif spent >= budget // 4 and n > 1:
            now = left[: max(2, len(left) // 4)]
        else:
            now = left
        quota = min(batch, (budget if fresh else limit) - spent)
        parts, groups = _made(making, now, quota, known)
        left = [f for f in left if f not in parts or len(parts[f])]
        if not groups:
            continue
        bodies = Bodies.joined([parts[f] for f in groups])
        group = np.repeat(groups, [len(parts[f]) for f in groups])
        logits = ask(bodies)
        spent += len(bodies)
        if not fresh:
            odds = log_odds(logits, ground.answers(bodies))
            asked += np.bincount(group, minlength=n)
            doubt += np.bincount(group, expit(-odds), minlength=n)
        yield Batch(bodies, logits, group, fresh)


def _made(
    making: Making, now: list[int], quota: int, known: set[bytes]
) -> tuple[dict[int, Bodies], list[int]]:
    """Make about as many of each family, not more than the quota in all."""
    shares = np.diff(np.linspace(0, quota, len(now) + 1).astype(int))
    # With fewer queries than families those of a batch rotate by what is known already.
    turn = len(known) % len(now)
    parts = {
        f: making.make(f, int(n), known)
        for f, n in zip(now[turn:] + now[:turn], np.sort(shares)[::-1], strict=True)
        if n > 0
    }
    return parts, [f for f, made in parts.items() if len(made)]


@dataclass(eq=False)
class Tally:
    """What an arm has asked so far.

    Attributes:
        wrong: Whether the model erred, query by query.
        counts: Whether a query counts for the share of errors.
        group: Family or start of each.
        start: The population input that each was made of.
        points: Queries at the end of each batch.
    """

    wrong: list[bool] = field(default_factory=list)
    counts: list[bool] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    points: list[int] = field(default_factory=list)

    def add(self, batch: Batch, wrong: Bool[np.ndarray, "text"]) -> None:
        """Take in a batch."""
        self.wrong += wrong.tolist()
        self.counts += [batch.fresh] * len(wrong)
        self.group += batch.group.tolist()
        self.start += batch.bodies.start.tolist()
        self.points.append(len(self.wrong))


@dataclass(frozen=True, eq=False)
class Arm:
    """What one arm found.

    Attributes:
        name: Its name.
        why_not: Why it was not tried, or empty.
        asked: Inputs asked in all.
        errors: Inputs of these on which the model errs.
        counted: Inputs that the share of errors is of.
        wrong: Errors among them.
        worth: How many independent inputs these are worth.
        first: Number of the first query that found an error, from 1; 0: none did.
        points: Queries at the ends of batches.
        found: Errors found until then; for several draws their mean.
        families: Names of the families; none where there is one.
        family_asked: Inputs asked of each, without those that count.
        family_errors: Errors among them.
        chosen: The family that counts; ``ALL``: each.
    """

    name: str
    why_not: str
    asked: int
    errors: int
    counted: int
    wrong: int
    worth: float
    first: int
    points: Int[np.ndarray, "point"]
    found: Float[np.ndarray, "point"]
    families: tuple[str, ...] = ()
    family_asked: Int[np.ndarray, "family"] = field(default_factory=lambda: np.zeros(0, np.int64))
    family_errors: Int[np.ndarray, "family"] = field(default_factory=lambda: np.zeros(0, np.int64))
    chosen: int = ALL

    @property
    def share(self) -> float:
        """Share of the inputs counted on which the model errs; NaN where none was asked."""
        return self.wrong / self.counted if self.counted else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval."""
        return wilson(self.share * self.worth, self.worth) if self.counted else (0.0, 1.0)


def arm_of(name: str, tally: Tally, families: tuple[str, ...] = (), chosen: int = ALL) -> Arm:
    """Sum up a tally. Inputs that were made of one start are not independent.

    Without families the groups are the starts of searches.
    """
    wrong, counts = np.array(tally.wrong, bool), np.array(tally.counts, bool)
    group, n = np.array(tally.group, np.int64), len(families)
    first = int(wrong.argmax()) + 1 if wrong.any() else 0
    counted, errors = int(counts.sum()), int(wrong[counts].sum())
    start = np.array(tally.start, np.int64) if families else group
    alike = np.bincount(start[counts]), np.bincount(start[counts], wrong[counts])
    points = np.array(tally.points, np.int64)
    return Arm(
        name=name,
        why_not="",
        asked=len(wrong),
        errors=int(wrong.sum()),
        counted=counted,
        wrong=errors,
        worth=independent(alike[1], alike[0]),
        first=first,
        points=points,
        found=np.cumsum(wrong)[points - 1].astype(float) if len(points) else np.zeros(0),
        families=families if n > 1 else (),
        family_asked=np.bincount(group[~counts], minlength=n) if n > 1 else np.zeros(0, np.int64),
        family_errors=np.bincount(group[~counts & wrong], minlength=n)
        if n > 1
        else np.zeros(0, np.int64),
        chosen=chosen,
    )


def pooled(name: str, draws: list[Arm]) -> Arm:
    """Sum up arms of one kind: each is one cluster of inputs."""
    points = max((one.points for one in draws), key=len, default=np.zeros(0, np.int64))
    found = [_until(one, points) for one in draws]
    firsts = [one.first for one in draws if one.first]
    return Arm(
        name=name,
        why_not="",
        asked=sum(one.asked for one in draws),
        errors=sum(one.errors for one in draws),
        counted=sum(one.counted for one in draws),
        wrong=sum(one.wrong for one in draws),
        worth=independent([one.wrong for one in draws], [one.counted for one in draws]),
        first=int(np.median(firsts)) if 2 * len(firsts) > len(draws) else 0,
        points=points,
        found=np.mean(found, 0) if found else np.zeros(0),
    )


def _until(one: Arm, points: Int[np.ndarray, "point"]) -> Float[np.ndarray, "point"]:
    """Return the errors that an arm had found at some numbers of queries."""
    at = np.searchsorted(one.points, points, side="right")
    return np.concatenate([[0.0], one.found])[at]


def absent(name: str, why: str) -> Arm:
    """Return an arm that is not tried."""
    none = np.zeros(0, np.int64)
    return Arm(name, why, 0, 0, 0, 0, 0.0, 0, none, np.zeros(0))
