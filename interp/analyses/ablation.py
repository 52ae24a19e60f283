"""Ablation: what breaks when a component is taken out, and does it depend on the way?"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from interp.analyses._ablation_result import Result, figures, inspect, verdict
from interp.analyses._cites import CAUSAL_SCRUBBING, PATCHING_PRACTICES
from interp.analyses._fields import (
    BehaviorName,
    Count,
    Kind,
    Metric,
    ModelName,
    Pairs,
    Seed,
    Whole,
)
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Spec, Step
from interp.behaviors import Behavior, built_in, from_pairs
from interp.errors import InterpError
from interp.methods import effects
from interp.methods.changes import mean_change
from interp.methods.pools import (
    NOBODY,
    Pool,
    PoolChoice,
    check_pool,
    columns,
    make_pool,
)
from interp.models import catalogue, tokens
from interp.models.batches import rows_per_batch

if TYPE_CHECKING:
    from interp.methods.ablation import Ablated

DRAWS, MOST_DRAWS = 4, 32


class Ablation(Spec):
    """Take out every head, attention layer and MLP, one at a time, in three ways."""

    kind: Literal["ablation"] = "ablation"
    model: ModelName = Field(default="induction-handmade", description="The model asked.")
    behavior: BehaviorName = Field(default="", description="A built-in set of pairs, or empty.")
    n_pairs: Count = Field(default=20, description="How many pairs of the behavior, 1 to 1000.")
    pairs: Pairs = Field(default=(), description="Prompt pairs; ignored where a behavior is named.")
    metric: Metric = Field(default="logit_diff", description="What is read at the answer position.")
    pool: Annotated[PoolChoice, Kind("choice")] = Field(
        default="clean",
        description="Prompts that mean and resample take activations from: the clean ones, where "
        "each takes those of others, or the corrupted ones, where each takes its own partner's.",
    )
    draws: Whole = Field(
        default=DRAWS,
        ge=1,
        le=MOST_DRAWS,
        title="Draws",
        description="How often each clean prompt is resampled; not used with the corrupted pool.",
    )
    seed: Seed = Field(default=0, description="Decides which clean prompt each one takes.")

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, fields: Any) -> Any:
        """Drop what is ignored, so that one question has one spec and one key."""
        if not isinstance(fields, dict):
            return fields
        fields = {**fields, **({"pairs": ()} if fields.get("behavior") else {"n_pairs": 20})}
        if fields.get("pool") == "corrupted":
            return {**fields, "draws": DRAWS, "seed": 0}
        return {**fields, "draws": _used(fields)}


def _used(fields: dict[str, Any]) -> Any:
    """Return the draws asked for, or one for each other input where there are fewer of these.

    How many others of its length an input has is not known before the prompts are read.
    """
    draws, n = fields.get("draws", DRAWS), fields.get("n_pairs", 20)
    if not fields.get("behavior"):
        pairs = fields.get("pairs", ())
        n = len(pairs) if isinstance(pairs, list | tuple) else 0
    if not isinstance(draws, int) or not isinstance(n, int):
        return draws  # what is no number is refused by its field
    return min(draws, n - 1) if draws <= MOST_DRAWS and n > 1 else draws


def inputs(spec: Ablation) -> Behavior:
    """Check pairs, metric and pool against the model."""
    if spec.behavior:
        behavior = built_in(spec.behavior, spec.n_pairs, spec.model)
    else:
        behavior = from_pairs(spec.model, [pair.prompt_pair() for pair in spec.pairs])
    effects.check_metric(spec.metric, behavior.foils)
    check_pool(behavior, spec.pool)
    return behavior


def cost(spec: Ablation, behavior: Behavior) -> Cost:
    """Two passes a pair, and one a pair, component and way, of the layers from its own on."""
    model, held = catalogue.info(spec.model), sum(behavior.lengths)
    ways = 2 + (1 if spec.pool == "corrupted" else spec.draws)
    runs = len(columns(model)) * ways * held
    kept = 6 * model.d_model * model.n_layers * (2 if spec.pool == "corrupted" else 1)
    rows = rows_per_batch(model, max(behavior.lengths))
    return Cost(
        tokens=2 * held + runs * (model.n_layers + 1) // 2,
        passes=2 + math.ceil(len(behavior) * len(columns(model)) * ways * model.n_layers / rows),
        bytes=4 * held * kept,
    )


def run(spec: Ablation, ctx: Context) -> Generator[Step[Result], None, None]:
    """Take out component by component, in all three ways."""
    from interp.methods.ablation import ablate

    model = ctx.load(spec.model)
    pool = make_pool(ctx.inputs, spec.pool, spec.draws, ctx.rng)
    labelled = _labelled(spec, ctx.inputs, pool)
    done = None if ctx.checkpoint is None else ctx.checkpoint["runs"]
    for state in ablate(model, ctx.inputs, spec.metric, pool, done=done):
        ctx.save_checkpoint({"runs": state.runs})
        yield Step(state.fraction, _result(ctx.inputs, state, labelled))


def _labelled(spec: Ablation, behavior: Behavior, pool: Pool) -> Callable[..., Result]:
    """Return the result's type with everything filled in that does not change while it runs."""
    info = catalogue.info(spec.model)
    metric, unit = effects.METRICS[spec.metric]
    return partial(
        Result,
        metric=metric,
        unit=unit,
        pool=pool.source,
        averaged=pool.averaged,
        draws=len(pool.partners),
        fewest_draws=int((pool.partners != NOBODY).sum(0).min()),
        same_answer=pool.same(behavior.answers),
        rows=tuple(f"L{i}" for i in range(info.n_layers)),
        cols=columns(info),
        clean_tokens=tuple(tokens.text_of(info, ids) for ids in behavior.clean),
        held_out=behavior.held_out,
        clusters=behavior.clusters,
    )


