"""Hypothesis search: which hypothesis explains most for the fewest bits?"""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from interp.analyses._cites import CAUSAL_SCRUBBING
from interp.analyses._fields import MORE, Kind, Number, Seed, Whole
from interp.analyses._hypotheses import OfPopulation
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Step
from interp.analyses._search_result import Result, claimed, figures, inspect, scores, verdict
from interp.behaviors import Behavior
from interp.behaviors.populations import population, token_names
from interp.errors import BadInput
from interp.explanations.terms import terms_of
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.space import Space, half
from interp.models import catalogue

FEWEST = 20
"""Inputs of each half."""
_TESTED, _KEPT, _DRAWS = 3, 10, 4


class HypothesisSearch(OfPopulation):
    """Search the hypotheses about a behavior for what explains most at a price for bits."""

    kind: Literal["hypothesis_search"] = "hypothesis_search"
    n_inputs: Whole = Field(
        default=1000,
        ge=2 * FEWEST,
        le=4000,
        title="Inputs",
        description="How many inputs are drawn: one half is searched, the other only tests.",
    )
    objective: Annotated[Literal["loss", "kl"], Kind("choice")] = Field(
        default="loss",
        description="What is to be small: the scrubbed model's loss, or how far its answers are "
        "from the model's.",
    )
    price: Number = Field(
        default=0.01,
        ge=0,
        le=1,
        title="Price of a bit, nats",
        description="What a bit that is let through, or that names a site, must bring.",
    )
    start: Annotated[Literal["empty", "components exact"], Kind("choice")] = Field(
        default="empty",
        description="Where the first start begins: nothing matters, and all claims are through "
        "features; or everything matters in full, and parts may stay so.",
    )
    evaluations: Whole = Field(
        default=2000,
        ge=10,
        le=5000,
        title="Hypotheses",
        description="How many are evaluated at most, all starts together.",
    )
    restarts: Whole = Field(
        default=3,
        ge=0,
        le=50,
        title="Restarts",
        description="Further starts, from random hypotheses.",
        json_schema_extra=MORE,
    )
    depth: Whole = Field(
        default=1,
        ge=1,
        le=2,
        title="Depth",
        description="1: claims about direct inputs of the logits; 2: about inputs of those too.",
        json_schema_extra=MORE,
    )
    nulls: Whole = Field(
        default=40,
        ge=0,
        le=200,
        title="Random hypotheses",
        description="How many stand beside each of the best, on the inputs held out.",
        json_schema_extra=MORE,
    )
    seed: Seed = Field(default=0, description="Decides every draw and every choice.")


def inputs(spec: HypothesisSearch) -> Behavior:
    """Draw the inputs and check that both halves can be scrubbed.

    Raises:
        BadInput: A half is too small or has one answer only, or inputs cannot be read at depth 2.
    """
    behavior = population(spec.behavior, spec.n_inputs, spec.model)
    of = _arrays(spec, behavior)
    assert of.held_out is not None
    for name, which in (("searched", ~of.held_out), ("held out", of.held_out)):
        answers = len(np.unique(of.labels[which]))
        if which.sum() < FEWEST or answers < 2:
            raise BadInput(
                f"A search on {len(behavior)} inputs of {spec.behavior} was asked for.",
                f"{int(which.sum())} of them are {name}, with {answers} different right answers.",
                f"Choose inputs of which {FEWEST} or more are {name}, with different answers.",
            )
    info = catalogue.info(spec.model)
    several = len(set(behavior.lengths)) > 1
    if spec.depth == 2 and several and (info.causal or of.pad is None):
        raise BadInput(
            f"Claims of depth 2 were asked for on inputs of {spec.behavior}.",
            "They differ in length, and nodes would read positions that not all have.",
            "Search at depth 1, or choose inputs of one length.",
        )
    return behavior


def _arrays(spec: HypothesisSearch, behavior: Behavior) -> Inputs:
    return Inputs.of(behavior, token_names(spec.behavior, spec.model))


def cost(spec: HypothesisSearch, behavior: Behavior) -> Cost:
    """One pass an input; then a sum and an unembedding for each hypothesis and reference."""
    info = catalogue.info(spec.model)
    n, longest, terms = len(behavior), max(behavior.lengths), len(terms_of(info))
    runs = spec.evaluations + _KEPT * (_DRAWS + spec.nulls)
    again = longest if spec.depth == 2 else 1
    share = info.d_model * info.d_out / info.parameters
    return Cost(
        tokens=n * longest + int(runs * n / 2 * max(share, 0.1 * (again > 1)) * again),
        passes=n // 256 + 2 * runs,
        bytes=4 * n * again * info.d_model * (terms + 2) + 8 * spec.evaluations * n // 2,
    )


