"""What an attack with an explanation finds, and how it is drawn and read."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.analyses import _few_draws
from interp.explanations.terms import parse_term
from interp.figures import adversarial as drawn
from interp.figures.named import NamedFigure
from interp.methods.scrubbing.adversarial import arms, yields
from interp.methods.scrubbing.adversarial.arms import Arm
from interp.methods.scrubbing.adversarial.found import Found
from interp.methods.scrubbing.intervals import wilson
from interp.scores import Absent, Anchor, Interval, Null, Score

RARE = 0.05
"""Share of a null above which it is said that the null does as well."""
_WILSON = "Wilson, inputs of one start as clusters"
_COUNTS = "every query counts, nothing was chosen"
_SHOWN = 6
_TERM = re.compile(r"\b(?:a\d{1,4}\.h\d{1,4}|m\d{1,4})\b")
_SHARE = "share of inputs on which the model errs (%)"


@dataclass(frozen=True, eq=False)
class Result:
    """Errors by what chose the inputs.

    Attributes:
        behavior: The population.
        claim: Id of the node that was attacked alone, or empty.
        budget: Queries of the model in each arm.
        done: Whether everything has been asked.
        found: The arms, the worst errors and what searches ended with.
    """

    behavior: str
    claim: str
    budget: int
    done: bool
    found: Found

    def named(self, arm: str) -> str:
        """Return what people read for an arm."""
        if arm == arms.EXCLUDED and self.claim:
            return f"search: claim {claim_in_words(self.claim)}"
        return arm


def claim_in_words(claim: str) -> str:
    """Write the id of a node as people read it: a2.h1/a0.h0.k is L2H1/L0H0.k."""
    return _TERM.sub(lambda found: parse_term(found.group()).label, claim)


# --- figures --------------------------------------------------------------------------------------


def figures(result: Result) -> list[NamedFigure]:
    """Draw shares by arm, by family, their growth, what searches found and the worst errors."""
    return [_shares(result), _families(result), _growth(result), _searches(result), _worst(result)]


def _shares(result: Result) -> NamedFigure:
    rows = [_bar(result, arm) for arm in result.found.arms]
    absent = [
        f"{result.named(a.name)} was not tried: {a.why_not}."
        for a in result.found.arms
        if a.why_not
    ]
    caption = (
        f"Share of inputs on which the model errs, {result.budget:,} queries an arm, none asked "
        "twice. Arms of several families: on the half of the queries that did not choose the "
        "family. Lines: 95 % (Wilson; inputs made of one start, or of one random hypothesis, are "
        "not independent, which widens them). Ticks: single random hypotheses."
    )
    return NamedFigure(
        "shares",
        "What makes the model err",
        " ".join([caption, *absent]),
        drawn.bars(rows, titles=(_SHARE, "chosen by")),
    )


def _bar(result: Result, arm: Arm) -> drawn.Bar:
    low, high = arm.interval if arm.counted else (0.0, 0.0)
    null = 100 * result.found.null if arm.name == arms.NULL else np.zeros(0)
    family = f", {arm.families[arm.chosen]}" if arm.families and arm.chosen >= 0 else ""
    said = f"{arm.wrong:,} of {arm.counted:,}, {_percent(arm)}{family}; {_first(arm)}"
    name, share = result.named(arm.name), 100 * arm.share
    marked = arm.name in (arms.FAMILIES, arms.DISAGREEMENT, arms.EXCLUDED)
    return drawn.Bar(name, share, 100 * low, 100 * high, arm.why_not or said, marked, null)


def _first(arm: Arm) -> str:
    of = "half of them by query" if arm.name == arms.NULL else "first error at query"
    return f"{of} {arm.first:,}" if arm.first else "no error yet"


def _families(result: Result) -> NamedFigure:
    """Draw the families of the hypothesis and of the rule alone on the half that chose."""
    rows: list[drawn.Bar] = []
    said: list[str] = []
    for name in (arms.FAMILIES, arms.RULE):
        arm = result.found.arm(name)
        alone, together = _shown(arm)
        rows += [_family(arm, [i], _named(arm, i)) for i in alone]
        if together:
            rows.append(_family(arm, together, f"{name}: {_others(arm, together)}"))
            said.append(f"{name}, {_others(arm, together)}: {_told(arm, together)}.")
        unasked = int((arm.family_asked == 0).sum())
        if unasked:
            said.append(f"{name}: {unasked} of {len(arm.families)} families were not asked.")
    return NamedFigure(
        "families",
        "Which family makes it err",
        "On the half of the queries that chooses. Red: the family to which the model gave the "
        "largest mean probability of wrong answers, which is then asked alone; beside it those "
        f"that erred, up to {_SHOWN} by their share; all others stand together in one row. "
        + " ".join([*said, ""])
        + "Each family's numbers are in the answer's JSON. A family of the hypothesis: inputs in "
        "which exactly the first has changed by the fewest edits found, and what is in brackets "
        "is as it was. The rule alone: one edit, and another right answer.",
        drawn.bars(rows, titles=(_SHARE, "family")),
    )


def _shown(arm: Arm) -> tuple[list[int], list[int]]:
    """Return the families that are drawn alone, those that erred most first, and all others."""
    share = arm.family_errors / np.maximum(arm.family_asked, 1)
    order = [i for i in np.argsort(-share, kind="stable").tolist() if arm.family_asked[i]]
    alone = [i for i in order if arm.family_errors[i]][:_SHOWN]
    if 0 <= arm.chosen < len(share) and arm.family_asked[arm.chosen] and arm.chosen not in alone:
        alone.append(arm.chosen)
    return alone, [i for i in order if i not in alone]


def _named(arm: Arm, family: int) -> str:
    """Name one family."""
    return f"{arm.name}{', chosen' if family == arm.chosen else ''}: {arm.families[family]}"


def _others(arm: Arm, families: Sequence[int]) -> str:
    """Name families that share a row."""
    some = (
        "with fewer errors or none"
        if arm.family_errors[list(families)].any()
        else "without an error"
    )
    more = len(families) < int((arm.family_asked > 0).sum())
    kind = "family" if len(families) == 1 else "families"
    return f"{len(families)} {'more ' if more else ''}{kind} {some}"


def _family(arm: Arm, families: Sequence[int], name: str) -> drawn.Bar:
    """Draw one family, or several together."""
    asked, wrong = (int(n[list(families)].sum()) for n in (arm.family_asked, arm.family_errors))
    low, high = wilson(wrong, asked)
    chosen = list(families) == [arm.chosen]
    share = 100 * wrong / asked
    return drawn.Bar(name, share, 100 * low, 100 * high, _told(arm, families), chosen)


def _told(arm: Arm, families: Sequence[int]) -> str:
    """Say how many errors families have together, and what their share is below."""
    asked, wrong = (int(n[list(families)].sum()) for n in (arm.family_asked, arm.family_errors))
    _, high = wilson(wrong, asked)
    together = " together" if len(families) > 1 else ""
    return f"{wrong:,} of {asked:,}{together}, at most {_number(high)} % (95 %)"


def _growth(result: Result) -> NamedFigure:
    rows = [
        drawn.Growth(result.named(arm.name), arm.points.tolist(), arm.found.tolist())
        for arm in result.found.arms
        if not arm.why_not
    ]
    return NamedFigure(
        "growth",
        "Errors found against queries",
        "All queries, also those that choose a family. Random hypotheses: the mean of them.",
        drawn.growth(rows),
    )


def _searches(result: Result) -> NamedFigure:
    rows = [
        drawn.Ends(
            result.named(one.name),
            one.searched,
            one.fresh,
            one.errors,
            [drawn.theme.label(text, 50) for text in one.texts],
        )
        for one in result.found.searches
    ]
    said = [
        f"{result.named(one.name)}: {one.searched.mean():.3g} nats in the search, "
        f"{one.fresh.mean():.3g} on fresh draws; {int(one.wrong.sum())} of {len(one.texts)} are "
        f"errors of the model, on {int(one.refutes.sum())} it is right and the scrubbed model "
        f"answers something else, which speaks against the explanation; median of the population's "
        f"inputs {np.median(one.ordinary):.3g}, 99 % below {np.quantile(one.ordinary, 0.99):.3g}"
        + (f"; for {one.lonely:.0%} of them a class is empty" if one.lonely else "")
        + "."
        for one in result.found.searches
    ]
    return NamedFigure(
        "searches",
        "What searches found, scored again",
        "The best of many noisy scores is too large: only fresh draws estimate it. Lines: 95 %. "
        + " ".join(said),
        drawn.again(rows),
    )


def _worst(result: Result) -> NamedFigure:
    worst = result.found.worst
    hover = [
        f"{m.arm}{f': {m.family}' if m.family else ''}, the model says {m.said}" for m in worst
    ]
    texts = tuple(
        (f"{i + 1}. right: {m.right}, the model says {m.said} ({m.arm})", m.text)
        for i, m in enumerate(worst)
    )
    return NamedFigure(
        "worst",
        "Errors of which the model is most certain",
        "Found with the explanation, by families or by either search."
        if worst
        else "No error was found with the explanation yet.",
        drawn.confident(
            [m.text for m in worst],
            [m.log_odds for m in worst],
            [drawn.theme.label(h, 140) for h in hover],
        ),
        texts=texts,
    )


# --- words ----------------------------------------------------------------------------------------


def _percent(arm: Arm) -> str:
    """Write a share with its interval."""
    if not arm.counted:
        return "not asked"
    low, high = arm.interval
    return f"{_number(arm.share)} % [{_number(low)}, {_number(high)}]"


def _number(share: float) -> str:
    """Write a share in per cent, with two digits that count."""
    return f"{100 * share:.2g}" if share < 0.0995 else f"{100 * share:.0f}"


def verdict(result: Result) -> str:
    """Say what the explanation finds, what is found without it, and what that comes to."""
    found = result.found
    own, rule = found.arm(arms.FAMILIES), found.arm(arms.RULE)
    if not result.done:
        asked = sum(arm.asked for arm in found.arms)
        errors = sum(arm.errors for arm in found.arms)
        return f"{asked:,} inputs were asked so far, and the model erred on {errors:,} of them."
    if own.why_not:
        return f"There are no families: {own.why_not}. {_searched(result)}"
    if not any(arm.errors for arm in found.arms):
        return (
            f"No arm found an error in {result.budget:,} queries: nothing is learned about what "
            "the explanation buys. Next: more queries."
        )
    family = f" ({own.families[own.chosen]})" if own.families and own.chosen >= 0 else ""
    parts = [
        f"Families from this hypothesis{family} make the model err on {_percent(own)} of "
        f"{own.counted:,} fresh inputs{_on_choice(own)}; {_controls(result)}; minimal violations "
        f"of the rule alone on {_percent(rule)}.",
        _conclusion(found),
    ]
    onward = "Next: ask more, or scrub with this hypothesis."
    if any(mistake.neighbour for mistake in found.worst):
        onward = "Next: patch the worst error from the input beside it that the model gets right."
    return " ".join([*parts, _searched(result), onward]).strip()


def _on_choice(own: Arm) -> str:
    """Say what the chosen family gave on the queries that chose it."""
    if not own.families or own.chosen < 0 or not own.family_asked[own.chosen]:
        return ""
    wrong, asked = own.family_errors[own.chosen], own.family_asked[own.chosen]
    return f" (where the family was chosen, on {wrong:,} of {asked:,})"


def _controls(result: Result) -> str:
    found = result.found
    plain = f"random inputs on {_percent(found.arm(arms.RANDOM))}, one random edit on "
    plain += _percent(found.arm(arms.NEAR))
    if not len(found.null):
        return plain
    return (
        f"{plain}, families from random hypotheses on {_number(float(np.median(found.null)))} % "
        f"in the median ({_few_draws.rank_in_words(_rank(found), len(found.null) + 1)})"
    )


def _rank(found: Found) -> int:
    return 1 + int((found.null >= found.arm(arms.FAMILIES).share).sum())


def _conclusion(found: Found) -> str:
    """Compare with the null and with the rule alone."""
    own, rule = found.arm(arms.FAMILIES), found.arm(arms.RULE)
    if not own.errors:
        return "The explanation finds no error: it buys nothing here."
    if len(found.null) and _rank(found) > 1 and _rank(found) > RARE * (len(found.null) + 1):
        return "Random hypotheses do about as well: nothing is shown to be due to this one."
    if not own.counted or not rule.counted or not (own.wrong or rule.wrong):
        return "That is too little to compare."
    value, low, high = yields.ratio((own.share, *own.interval), (rule.share, *rule.interval))
    if math.isfinite(value):
        that = f"That is {value:.2g} [{low:.2g}, {high:.2g}] times as often"
    else:
        that = (
            "The ratio to the rule alone has no estimate, as that found no error; it is at least "
            f"{low:.2g} (95 %)"
        )
    if low > 1 and found.determines:
        return (
            f"{that}: the rule cut into the parts that the hypothesis names buys more "
            "than the rule as a whole. As these parts together say the right answer, nothing in "
            "this is owed to what is known of the model."
        )
    if low > 1:
        return f"{that}: here the explanation buys more than knowing the task."
    if high < 1:
        return f"{that}: the explanation buys less than knowing the task."
    if not math.isfinite(value):
        return (
            f"{that}: so few queries cannot tell whether the explanation buys anything over "
            "knowing the task."
        )
    return f"{that}: the explanation is not shown to buy anything over knowing the task."


def _searched(result: Result) -> str:
    found = result.found
    climb = found.arm(arms.CLIMB)
    how = {
        arms.DISAGREEMENT: "for disagreement with it",
        arms.EXCLUDED: f"against the claim {claim_in_words(result.claim)}"
        if result.claim
        else "against what it leaves out",
    }
    tried = {name: found.arm(name) for name in how}
    told = [f"{how[n]} on {_percent(arm)}" for n, arm in tried.items() if not arm.why_not]
    if not told:
        return ""
    return (
        f"Of the inputs asked, searches make it err {' and '.join(told)}; a search uphill on the "
        f"model's own answer, with no explanation, on {_percent(climb)}."
    )


def scores(result: Result) -> list[Score]:
    """Return the shares that claim something for the explanation, with their scale."""
    found = result.found
    own, floor = found.arm(arms.FAMILIES), found.arm(arms.RANDOM)
    if not result.done or not floor.counted:
        return []
    made = [_score_of_families(found)] if own.counted else []
    for name in (arms.DISAGREEMENT, arms.EXCLUDED):
        arm = found.arm(name)
        if arm.counted:
            made.append(_score_of_search(result, arm))
    return made


def _score_of_families(found: Found) -> Score:
    own = found.arm(arms.FAMILIES)
    null: Null | Absent = Absent(found.arm(arms.NULL).why_not or "too few were asked")
    if len(found.null):
        null = _few_draws.null("families from random hypotheses", found.null, _rank(found))
    chose = bool(own.families) and own.chosen >= 0
    which = (
        "the hypothesis' chosen family, on queries that did not choose it"
        if chose
        else "families of the hypothesis"
    )
    return Score(
        name=f"errors of the model on inputs from {which}",
        value=own.share,
        unit="share of inputs",
        n=own.counted,
        floor=Anchor("random inputs", found.arm(arms.RANDOM).share),
        ceiling=Anchor("every input", 1.0),
        constant=_no_guess(found.arm(arms.RULE)),
        null=null,
        interval=Interval(*own.interval, yields.LEVEL, _WILSON),
        held_out=Absent(
            "the value itself is on queries that did not choose the family" if chose else _COUNTS
        ),
    )


def _no_guess(control: Arm) -> Absent:
    """Say why there is no constant guess, and what the control is instead."""
    return Absent(
        f"no answer is guessed here; the control is {control.name}, {_percent(control)}"
        if control.counted
        else "no answer is guessed here"
    )


def _score_of_search(result: Result, arm: Arm) -> Score:
    return Score(
        name=f"errors of the model, {result.named(arm.name)}",
        value=arm.share,
        unit="share of inputs",
        n=arm.counted,
        floor=Anchor("random inputs", result.found.arm(arms.RANDOM).share),
        ceiling=Anchor("every input", 1.0),
        constant=_no_guess(result.found.arm(arms.CLIMB)),
        null=Absent("random hypotheses are tried by families alone"),
        interval=Interval(*arm.interval, yields.LEVEL, _WILSON),
        held_out=Absent(_COUNTS),
    )
