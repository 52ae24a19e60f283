"""Component roles: what does each do to the loss directly, and what is it a sign of?"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool
from pydantic import Field

from interp.analyses import _roles_asked as roles_asked
from interp.analyses._fields import MORE, Seed, Whole
from interp.analyses._hypotheses import OfPopulation
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Step
from interp.analyses._roles_result import ANSWER, Result, figures, inspect, verdict
from interp.behaviors import Behavior, built_in
from interp.behaviors.built_in import for_model as behaviors_for
from interp.behaviors.populations import population
from interp.errors import BadInput, InterpError
from interp.explanations.hypothesis import Hypothesis
from interp.explanations.matching import COUNT, HORIZON, matched_twice, paren_hypotheses
from interp.explanations.terms import parse_terms, terms_of
from interp.models import catalogue
from interp.models.info import BYTES, ModelInfo

if TYPE_CHECKING:
    from interp.methods.roles import Roles


class ComponentRoles(OfPopulation):
    """Exchange the output of every component, and ask which feature it is a sign of."""

    kind: Literal["component_roles"] = "component_roles"
    n_inputs: Whole = Field(
        default=1000,
        ge=20,
        le=4000,
        title="Inputs",
        description="How many inputs are drawn; roles are found on the half that is searched.",
    )
    draws: Whole = Field(
        default=5,
        ge=1,
        le=32,
        title="Draws",
        description="Other inputs whose output each input takes.",
        json_schema_extra=MORE,
    )
    seed: Seed = Field(default=0, description="Decides who takes whose output, and shuffles.")


def inputs(spec: ComponentRoles) -> Behavior:
    """Draw the inputs and check that there is something to compare and to be a sign of.

    Raises:
        BadInput: All have one answer, some have no foil, or no feature distinguishes them.
    """
    behavior = population(spec.behavior, spec.n_inputs, spec.model)
    asked = f"Roles were asked on {len(behavior)} inputs of {behavior.name}."
    if len(set(roles_asked.searched(behavior).answers)) < 2:
        raise BadInput(
            asked,
            "Those that are searched all have the same right answer or none, so that another "
            "input's output would put back what carries it.",
            "Choose inputs with different answers, or more of them.",
        )
    if not roles_asked.two_classes(behavior) and min(behavior.foils or (-1,)) < 0:
        raise BadInput(
            asked,
            "Terms are of the answer's logit over a foil's, and some inputs have no foil.",
            f"Choose inputs that have one: {_with_foils(spec.model)}.",
        )
    kept, left_out = roles_asked.features(behavior)
    if not kept:
        raise BadInput(
            asked,
            f"Their features ({', '.join(left_out) or 'none'}) are the same on all that are "
            "searched, or tell nearly each apart.",
            "Ask more inputs, or others.",
        )
    return behavior


def _with_foils(model: str) -> str:
    works: list[str] = []
    for name in behaviors_for(model):
        with suppress(InterpError):
            behavior = population(name, 20, model)
            if min(behavior.foils or (-1,)) >= 0 and len(set(behavior.answers)) > 1:
                works.append(name)
    return ", ".join(works) or "those of another model"


def cost(spec: ComponentRoles, behavior: Behavior) -> Cost:
    """One pass an input searched, and an unembedding for each exchange."""
    info = catalogue.info(spec.model)
    searched, many = roles_asked.searched(behavior), len(_sites(info))
    exchanges = len(searched) * many * spec.draws
    share = info.d_model * info.d_out / info.parameters
    return Cost(
        tokens=sum(searched.lengths) + math.ceil(exchanges * share),
        passes=len(searched) + math.ceil(exchanges / 256),
        bytes=3 * len(searched) * many * info.d_model * max(8, BYTES[info.dtype]),
    )


def _sites(info: ModelInfo) -> dict[str, str]:
    """Name the components and their terms: the embeddings are one."""
    embeddings = "+".join(str(term) for term in terms_of(info) if term.layer < 0)
    rest = {term.label: str(term) for term in terms_of(info) if term.layer >= 0}
    return {"embedding": embeddings, **rest}


def run(spec: ComponentRoles, ctx: Context) -> Generator[Step[Result], None, None]:
    """Run the inputs searched, exchange outputs component by component, then compare features."""
    from interp.methods.roles import finding

    kept, left_out = roles_asked.features(ctx.inputs)
    behavior = replace(
        roles_asked.searched(ctx.inputs),
        features=tuple((name, tuple(of.tolist())) for name, (_, of) in kept.items()),
    )
    two = roles_asked.two_classes(behavior)
    pairs = zip(behavior.answers, behavior.foils, strict=True)
    compared = [(1, 0)] * len(behavior) if two else list(pairs)
    outputs = catalogue.info(spec.model).answers.classes
    labelled = partial(
        Result,
        inputs=ctx.inputs.source,
        n_inputs=len(ctx.inputs),
        n_searched=len(behavior),
        difference=f"{outputs[1]} − {outputs[0]}" if two and outputs else ANSWER,
        draws=spec.draws,
        expressions=tuple(expr for expr, _ in kept.values()),
        left_out=left_out,
    )
    sites = _sites(catalogue.info(spec.model))
    tells = np.zeros(0, bool)
    model = ctx.load(spec.model)
    for fraction, roles in finding(model, behavior, compared, ctx.rng, draws=spec.draws):
        if not len(tells):
            tells = roles_asked.tells(roles.candidates, kept, behavior.answers)
        yield Step(fraction, _result(roles, sites, tells, labelled))


def _result(
    roles: Roles,
    sites: Mapping[str, str],
    tells: Bool[np.ndarray, "candidate"],
    labelled: partial[Result],
) -> Result:
    compared = not np.isnan(roles.eta2).any()
    found = [roles.of(name) for name in roles.components]
    measured = ~np.isnan(roles.rises).any(0)
    varies = np.ptp(roles.terms, 0) > 0
    known = [compared and bool(one) for one in varies]
    return labelled(
        components=roles.components,
        sites=tuple(sites[name] for name in roles.components),
        candidates=roles.candidates,
        tells=tells,
        loss=float(roles.loss) if np.isfinite(roles.loss) else None,
        effect=np.array([one.effect for one in found]),
        low=np.array([one.low for one in found]),
        high=np.array([one.high for one in found]),
        acts=np.array([one.acts for one in found]) & measured,
        constant=~varies & bool(np.isfinite(roles.terms).all()),
        best=tuple(one.best if so else "" for one, so in zip(found, known, strict=True)),
        alone=tuple(one.alone if so else "" for one, so in zip(found, known, strict=True)),
        eta2=roles.eta2,
        null=roles.null,
        largest=roles.largest,
    )


# --- going on -------------------------------------------------------------------------------------


def hypotheses(spec: ComponentRoles, result: Result) -> tuple[tuple[str, Hypothesis], ...]:
    """Make the hypotheses that the roles suggest: the published ones where there are some."""
    if not result.complete:
        return ()
    if {*COUNT, HORIZON} & set(result.features):
        return paren_hypotheses(result.table, model=spec.model, behavior=spec.behavior)
    return matched_twice(result.table, result.features, spec.model, spec.behavior)


def follow_ups(spec: ComponentRoles, result: Result) -> list[FollowUp]:
    """Suggest to test the roles as hypotheses on the inputs that were not searched."""
    held_out = result.n_searched < result.n_inputs
    question = {
        "kind": "causal_scrubbing",
        "model": spec.model,
        "behavior": spec.behavior,
        "n_inputs": spec.n_inputs,
        "references": "held-out" if held_out else "all",
        "seed": spec.seed,
    }
    return [
        FollowUp(f"Test: {title}", {**question, "hypothesis": hypothesis.canonical})
        for title, hypothesis in hypotheses(spec, result)
    ]


def cell_follow_ups(spec: ComponentRoles, result: Result, cell: dict[str, Any]) -> list[FollowUp]:
    """Suggest to patch and ablate, and to ask who writes into the clicked component."""
    at = result.rows[int(cell["0"])]
    term = parse_terms(result.sites[at])[0]
    behavior = _pairs(spec)
    if not behavior or term.layer < 0:
        return []
    pairs = {"model": spec.model, "behavior": behavior, "n_pairs": 20}
    heads = term.kind == "head"
    slots = ", ".join(f"{term.label}.{slot}" for slot in "qkv")
    receivers = slots if heads else f"L{term.layer}.mlp_in"
    name, site = term.label, "z" if heads else "mlp_out"
    return [
        FollowUp(
            f"Who writes into {name}?",
            {"kind": "path_patching", **pairs, "receivers": receivers},
        ),
        FollowUp(
            f"Patch {'heads' if heads else 'MLPs'}",
            {"kind": "activation_patching", **pairs, "site": site, "direction": "noising"},
        ),
        FollowUp("Take every component out", {"kind": "ablation", **pairs, "pool": "corrupted"}),
    ]


def _pairs(spec: ComponentRoles) -> str:
    """Return the behavior with corrupted prompts that is asked, or the model's first one."""
    names = behaviors_for(spec.model)
    for name in sorted(names, key=lambda one: one != spec.behavior):
        with suppress(InterpError):
            built_in(name, 20, spec.model)
            return name
    return ""