def run(spec: HypothesisSearch, ctx: Context) -> Generator[Step[Result], None, None]:
    """Search one half of the inputs, and test the best on the other."""
    from interp.methods.scrubbing.search import Plan, search

    of, info = _arrays(spec, ctx.inputs), catalogue.info(spec.model)
    assert of.held_out is not None
    exact = spec.start != "empty"
    space = Space.of(info, half(of, ~of.held_out), depth=spec.depth, exact=exact)
    plan = Plan(
        objective=spec.objective,
        price=spec.price,
        start=spec.start,
        restarts=spec.restarts,
        evaluations=spec.evaluations,
        nulls=spec.nulls,
        seed=spec.seed,
    )
    for fraction, found in search(ctx.load(spec.model), of, space, plan):
        result = Result(
            inputs=ctx.inputs.source,
            objective=spec.objective,
            price=spec.price,
            depth=spec.depth,
            components=len(space.terms),
            features=tuple(space.features),
            expressions=tuple(one.expr for one in space.features.values()),
            told=space.told,
            exact=exact,
            evaluations=spec.evaluations,
            found=found,
        )
        yield Step(fraction, result)


def follow_ups(spec: HypothesisSearch, result: Result) -> list[FollowUp]:
    """Suggest to test the best by themselves, to attack the first, and another price."""
    front = result.found.front
    with_claims = [one for one in front if claimed(one.hypothesis).graph.children]
    ups = [
        FollowUp(f"Test no. {front.index(one) + 1}", _scrubbing(spec, one.hypothesis))
        for one in with_claims[:_TESTED]
    ]
    if with_claims:
        attack = {**_shared(spec), "hypothesis": with_claims[0].hypothesis}
        ups.append(FollowUp("Try to break the best", {"kind": "adversarial_inputs", **attack}))
    fields = spec.model_dump(mode="json")
    price = spec.price / 2 or 0.01
    ups.append(FollowUp(f"Search at {price:g} nats a bit", {**fields, "price": price}))
    return ups


def cell_follow_ups(spec: HypothesisSearch, result: Result, cell: dict[str, Any]) -> list[FollowUp]:
    """Suggest to test the clicked hypothesis."""
    at = int(cell["0"])
    if at >= len(result.found.front):
        return []
    return [FollowUp(f"Test no. {at + 1}", _scrubbing(spec, result.found.front[at].hypothesis))]


def _shared(spec: HypothesisSearch) -> dict[str, Any]:
    fields = spec.model_dump(mode="json")
    return {name: fields[name] for name in ("model", "behavior", "n_inputs")}


def _scrubbing(spec: HypothesisSearch, hypothesis: str) -> dict[str, Any]:
    more = {"hypothesis": hypothesis, "references": "held-out"}
    return {"kind": "causal_scrubbing", **_shared(spec), **more}


def question(spec: HypothesisSearch) -> str:
    """Restate the question in plain words."""
    what = "loss" if spec.objective == "loss" else "KL from the model"
    deep = "direct inputs of the logits" if spec.depth == 1 else "two levels of inputs"
    return (
        f"Which hypothesis about {spec.model} on {spec.behavior} has the least scrubbed {what}, at "
        f"{spec.price:g} nats a bit, among {spec.evaluations:,} with claims about {deep}, searched "
        f"on one half of {spec.n_inputs:,} inputs and tested on the other?"
    )


ANALYSIS = Analysis(
    kind="hypothesis_search",
    page=("Find", "Hypotheses"),
    rank=6,
    about="Which hypothesis about this behavior explains most for the fewest bits?",
    spec=HypothesisSearch,
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
    example=HypothesisSearch(n_inputs=600, evaluations=300, restarts=0, nulls=10),
    cites=(
        CAUSAL_SCRUBBING,
        Cite(
            "Christiano (2022), Can we efficiently explain model behaviors?",
            "@misc{christiano2022explain,\n  author = {Christiano, Paul},\n"
            "  title = {Can we efficiently explain model behaviors?},\n"
            "  howpublished = {Alignment Research Center},\n  year = {2022}\n}",
        ),
        Cite(
            "Conmy et al. (2023), Towards automated circuit discovery",
            "@inproceedings{conmy2023towards,\n  author = {Conmy, Arthur and others},\n"
            "  title = {Towards Automated Circuit Discovery for Mechanistic Interpretability},\n"
            "  booktitle = {Advances in Neural Information Processing Systems},\n"
            "  year = {2023}\n}",
        ),
    ),
)