def _result(behavior: Behavior, state: Ablated, labelled: Callable[..., Result]) -> Result:
    change = state.values - state.clean[:, None, None]
    mean, low, high = mean_change(change.swapaxes(0, 1), behavior.clusters)
    runs = {"values": state.values, "clean": state.clean, "corrupted": state.corrupted}
    return labelled(**runs, change=mean, low=low, high=high)


def follow_ups(spec: Ablation, result: Result) -> list[FollowUp]:
    """Suggest to patch what matters, to ask for its paths to the logits, and the other pool."""
    fields = spec.model_dump(mode="json")
    pairs = {name: fields[name] for name in ("model", "behavior", "n_pairs", "pairs", "metric")}
    one_length = len({len(texts) for texts in result.clean_tokens}) == 1
    size = np.where(result.units, np.nan_to_num(np.abs(result.change[2])), -1.0)
    strongest = result.cols[int(size.argmax()) % len(result.cols)]
    site = "z" if not one_length else "mlp_out" if strongest == "MLP" else "z_pos"
    label = (
        f"Patch {'MLPs' if site == 'mlp_out' else 'heads'}{' by position' if one_length else ''}"
    )
    patch = {"kind": "activation_patching", **pairs, "site": site, "direction": "noising"}
    paths = {"kind": "path_patching", **pairs, "receivers": "logits", "seed": spec.seed}
    ups = [FollowUp(label, patch), FollowUp("Paths straight to the logits", paths)]
    other: PoolChoice = "clean" if spec.pool == "corrupted" else "corrupted"
    with suppress(InterpError):
        inputs(spec.model_copy(update={"pool": other}))
        ups.append(FollowUp(f"Take from {other} prompts", {**fields, "pool": other}))
    return ups


def question(spec: Ablation) -> str:
    """Restate the question in plain words."""
    draws = f", {spec.draws} draw{'s' if spec.draws > 1 else ''}" if spec.pool == "clean" else ""
    what = (
        f"How does the {effects.METRICS[spec.metric][0]} of {spec.model} change when one head, "
        f"MLP or attention layer is taken out by zero, mean or resampling ({spec.pool} "
        f"prompts{draws})"
    )
    if spec.behavior:
        return (
            f"{what}, on {spec.n_pairs} pair{'s' if spec.n_pairs > 1 else ''} of {spec.behavior}?"
        )
    if not spec.pairs:
        return f"{what}?"
    n = len(spec.pairs) - 1
    more = f" (and {n} more pair{'s' if n > 1 else ''})" if n else ""
    return f"{what}, on {spec.pairs[0].clean!r}{more}?"


ANALYSIS = Analysis(
    kind="ablation",
    page=("Find", "Ablation"),
    rank=4,
    about="What breaks when a component is taken out, and does it depend on how it is taken out?",
    spec=Ablation,
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
    example=Ablation(
        model="paren-balancer", behavior="paren-near-misses", n_pairs=20, pool="corrupted"
    ),
    cites=(
        Cite(
            "Wang et al. (2022), Interpretability in the wild",
            "@article{wang2022ioi,\n  author = {Wang, Kevin and others},\n"
            "  title = {Interpretability in the Wild: a Circuit for Indirect Object "
            "Identification in {GPT-2} Small},\n  journal = {arXiv:2211.00593},\n"
            "  year = {2022}\n}",
        ),
        CAUSAL_SCRUBBING,
        PATCHING_PRACTICES,
        Cite(
            "Li & Janson (2024), Optimal ablation for interpretability",
            "@inproceedings{li2024optimal,\n  author = {Li, Maximilian and Janson, Lucas},\n"
            "  title = {Optimal Ablation for Interpretability},\n  booktitle = {NeurIPS},\n"
            "  year = {2024}\n}",
        ),
    ),
)
