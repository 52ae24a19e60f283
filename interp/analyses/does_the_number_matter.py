"""Does the number matter: does a higher scrubbed score mean that the explanation buys more?"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from interp.analyses import _worth_given as given
from interp.analyses import _worth_words as words
from interp.analyses._cites import ANOMALY_DETECTION, CAUSAL_SCRUBBING
from interp.analyses._fields import Kind, ModelName, Seed, Whole
from interp.analyses._hypotheses import PopulationName
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Spec, Step
from interp.analyses._worth_result import (
    ADVERSARIAL,
    MECHANISMS,
    Result,
    correlations,
    figures,
    inspect,
)
from interp.behaviors import Behavior, built_in
from interp.behaviors.populations import POPULATIONS, population, token_names
from interp.behaviors.truths import truth_of
from interp.errors import BadInput
from interp.explanations.hypothesis import Hypothesis
from interp.methods.scrubbing.budget import Budget, budget
from interp.methods.scrubbing.candidates import Made, generate
from interp.methods.scrubbing.inputs import Inputs
from interp.models import catalogue

if TYPE_CHECKING:
    from interp.methods.scrubbing.scored import Downstream, Scored
    from interp.models.load import LoadedModel

_SPARE = 2
"""Hypotheses made for each that is wanted: some turn out to be alike."""
_FURTHER = 3
"""Inputs drawn for each query, so that there are enough different ones."""


class DoesTheNumberMatter(Spec):
    """Score many hypotheses about one behavior, and see what each is good for."""

    kind: Literal["does_the_number_matter"] = "does_the_number_matter"
    model: ModelName = Field(default="two-mechanisms-paren", description="The model asked.")
    behavior: PopulationName = Field(
        default="two-mechanisms-paren", description="The distribution of inputs."
    )
    downstream: Annotated[Literal["mechanisms", "adversarial"], Kind("choice")] = Field(
        default="mechanisms",
        title="Good for",
        description="Telling two mechanisms apart, or writing inputs on which the model errs.",
    )
    n_hypotheses: Whole = Field(
        default=60,
        ge=10,
        le=200,
        title="Hypotheses",
        description="How many that differ in effect are made.",
    )
    n_inputs: Whole = Field(
        default=1000,
        ge=40,
        le=4000,
        title="Inputs",
        description="How many inputs stand for each other, and how many each hypothesis is judged "
        "on.",
    )
    draws: Whole = Field(
        default=4,
        ge=1,
        le=32,
        title="Draws",
        description="How often each reference is scrubbed, with new draws.",
    )
    seed: Seed = Field(default=0, description="Decides which hypotheses are made, and all draws.")


def inputs(spec: DoesTheNumberMatter) -> Behavior:
    """Draw the inputs that hypotheses are judged on, and check that it can be asked of them.

    Raises:
        BadInput: It cannot; the message says what would work.
    """
    if spec.downstream == ADVERSARIAL:
        truth_of(spec.behavior)
        return _population(spec, spec.n_inputs)
    behavior = _population(spec, 2)
    if given.MECHANISM not in dict(behavior.features):
        raise BadInput(
            f"Mechanisms were to be told apart on {spec.behavior}.",
            "It is not known of its inputs which mechanism answers them.",
            "Choose two-mechanisms-paren or two-mechanisms-induction, or adversarial inputs.",
        )
    return built_in(spec.behavior, spec.n_inputs, spec.model)


def _population(spec: DoesTheNumberMatter, n: int) -> Behavior:
    if spec.behavior in POPULATIONS:
        return population(spec.behavior, n, spec.model)
    return built_in(spec.behavior, n, spec.model)


def cost(spec: DoesTheNumberMatter, behavior: Behavior) -> Cost:
    """Three passes an input and some for roles; then evaluations, and queries where it errs."""
    longest, n = max(behavior.lengths), len(behavior)
    info = catalogue.info(spec.model)
    queries = spec.n_hypotheses * n * (spec.downstream == ADVERSARIAL)
    evaluations = 2 * spec.draws * spec.n_hypotheses
    return Cost(
        tokens=(5 * n + queries) * longest + evaluations * n,
        passes=given.ROLES_FROM + evaluations + queries // 256,
        bytes=16 * n * longest * info.d_model * (info.n_layers + 1),
    )


def run(spec: DoesTheNumberMatter, ctx: Context) -> Generator[Step[Result], None, None]:
    """Make hypotheses, make all ready on one cache, then score and judge one after another."""
    from interp.methods.scrubbing.scored import Scored

    model = ctx.load(spec.model)
    explained = _explained(spec, ctx.inputs)
    of = Inputs.of(explained, token_names(spec.behavior, spec.model))
    known = given.planted(model.info) + given.published(model.info)
    known = given.matched(model, explained, spec.seed) + known
    rng = np.random.default_rng([spec.seed, 1])
    made = generate(known, of, model.info, _SPARE * spec.n_hypotheses, rng)
    every = [one.hypothesis for one in made.candidates]
    scored = Scored(model, every, of, np.arange(len(of)), spec.seed)
    kept = scored.distinct(spec.n_hypotheses)
    made = replace(made, candidates=tuple(made.candidates[k] for k in kept))
    hypotheses = [every[k] for k in kept]
    result = _nothing_yet(spec, explained, of, (made, scored), model)
    yield Step(0.0, result)
    downstream = _downstream(spec, model, hypotheses, ctx.inputs)
    order = np.random.default_rng([spec.seed, 2]).permutation(len(hypotheses)).tolist()
    seen: dict[str, int] = {}
    for done, k in enumerate(order, 1):
        loss, kl = scored.of(kept[k], spec.draws)
        good = downstream.of(k)
        result = result.with_one(
            k, (loss, kl), (good.value, good.low, good.high), seen.setdefault(good.same, len(seen))
        )
        yield Step(0.95 * done / len(order), result)
    yield Step(1.0, correlations(result, np.random.default_rng([spec.seed, 3])))


def _explained(spec: DoesTheNumberMatter, behavior: Behavior) -> Behavior:
    """Return what hypotheses are about: of two mechanisms, the inputs that the first answers."""
    if spec.downstream == ADVERSARIAL:
        return behavior if not behavior.corrupted else given.exchangeable(behavior)
    return given.exchangeable(built_in(spec.behavior + given.TRUSTED, spec.n_inputs, spec.model))


def _nothing_yet(
    spec: DoesTheNumberMatter,
    explained: Behavior,
    of: Inputs,
    found: tuple[Made, Scored],
    model: LoadedModel,
) -> Result:
    made, scored = found
    budgets = [budget(one.hypothesis, of, model.info, spec.draws) for one in made.candidates]
    nothing = np.full(len(made.candidates), np.nan)
    return Result(
        model=spec.model,
        behavior=spec.behavior,
        downstream=spec.downstream,
        inputs=explained.source,
        n_explained=len(of),
        n_judged=spec.n_inputs,
        tried=made.tried,
        kinds=tuple(one.kind for one in made.candidates),
        hows=tuple(one.how for one in made.candidates),
        hypotheses=tuple(one.hypothesis.canonical for one in made.candidates),
        bits=np.array([one.channel_bits for one in budgets]),
        leaks=np.array(
            [_told(m.hypothesis, b) for m, b in zip(made.candidates, budgets, strict=True)]
        ),
        model_loss=scored.scale.model,
        shuffled_loss=scored.scale.shuffled,
        constant_loss=scored.scale.constant,
        loss=nothing,
        kl=nothing,
        success=nothing,
        low=nothing,
        high=nothing,
        group=np.full(len(nothing), -1),
        correlated=(),
    )


def _told(hypothesis: Hypothesis, of: Budget) -> bool:
    """Whether features, not whole inputs, determine the label."""
    by_feature = {node.id for node, _ in hypothesis.nodes() if node.features}
    return any(all(by_feature & set(group) for group in leak.groups) for leak in of.leaks)


def _downstream(
    spec: DoesTheNumberMatter,
    model: LoadedModel,
    hypotheses: Sequence[Hypothesis],
    behavior: Behavior,
) -> Downstream:
    from interp.methods.scrubbing.adversarial.ground import Ground
    from interp.methods.scrubbing.scored import Distinctions, Judged, Yields

    names = token_names(spec.behavior, spec.model)
    if spec.downstream == MECHANISMS:
        second = np.array(dict(behavior.features)[given.MECHANISM]) == 1
        pool = Inputs.of(replace(behavior.both_sides(), clusters=()), names)
        judged = Judged(np.arange(len(behavior)), second)
        return Distinctions(model, hypotheses, pool, judged, draws=spec.draws, seed=spec.seed)
    pool = _explained(spec, behavior)
    drawn = pool
    if spec.behavior in POPULATIONS:
        n = min(POPULATIONS[spec.behavior].most, (1 + _FURTHER) * spec.n_inputs)
        drawn = population(spec.behavior, n, spec.model)
    ground = Ground.of(model.info, Inputs.of(pool, names), drawn, spec.behavior)
    return Yields(model, hypotheses, ground, spec.n_inputs, spec.seed)


def follow_ups(spec: DoesTheNumberMatter, result: Result) -> list[FollowUp]:
    """Suggest to test the most misleading hypotheses, and to ask with more or otherwise."""
    fields = spec.model_dump(mode="json")
    ups = [up for k in result.misleading[:2] for up in _tests(spec, result, k)]
    if spec.n_hypotheses < 200:
        more = min(200, 2 * spec.n_hypotheses)
        ups.append(FollowUp(f"The same with {more} hypotheses", {**fields, "n_hypotheses": more}))
    ups.append(FollowUp("Other hypotheses, other draws", {**fields, "seed": spec.seed + 1}))
    return ups


def cell_follow_ups(
    spec: DoesTheNumberMatter, result: Result, cell: dict[str, Any]
) -> list[FollowUp]:
    """Suggest to test the clicked hypothesis by itself."""
    return _tests(spec, result, int(cell["0"]))


def _tests(spec: DoesTheNumberMatter, result: Result, k: int) -> list[FollowUp]:
    fields = {"model": spec.model, "hypothesis": result.hypotheses[k]}
    name = result.named(k)
    if spec.downstream == MECHANISMS:
        judged = {"kind": "mechanism_distinction", "behavior": spec.behavior, **fields}
        ups = [FollowUp(f"Which inputs rely on it? {name}", judged)]
        trusted = spec.behavior + given.TRUSTED
        one_answer = len(set(built_in(trusted, 20, spec.model).answers)) == 1
        scrubbed = {"kind": "causal_scrubbing", "behavior": trusted, **fields}
        return ups if one_answer else [*ups, FollowUp(f"Scrub with it: {name}", scrubbed)]
    if spec.behavior not in POPULATIONS:
        return []
    return [
        FollowUp(
            f"Scrub with it: {name}",
            {"kind": "causal_scrubbing", "behavior": spec.behavior, **fields},
        )
    ]


def question(spec: DoesTheNumberMatter) -> str:
    """Restate the question in plain words."""
    what = "tell two mechanisms apart" if spec.downstream == MECHANISMS else "make the model err"
    on = "" if spec.behavior == spec.model else f" on {spec.behavior}"
    return (
        f"Of {spec.n_hypotheses} hypotheses about {spec.model}{on}, do those with a "
        f"higher scrubbed score {what} better?"
    )


ANALYSIS = Analysis(
    kind="does_the_number_matter",
    page=("Test", "Does the number matter?"),
    rank=8,
    about="Does a higher scrubbed score mean that an explanation buys you more?",
    spec=DoesTheNumberMatter,
    result=Result,
    question=question,
    inputs=inputs,
    cost=cost,
    run=run,
    figures=figures,
    verdict=words.verdict,
    scores=words.scores,
    inspect=inspect,
    follow_ups=follow_ups,
    cell_follow_ups=cell_follow_ups,
    version=2,
    example=DoesTheNumberMatter(
        model="two-mechanisms-induction",
        behavior="two-mechanisms-induction",
        n_hypotheses=12,
        n_inputs=80,
        draws=2,
    ),
    cites=(
        CAUSAL_SCRUBBING,
        ANOMALY_DETECTION,
        Cite(
            "Spearman (1904), The proof and measurement of association between two things",
            "@article{spearman1904proof,\n  author = {Spearman, Charles},\n"
            "  title = {The Proof and Measurement of Association between Two Things},\n"
            "  journal = {The American Journal of Psychology},\n  year = {1904}\n}",
        ),
    ),
)
