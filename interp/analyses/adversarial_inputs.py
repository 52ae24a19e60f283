"""Adversarial inputs: does an explanation help to find inputs on which the model errs?"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

from pydantic import Field

from interp.analyses._adversarial_result import (
    Result,
    claim_in_words,
    figures,
    scores,
    verdict,
)
from interp.analyses._cites import CAUSAL_SCRUBBING
from interp.analyses._fields import MORE, Places, Whole
from interp.analyses._hypotheses import OfHypothesis, arrays
from interp.analyses._hypotheses import inputs as checked
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Step
from interp.behaviors import Behavior
from interp.behaviors.populations import POPULATIONS, population
from interp.explanations.words import summary
from interp.methods.scrubbing.adversarial.atoms import atoms_of
from interp.methods.scrubbing.adversarial.claims import claim_only
from interp.methods.scrubbing.adversarial.ground import Ground
from interp.models import catalogue

_ARMS = 7
"""Arms beside the random hypotheses."""
_FURTHER = 3
"""Inputs drawn for each query, so that there are enough different ones."""
_CLAIMS = 2


class AdversarialInputs(OfHypothesis):
    """Look for inputs on which the model errs, with an explanation and without."""

    kind: Literal["adversarial_inputs"] = "adversarial_inputs"
    budget: Whole = Field(
        default=2000,
        ge=20,
        le=20_000,
        title="Queries",
        description="How many inputs the model is asked in each arm, the controls as well.",
    )
    claim: Places = Field(
        default="",
        title="Attack one claim",
        examples=["what is left out"],
        description="Id of a node, a1.h0 for L1H0: the search looks for inputs on which this claim "
        "alone fails. "
        "Empty: it looks for those on which what the hypothesis leaves out matters.",
    )
    nulls: Whole = Field(
        default=20,
        ge=0,
        le=200,
        title="Random hypotheses",
        description="How many are tried, with as many queries each.",
        json_schema_extra=MORE,
    )
    starts: Whole = Field(
        default=10,
        ge=2,
        le=500,
        title="Starts",
        description="How many inputs each search begins from.",
        json_schema_extra=MORE,
    )


def inputs(spec: AdversarialInputs) -> Behavior:
    """Draw the inputs and check that new ones can be made and judged.

    Raises:
        BadInput: They cannot; the message says what would work.
    """
    behavior = checked(spec)
    if spec.claim:
        claim_only(spec.claimed, spec.claim)
    ground = _ground(spec, behavior, behavior)
    features = {name: one.expr for name, one in spec.claimed.features.items()}
    agreed = {name: name for node, _ in spec.claimed.nodes() for name in node.features}
    ground.check({**{f"agree {n}": n for n in agreed if n not in features}, **features})
    atoms_of(spec.claimed, ground.pool)
    return behavior


def _ground(spec: AdversarialInputs, behavior: Behavior, drawn: Behavior) -> Ground:
    return Ground.of(catalogue.info(spec.model), arrays(spec, behavior), drawn, spec.behavior)


def cost(spec: AdversarialInputs, behavior: Behavior) -> Cost:
    """One pass a query and arm, and one an input of the population for each search."""
    queries = spec.budget * (_ARMS + spec.nulls)
    longest, info = max(behavior.lengths), catalogue.info(spec.model)
    kept = len(behavior) * longest * info.d_model * (len(list(spec.claimed.nodes())) + 2)
    return Cost(
        tokens=(queries + 2 * len(behavior)) * longest,
        passes=(_ARMS + spec.nulls) * 40,
        bytes=8 * kept,
    )


def run(spec: AdversarialInputs, ctx: Context) -> Generator[Step[Result], None, None]:
    """Ask batch by batch, all arms in turn."""
    from interp.methods.scrubbing.adversarial.attack import Attack, Plan

    drawn = ctx.inputs
    if spec.behavior in POPULATIONS:
        most = POPULATIONS[spec.behavior].most
        n = min(most, spec.n_inputs + _FURTHER * spec.budget)
        drawn = population(spec.behavior, n, spec.model)
    plan = Plan(spec.budget, spec.starts, spec.nulls, spec.claim, spec.seed)
    ground = _ground(spec, ctx.inputs, drawn)
    attack = Attack(ctx.load(spec.model), spec.claimed, ground, plan)
    for fraction, found in attack.run():
        done = fraction == 1
        yield Step(fraction, Result(spec.behavior, spec.claim, spec.budget, done, found))


def follow_ups(spec: AdversarialInputs, result: Result) -> list[FollowUp]:
    """Suggest to scrub with it, to patch the worst error, and to attack single claims."""
    fields = spec.model_dump(mode="json")
    shared = {name: fields[name] for name in ("model", "behavior", "n_inputs", "hypothesis")}
    ups = [FollowUp("Scrub with this hypothesis", {"kind": "causal_scrubbing", **shared})]
    for mistake in result.found.worst:
        if mistake.neighbour:
            pair = {
                "clean": mistake.neighbour,
                "corrupted": mistake.text,
                "answer": mistake.right,
                "foil": mistake.said,
            }
            patch = {"kind": "activation_patching", "model": spec.model, "pairs": [pair]}
            ups.append(FollowUp("Patch the worst error from an input it gets right", patch))
            break
    claims = [node.id for node, above in spec.claimed.nodes() if above is not None]
    ups += [
        FollowUp(f"Attack the claim {claim_in_words(name)}", {**fields, "claim": name})
        for name in claims
        if name != spec.claim
    ][:_CLAIMS]
    if spec.claim:
        ups.append(FollowUp("Attack what is left out", {**fields, "claim": ""}))
    return ups


def question(spec: AdversarialInputs) -> str:
    """Restate the question in plain words."""
    part = f"the claim {claim_in_words(spec.claim)}" if spec.claim else "what it leaves out"
    return (
        f"On what share of {spec.budget:,} inputs does {spec.model} err when they are chosen by "
        f"families of this hypothesis, by disagreement with it or against {part}, and when they "
        f"are chosen without it, on {spec.behavior}: {summary(spec.claimed)}"
    )


ANALYSIS = Analysis(
    kind="adversarial_inputs",
    page=("Use", "Adversarial inputs"),
    rank=1,
    about="Does the explanation help to find inputs on which the model errs, more than knowing the "
    "task does?",
    spec=AdversarialInputs,
    result=Result,
    question=question,
    inputs=inputs,
    cost=cost,
    run=run,
    figures=figures,
    verdict=verdict,
    scores=scores,
    inspect=lambda result, cell: None,
    follow_ups=follow_ups,
    version=2,
    example=AdversarialInputs(
        hypothesis="preset:paren-1b",
        behavior="paren-hard-mix",
        n_inputs=300,
        budget=40,
        nulls=2,
        starts=4,
    ),
    cites=(
        CAUSAL_SCRUBBING,
        Cite(
            "Wilson (1927), Probable inference",
            "@article{wilson1927probable,\n  author = {Wilson, Edwin B.},\n"
            "  title = {Probable Inference, the Law of Succession, and Statistical Inference},\n"
            "  journal = {Journal of the American Statistical Association},\n"
            "  year = {1927}\n}",
        ),
        Cite(
            "Donner & Zou (2012), Closed-form confidence intervals for functions of the normal "
            "mean and standard deviation",
            "@article{donner2012closed,\n  author = {Donner, Allan and Zou, Guang Yong},\n"
            "  title = {Closed-form confidence intervals for functions of the normal mean and "
            "standard deviation},\n  journal = {Statistical Methods in Medical Research},\n"
            "  year = {2012}\n}",
        ),
    ),
)
