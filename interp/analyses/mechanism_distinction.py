"""Mechanism distinction: does the output happen because of this explanation, input by input?"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from interp.analyses import _hypotheses
from interp.analyses._cites import ANOMALY_DETECTION, CAUSAL_SCRUBBING
from interp.analyses._fields import MORE, ModelName, Whole
from interp.analyses._hypotheses import HypothesisText, OfHypothesis, PopulationName, arrays
from interp.analyses._mechanism_result import (
    LOSS,
    MARGIN,
    MARKED,
    NEAR,
    NEED,
    RELIANCE,
    UNMODELLED,
    Detector,
    Result,
    clicked,
    figures,
    inspect,
    scores,
    verdict,
    worst,
)
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Step
from interp.behaviors import Behavior
from interp.behaviors.built_in import BUILT_IN, built_in
from interp.behaviors.populations import POPULATIONS, population, token_names
from interp.behaviors.truths import truth_of
from interp.errors import BadInput, InterpError
from interp.explanations.checks import check
from interp.explanations.words import summary
from interp.methods.scrubbing.budget import check_classes
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.separation import told
from interp.models import catalogue, tokens

if TYPE_CHECKING:
    from interp.methods.scrubbing.reliance import Reliances

MECHANISM, MARKER = "mechanism", "marker present"
NOT_SCORED = -1
"""The mechanism of inputs that are drawn from and not scored."""
_TRUSTED = "-trusted"


class MechanismDistinction(OfHypothesis):
    """Measure, input by input, how much of the output a hypothesis explains."""

    kind: Literal["mechanism_distinction"] = "mechanism_distinction"
    model: ModelName = Field(default="two-mechanisms-paren", description="The model asked.")
    behavior: PopulationName = Field(
        default="two-mechanisms-paren",
        description="Inputs of which the mechanism that answers them is known.",
    )
    n_inputs: Whole = Field(
        default=1000,
        ge=20,
        le=1000,
        title="Inputs",
        description="How many inputs are scored; their corrupted partners are drawn from too.",
    )
    hypothesis: HypothesisText = Field(
        default="preset:balance", validate_default=True, description="What is claimed."
    )
    explains: Whole = Field(
        default=0,
        ge=0,
        le=1,
        title="Mechanism that it is about",
        description="Reliance should be high on inputs of this one; never turned round after the "
        "fact.",
    )
    draws: Whole = Field(
        default=16,
        ge=2,
        le=256,
        title="Draws",
        description="How often each input is scrubbed; with few draws reliance is rough.",
    )
    nulls: Whole = Field(
        default=40,
        ge=0,
        le=500,
        title="Random explanations",
        description="How many on random sites, and as many with shuffled features.",
        json_schema_extra=MORE,
    )


# --- inputs --------------------------------------------------------------------------------------


def inputs(spec: MechanismDistinction) -> Behavior:
    """Take labelled inputs and their corrupted partners, and check the hypothesis.

    Raises:
        BadInput: It is not known which mechanism answers them, or the hypothesis does not fit.
    """
    behavior = _with_partners(spec.behavior, spec.n_inputs, spec.model)
    of = arrays(spec, behavior)
    known = {*of.columns, *of.names}
    check(spec.claimed, catalogue.info(spec.model), known, n_positions=of.ids.shape[1])
    check_classes(spec.claimed, of)
    scored = of.columns[MECHANISM]
    few = min(int((scored == k).sum()) for k in (0, 1))
    if few < 2:
        raise BadInput(
            f"Mechanisms were to be told apart on {spec.n_inputs} inputs of {spec.behavior}.",
            f"Of one of them there {'is' if few == 1 else 'are'} {few or 'none'}.",
            "Take more inputs.",
        )
    return behavior


def _with_partners(name: str, n: int, model: str, *, labelled: bool = True) -> Behavior:
    """Return the inputs of a population, and behind them the corrupted ones of a built-in behavior.

    Where all labelled inputs have one answer, exchanging them for each other would change nothing.
    The partners' answer is the foil, and their mechanism ``NOT_SCORED``; other columns, which are
    about clean inputs, have that value too.
    """
    behavior = population(name, n, model)
    columns = dict(behavior.features)
    if labelled and MECHANISM not in columns:
        raise BadInput(
            f"Mechanisms were to be told apart on {name}.",
            f"It is not known of its inputs which mechanism answers them: they have no column "
            f"{MECHANISM!r}.",
            f"Choose one of: {', '.join(_labelled())}.",
        )
    if name in POPULATIONS:
        return behavior
    pairs = built_in(name, n, model)
    if not pairs.corrupted or not pairs.foils:
        return behavior
    nothing = (NOT_SCORED,) * n
    source = f"{pairs.source} Corrupted ones are drawn from too, not scored."
    features = tuple((said, values[:n] + nothing) for said, values in columns.items())
    return replace(pairs.both_sides(features), source=source)


def _labelled() -> list[str]:
    return [name for name, one in BUILT_IN.items() if MECHANISM in one.features]


def _trusted(spec: MechanismDistinction) -> Inputs | None:
    """Return inputs of the usual mechanism alone, where there is such a behavior."""
    name = spec.behavior + _TRUSTED
    if name not in BUILT_IN:
        return None
    behavior = _with_partners(name, spec.n_inputs, spec.model, labelled=False)
    return Inputs.of(behavior, token_names(name, spec.model)).first(spec.n_inputs)


def cost(spec: MechanismDistinction, behavior: Behavior) -> Cost:
    """Three passes an input; then each node with children once an input, draw and explanation."""
    info = catalogue.info(spec.model)
    longest, n = max(behavior.lengths), len(behavior)
    inner = sum(1 for node, _ in spec.claimed.nodes() if node.children and node.site != "logits")
    evaluations = spec.draws * 3 * (1 + spec.nulls)
    again = evaluations * spec.n_inputs * (1 + inner * longest // max(1, info.n_layers))
    return Cost(
        tokens=3 * n * longest + again // max(1, info.n_heads),
        passes=3 * n // 256 + evaluations,
        bytes=4 * (info.n_layers * (info.n_heads + 1) + 2) * n * info.d_model,
    )


# --- running -------------------------------------------------------------------------------------


def run(spec: MechanismDistinction, ctx: Context) -> Generator[Step[Result], None, None]:
    """Measure reliance, and what it is read against."""
    from interp.methods.scrubbing.reliance import Labelled, features_of, reliances
    from interp.methods.scrubbing.run import Amount

    of = arrays(spec, ctx.inputs)
    rows = np.flatnonzero(of.columns[MECHANISM] != NOT_SCORED)
    mechanism = of.columns[MECHANISM][rows]
    which = mechanism == spec.explains
    held = of.held_out[rows] if of.held_out is not None else np.zeros(len(rows), bool)
    second = held if 0 < held.sum() < len(held) else np.arange(len(rows)) % 2 == 1
    labelled = Labelled(rows, which, spec.explains == 0, second)
    amount = Amount(spec.draws, spec.nulls, spec.seed)
    values, info = of.values(spec.claimed), catalogue.info(spec.model)
    says = told({name: values[name][rows] for name in features_of(spec.claimed)}, which)
    trusted = _trusted(spec)
    model = ctx.load(spec.model)
    for fraction, found in reliances(model, spec.claimed, of, labelled, amount, trusted=trusted):
        detectors, missing = _detectors(spec, found, of, rows, trusted is not None)
        shown = worst(found.reliance, which)
        result = Result(
            inputs=ctx.inputs.source,
            drawn_from=len(of),
            explains=spec.explains,
            mechanism=mechanism,
            draws=(found.draws, spec.draws),
            sd=found.sd,
            reliance=found.reliance,
            need=found.need,
            detectors=detectors,
            missing=missing,
            sites=found.sites,
            same_sites=found.same_sites,
            twins=found.twins,
            told=says,
            shown=shown,
            shown_tokens=tuple(
                tokens.text_of(info, ctx.inputs.clean[int(row)]) for row in rows[shown]
            ),
        )
        yield Step(fraction, result)


def _detectors(
    spec: MechanismDistinction,
    found: Reliances,
    of: Inputs,
    rows: np.ndarray,
    has_trusted: bool,
) -> tuple[tuple[Detector, ...], tuple[str, ...]]:
    """List detectors, larger for the mechanism asked about, and say why others are missing."""
    usual = "" if spec.explains == 0 else "not "
    fitted = f"{spec.n_inputs} inputs of {spec.behavior}{_TRUSTED}, mechanism 0 alone"
    if not has_trusted:
        fitted = "the scored inputs themselves, as there are no trusted ones"
    marker = np.full(len(rows), np.nan)
    if MARKER in of.columns:
        marker = np.where(of.columns[MARKER][rows] > 0, -1.0, 1.0) * (1 - 2 * spec.explains)
    every = (
        (RELIANCE, "How much of the output it explains.", found.reliance, ""),
        (
            NEED,
            "How much the output changes when only what it names is exchanged.",
            found.need,
            "No need: it names nothing that is written straight to the logits.",
        ),
        (
            UNMODELLED,
            "Share of the mechanism in the input's class of features, learned from the labels of "
            "the other half.",
            found.unmodelled,
            "Features alone say nothing: it has none.",
        ),
        (
            NEAR,
            f"Of what its sites write where the answer is read, from {fitted}; {usual}near is "
            f"mechanism {spec.explains}.",
            found.near,
            "No distance: it names no component.",
        ),
        (LOSS, f"{usual}low is mechanism {spec.explains}.", found.surprise, ""),
        (MARGIN, f"{usual}large is it.", found.margin, ""),
        (
            MARKED,
            "Whether it is there; 0.5 by construction: both kinds have it.",
            marker,
            "No marker: these inputs have none.",
        ),
    )
    there = [one for one in every if np.isfinite(one[2]).any() or one[0] == RELIANCE]
    missing = tuple(one[3] for one in every if one not in there and one[3])
    return tuple(Detector(*one[:3]) for one in there), missing


# --- what next -----------------------------------------------------------------------------------


def follow_ups(spec: MechanismDistinction, result: Result) -> list[FollowUp]:
    """Suggest to test it otherwise, to ask about the other mechanism, and to look at an input."""
    fields = spec.model_dump(mode="json")
    shared = {name: fields[name] for name in ("model", "behavior", "n_inputs", "hypothesis")}
    ups: list[FollowUp] = []
    with suppress(InterpError):
        # Where all labelled inputs have one answer there is nothing to scrub without partners.
        _hypotheses.inputs(OfHypothesis(kind=spec.kind, **shared))
        ups.append(FollowUp("What loss does it keep?", {"kind": "causal_scrubbing", **shared}))
        truth_of(spec.behavior)  # new inputs can be judged only where the rule is written down
        ups.append(FollowUp("Try to break it", {"kind": "adversarial_inputs", **shared}))
    other = 1 - spec.explains
    ups.append(FollowUp(f"As an explanation of mechanism {other}", {**fields, "explains": other}))
    worst_one = int(result.shown[0])
    ups.append(_explored(spec, worst_one, "Why the answer to the input judged worst?"))
    return ups


def cell_follow_ups(
    spec: MechanismDistinction, result: Result, cell: dict[str, Any]
) -> list[FollowUp]:
    """Suggest to look into a clicked input."""
    ref = clicked(result, cell)
    return [] if ref is None else [_explored(spec, ref, "Why this answer?")]


def _explored(spec: MechanismDistinction, ref: int, label: str) -> FollowUp:
    info = catalogue.info(spec.model)
    ids = population(spec.behavior, spec.n_inputs, spec.model).clean[ref]
    plain = tuple(token for token in ids if token not in tokens.special_ids(info))
    prompt = "".join(tokens.text_of(info, plain))
    fields = {"kind": "direct_logit_attribution", "model": spec.model, "prompt": prompt}
    return FollowUp(label, fields)


def question(spec: MechanismDistinction) -> str:
    """Restate the question in plain words."""
    model = "the model of that name" if spec.model == spec.behavior else spec.model
    return (
        f"On {spec.n_inputs:,} inputs of {spec.behavior}, does the output of {model} rely on "
        f"this more where mechanism {spec.explains} answers: {summary(spec.claimed)}"
    )


ANALYSIS = Analysis(
    kind="mechanism_distinction",
    page=("Use", "Mechanisms"),
    rank=2,
    about="Does this explanation tell, input by input, whether the output happens because of it?",
    spec=MechanismDistinction,
    result=Result,
    question=question,
    inputs=inputs,
    cost=cost,
    run=run,
    figures=figures,
    verdict=verdict,
    scores=scores,
    inspect=inspect,
    follow_ups=follow_ups,
    cell_follow_ups=cell_follow_ups,
    version=2,
    example=MechanismDistinction(n_inputs=400, draws=8, nulls=8),
    cites=(
        ANOMALY_DETECTION,
        CAUSAL_SCRUBBING,
        Cite(
            "DeLong et al. (1988), Comparing the areas under correlated ROC curves",
            "@article{delong1988comparing,\n  author = {DeLong, Elizabeth R. and DeLong, David M. "
            "and Clarke-Pearson, Daniel L.},\n  title = {Comparing the Areas under Two or More "
            "Correlated Receiver Operating Characteristic Curves: A Nonparametric Approach},\n"
            "  journal = {Biometrics},\n  year = {1988}\n}",
        ),
    ),
)
