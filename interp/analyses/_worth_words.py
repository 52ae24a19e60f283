"""What comparing scores with successes says, in sentences."""

from __future__ import annotations

from interp.analyses._worth_result import (
    ALL,
    ALONE,
    BITS,
    BOTH,
    MEASURES,
    MECHANISMS,
    NO_LABEL,
    WITHIN,
    Result,
    told,
)
from interp.scores import Absent, Interval, Score

_ROUGH = 0.8
_APART = 0.3
"""Distance of ranks from which a hypothesis is called misleading."""


def scores(result: Result) -> list[Score]:
    """Return the correlations of the loss recovered, among all and within kinds."""
    wanted = [result.correlation(MEASURES[0], one) for one in (ALL, WITHIN, NO_LABEL)]
    wanted.append(result.correlation(MEASURES[1], ALL))
    return [one for one in wanted if isinstance(one, Score)]


def sign(score: Score | Absent) -> int:
    """Return 1 or -1 where the interval is above or below 0; 0 where it is not, or is missing."""
    if isinstance(score, Absent) or not isinstance(score.interval, Interval):
        return 0
    return (score.interval.low > 0) - (score.interval.high < 0)


def verdict(result: Result) -> str:
    """Say what a higher score buys, how far that is more than kinds, and where it misleads."""
    if not result.correlated:
        n = len(result.known)
        return f"{n} of {len(result.kinds)} hypotheses are scored and judged so far."
    overall, within = (result.correlation(MEASURES[0], one) for one in (ALL, WITHIN))
    if isinstance(overall, Absent):
        return f"Nothing can be said: {overall.reason}."
    what = "mechanisms are told apart" if result.downstream == MECHANISMS else "the model errs"
    parts = [
        f"Over {overall.n} hypotheses the rank correlation of loss recovered with how well {what} "
        f"is {told(overall)}; within kinds {told(within)}, at equal bits "
        f"{told(result.correlation(MEASURES[0], BITS))}, without those whose features determine "
        f"the label {told(result.correlation(MEASURES[0], NO_LABEL))} (within kinds "
        f"{told(result.correlation(MEASURES[0], BOTH))}).",
        _conclusion(overall, within),
        _reversed(result),
        _misleading(result),
        "Next: test those whose ranks differ most, claim by claim.",
    ]
    return " ".join(part for part in parts if part)


def _conclusion(overall: Score, within: Score | Absent) -> str:
    if sign(overall) < 0:
        return "Here a higher score goes with less success."
    if not sign(overall):
        return "A higher score is not shown to buy more here."
    if sign(within) > 0:
        roughly = ", but it orders them only roughly" if overall.value < _ROUGH else ""
        return f"Here a higher score does buy more, also within kinds taken together{roughly}."
    if sign(within) < 0:
        return (
            "The score tells kinds apart, but within kinds taken together a higher one goes with "
            "less success."
        )
    return (
        "A higher score goes with more success over all; within kinds taken together it is not "
        "shown to say anything about it."
    )


def _reversed(result: Result) -> str:
    """Name the kinds among which a higher score goes with less success."""
    found = [
        f"{one.subset.removesuffix(ALONE)!r} ({told(one.score)})"
        for one in result.correlated
        if one.measure == MEASURES[0] and one.subset.endswith(ALONE) and sign(one.score) < 0
    ]
    if not found:
        return ""
    return f"Among those called {' and '.join(found)} a higher score goes with less success."


def _misleading(result: Result) -> str:
    """Name one whose score is high, above a constant guess, and that is good for less."""
    score, success = result.ranks
    for k in result.misleading:
        if score[k] - success[k] >= _APART and result.share[k] > result.constant_share:
            return (
                "Of those that score above a constant guess, the one that falls most in rank: "
                f"{result.named(k)}, {result.share[k]:.0%} of the loss recovered and a success of "
                f"{result.success[k]:.2g}, where the best has "
                f"{result.success[result.best[0]]:.2g}."
            )
    return ""