def question(spec: ComponentRoles) -> str:
    """Restate the question in plain words."""
    return (
        f"What does each component of {spec.model} do to the loss directly, and which feature of "
        f"the input is it a sign of, on the searched half of {spec.n_inputs} inputs of "
        f"{spec.behavior}?"
    )


ANALYSIS = Analysis(
    kind="component_roles",
    page=("Find", "Roles"),
    rank=5,
    about="What does each component do to the loss directly, and which feature of the input is it "
    "a sign of?",
    spec=ComponentRoles,
    result=Result,
    question=question,
    inputs=inputs,
    cost=cost,
    run=run,
    figures=figures,
    verdict=verdict,
    scores=lambda _: (),
    inspect=inspect,
    follow_ups=follow_ups,
    cell_follow_ups=cell_follow_ups,
    example=ComponentRoles(n_inputs=200, draws=3),
    cites=(
        Cite(
            "Chan et al. (2022), Causal scrubbing: results on a paren balance checker",
            "@misc{chan2022paren,\n  author = {Chan, Lawrence and others},\n"
            "  title = {Causal Scrubbing: Results on a Paren Balance Checker},\n"
            "  howpublished = {AI Alignment Forum},\n  year = {2022}\n}",
        ),
        Cite(
            "Fisher (1925), Statistical methods for research workers",
            "@book{fisher1925statistical,\n  author = {Fisher, Ronald A.},\n"
            "  title = {Statistical Methods for Research Workers},\n"
            "  publisher = {Oliver and Boyd},\n  year = {1925}\n}",
        ),
    ),
)
