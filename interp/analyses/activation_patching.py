"""Activation patching: which activations carry the difference between two prompts?"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from interp.analyses import _sweeps
from interp.analyses._cites import PATCHING_PRACTICES
from interp.analyses._fields import (
    MORE,
    BehaviorName,
    Count,
    Direction,
    Metric,
    ModelName,
    Pair,
    Pairs,
    Places,
    Precision,
    Seed,
    Sites,
)
from interp.analyses._patching_result import Result, figures, inspect, place, verdict
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Spec, Step
from interp.axes import Mask
from interp.behaviors import Behavior, built_in, from_pairs
from interp.methods import effects, simultaneous
from interp.methods.grids import Grid, cells_that_must_matter, make_grid, work_share
from interp.models import catalogue, tokens
from interp.models.info import BYTES
from interp.models.sites import HEAD, Site, parse_sites
from interp.scores import Score

if TYPE_CHECKING:
    from interp.methods.patching import Sweep
    from interp.models.load import LoadedModel


class ActivationPatching(Spec):
    """Patch every place of a kind, one at a time, in one or many prompt pairs."""

    kind: Literal["activation_patching"] = "activation_patching"
    model: ModelName = Field(default="induction-handmade", description="The model asked.")
    behavior: BehaviorName = Field(default="", description="A built-in set of pairs, or empty.")
    n_pairs: Count = Field(default=20, description="How many pairs of the behavior, 1 to 1000.")
    pairs: Pairs = Field(default=(), description="Prompt pairs; ignored where a behavior is named.")
    site: Sites = Field(default="z_pos", description="What is patched, and with it the map.")
    direction: Direction = Field(
        default="denoising",
        description="denoising: clean activation into the corrupted run; noising: the reverse.",
    )
    metric: Metric = Field(default="logit_diff", description="What is read at the answer position.")
    layers: Places = Field(
        default="",
        json_schema_extra=MORE,
        title="Layers",
        examples=["all"],
        description="Layers that are patched: 0, 5-7. Empty: all.",
    )
    position: Places = Field(
        default="",
        json_schema_extra=MORE,
        title="Position",
        examples=["all"],
        description="The one position where heads are patched, from the end if negative: 4, -1. "
        "Empty: all positions. Only for maps of layer by head.",
    )
    together: Places = Field(
        default="",
        json_schema_extra=MORE,
        title="Patched together",
        examples=["none"],
        description="Sites that are also patched all at once, and one at a time: L0H1.z, "
        "L2.mlp_out@4. Empty: none.",
    )
    precision: Precision = Field(
        default="model",
        json_schema_extra=MORE,
        description="model: the model's own arithmetic. screened: the map in bfloat16, the largest "
        "effects again exactly. bfloat16, tf32: coarser matrix products. The deviation is measured "
        "on a sample and stands beside the answer.",
    )
    seed: Seed = Field(
        default=0, description="Seed of bootstrap, flips of signs, and sampled cells."
    )

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, fields: Any) -> Any:
        """Drop what is ignored, so that one question has one spec and one key."""
        if not isinstance(fields, dict):
            return fields
        text = {n: _tidy(fields[n]) for n in ("layers", "position", "together") if n in fields}
        unused = {"pairs": ()} if fields.get("behavior") else {"n_pairs": 20}
        return {**fields, **text, **unused}


def _tidy(text: Any) -> Any:
    """Write a list between commas in one way; what is no text is left to the validation."""
    if not isinstance(text, str):
        return text
    return ", ".join(part.strip() for part in text.split(",") if part.strip())


def inputs(spec: ActivationPatching) -> Behavior:
    """Check pairs, site and metric against the model."""
    if spec.behavior:
        behavior = built_in(spec.behavior, spec.n_pairs, spec.model)
    else:
        behavior = from_pairs(spec.model, [pair.prompt_pair() for pair in spec.pairs])
    info = catalogue.info(spec.model)
    make_grid(info, behavior, spec.site, spec.layers, spec.position)
    _sweeps.check_together(info, behavior, spec.together)
    effects.check_metric(spec.metric, behavior.foils)
    return behavior


def _grid(spec: ActivationPatching, behavior: Behavior) -> Grid:
    return make_grid(catalogue.info(spec.model), behavior, spec.site, spec.layers, spec.position)


def cost(spec: ActivationPatching, behavior: Behavior) -> Cost:
    """Two passes a pair, and one a pair and cell that can matter, from that cell on."""
    model = catalogue.info(spec.model)
    grid = _grid(spec, behavior)
    held = sum(behavior.lengths)
    tokens = int(held * (2 + work_share(model, behavior, grid)))
    # A pass takes many runs, but attention takes those of one start at a time.
    passes = 2 + math.ceil(tokens / held / 16) * max(1, grid.n_pos)
    kept = 8 * held * model.n_layers * model.d_model * BYTES[model.dtype]
    return Cost(tokens=tokens, passes=passes, bytes=2 * kept)


def run(spec: ActivationPatching, ctx: Context) -> Generator[Step[Result], None, None]:
    """Sweep the map, coarse first, many cells and pairs together; then the joint patch."""
    from interp.methods.patching import together

    model, behavior = ctx.load(spec.model), ctx.inputs
    grid = _grid(spec, behavior)
    labelled = _labelled(spec, behavior, grid)
    sites = parse_sites(model.info, spec.together)
    last: Result | None = None
    for state, exact, arithmetic in _states(spec, ctx, model, grid):
        least = _least(spec, state)
        effects.check_gap(state.clean, state.corrupted, spec.metric, least)
        of_map = partial(labelled, exact=exact, arithmetic=arithmetic)
        last = _result(spec, (behavior, grid), state, exact, of_map)
        yield Step(state.fraction * (0.95 if sites else 1.0), last)
    if sites and last is not None:
        values = together(model, behavior, sites, spec.direction, spec.metric)
        joint = _sweeps.joint(
            [str(site) for site in sites],
            values,
            (last.clean, last.corrupted, spec.direction),
            least=last.least_gap,
            rng=np.random.default_rng(spec.seed),
            clusters=behavior.clusters,
        )
        yield Step(1.0, replace(last, joint=joint))


def _states(
    spec: ActivationPatching, ctx: Context, model: LoadedModel, grid: Grid
) -> Generator[tuple[Sweep, Mask, _sweeps.Arithmetic], None, None]:
    """Sweep in the arithmetic asked for; give each state with its exact cells."""
    from interp.methods.patching import sweep
    from interp.methods.screening import screen

    args = (model, ctx.inputs, grid, spec.direction, spec.metric)
    saved = ctx.checkpoint or {}
    every = np.ones(grid.shape, bool)
    if spec.precision == "model":
        for state in sweep(*args, done=saved.get("values")):
            ctx.save_checkpoint({"values": state.values})
            yield state, every, replace(_sweeps.OWN, how=state.how)
        return
    done = (saved["rounded"], saved["again"]) if saved else None
    for part in screen(
        *args,
        rounded="tf32" if spec.precision == "tf32" else "bfloat16",
        largest=spec.precision == "screened",
        rng=np.random.default_rng(spec.seed),
        forced=cells_that_must_matter(model.info, ctx.inputs, grid),
        done=done,
    ):
        ctx.save_checkpoint({"rounded": part.rounded, "again": part.again})
        said = _sweeps.Arithmetic(spec.precision, part.sweep.how, part.sampled, part.off, part.rank)
        yield part.sweep, part.exact, said


def _least(spec: ActivationPatching, state: Sweep) -> float:
    """Return the gap below which there is nothing to recover, in the metric's unit."""
    dtype = catalogue.info(spec.model).dtype
    return effects.least_gap(spec.metric, state.logits, dtype)


def _labelled(spec: ActivationPatching, behavior: Behavior, grid: Grid) -> Callable[..., Result]:
    """Return the result's type with everything filled in that does not change while it runs."""
    info = catalogue.info(spec.model)
    outputs = tokens.answer_names(info)
    metric, unit = effects.METRICS[spec.metric]
    return partial(
        Result,
        site=spec.site,
        direction=spec.direction,
        metric=metric,
        unit=unit,
        row_axis=grid.row_axis,
        col_axis=grid.col_axis,
        rows=grid.row_names(),
        clean_tokens=tuple(tokens.text_of(info, ids) for ids in behavior.clean),
        corrupted_tokens=tuple(tokens.text_of(info, ids) for ids in behavior.corrupted),
        answers=tuple(outputs[i] for i in behavior.answers),
        foils=tuple(outputs[i] if i >= 0 else "" for i in behavior.foils),
        read=behavior.read_at(0),
        held_out=behavior.held_out,
        clusters=behavior.clusters,
        at="" if grid.at is None else f"@{grid.at}",
    )


def _result(
    spec: ActivationPatching,
    asked: tuple[Behavior, Grid],
    state: Sweep,
    exact: Mask,
    labelled: Callable[..., Result],
) -> Result:
    behavior, grid = asked
    args = (state.values, state.clean, state.corrupted, spec.direction)
    # Intervals and the best cell belong to a complete map. The seed is used afresh for each
    # picture, so that the last one does not depend on how many were drawn before it.
    rng = np.random.default_rng(spec.seed)
    complete = not np.isnan(state.values).any()
    effect = effects.effect(*args)
    bounds = effects.interval(*args, rng, clusters=behavior.clusters) if complete else None
    none = np.full_like(effect, np.nan)
    low, high = bounds if bounds is not None else (none, none)
    cell, best, least = (), None, _least(spec, state)
    forced = cells_that_must_matter(catalogue.info(spec.model), behavior, grid)
    # When screening, the best cell is one of those that were computed exactly.
    aside = state.inert | forced
    if spec.precision == "screened":
        aside = aside | ~exact
    if complete and not aside.all():
        cell, best = effects.best_cell(
            *args,
            inert=aside,
            name=lambda row, col: str(grid.place(row, col)),
            held_out=behavior.held_out,
            least=least,
            rng=rng,
            clusters=behavior.clusters,
        )
    if best is not None and spec.precision in ("bfloat16", "tf32"):
        best = replace(best, name=f"{best.name}, {_sweeps.PRECISIONS[spec.precision]}")
    band = _band(spec, behavior, state, ~(state.inert | forced)) if complete else None
    return labelled(
        values=state.values,
        clean=state.clean,
        corrupted=state.corrupted,
        effect=effect,
        low=low,
        high=high,
        inert=state.inert,
        forced=forced,
        best=best,
        best_cell=cell,
        least_gap=least,
        band_low=none if band is None else band.low,
        band_high=none if band is None else band.high,
    )


def _band(
    spec: ActivationPatching, behavior: Behavior, state: Sweep, tested: Mask
) -> simultaneous.Band | None:
    gap = abs(float(state.clean.mean() - state.corrupted.mean()))
    dtype = catalogue.info(spec.model).dtype
    return simultaneous.band(
        state.values,
        state.clean,
        state.corrupted,
        spec.direction,
        np.random.default_rng(spec.seed),
        tested=tested,
        rounding=effects.rounding(spec.metric, state.logits, dtype) / gap,
        clusters=behavior.clusters,
    )


def scores(result: Result) -> list[Score]:
    """Return the best cell's score and that of the joint patch, as far as they are there."""
    joint = None if result.joint is None else result.joint.score
    return [score for score in (result.best, joint) if score is not None]


def follow_ups(spec: ActivationPatching, result: Result) -> list[FollowUp]:
    """Suggest the reverse patch, a split into heads or positions, and a look at the prompt."""
    fields = spec.model_dump(mode="json")
    other = "noising" if spec.direction == "denoising" else "denoising"
    ups = [FollowUp(f"Ask the reverse: {other}", {**fields, "direction": other})]
    ups += _finer(spec, result)
    if spec.pairs:
        prompt = {
            "model": spec.model,
            "prompt": spec.pairs[0].clean,
            "answer": spec.pairs[0].answer,
        }
        ups.append(FollowUp("Read it layer by layer", {"kind": "logit_lens", **prompt}))
    return ups


def _finer(spec: ActivationPatching, result: Result) -> list[FollowUp]:
    """Suggest to resolve the strongest cells: their layers by head, or heads by position."""
    fields = {**spec.model_dump(mode="json"), "position": "", "together": ""}
    one_length = len({len(texts) for texts in result.clean_tokens}) == 1
    if spec.site.endswith("_pos"):
        coarser = {**fields, "site": "resid_pre", "layers": ""}
        return [FollowUp("Patch the residual stream", coarser)]
    if not one_length:
        return [] if spec.site == "z" else [FollowUp("Split into heads", {**fields, "site": "z"})]
    layers = sorted({int(name.removeprefix("L")) for name in _strongest_rows(result)})
    by = "position" if spec.site in HEAD else "head"
    split = {**fields, "site": f"{spec.site}_pos" if spec.site in HEAD else "z_pos"}
    split["layers"] = ", ".join(str(layer) for layer in layers)
    many = "s" if len(layers) > 1 else ""
    what = f"Resolve layer{many} {split['layers']} by {by}" if layers else f"Split heads by {by}"
    return [FollowUp(what, split)]


def _strongest_rows(result: Result) -> list[str]:
    """Name the layers of the cells with at least half of the largest effect, at most 4 cells."""
    size = np.where(result.inert | result.forced, -1.0, np.abs(result.effect))
    if result.best is None or size.max() < effects.LEAST_SAID:
        return []
    order = np.argsort(-size, axis=None)[:4]
    rows, _ = np.unravel_index(order[size.ravel()[order] >= 0.5 * size.max()], size.shape)
    return [result.rows[int(row)].partition("H")[0] for row in rows]


def cell_follow_ups(
    spec: ActivationPatching, result: Result, cell: dict[str, Any]
) -> list[FollowUp]:
    """Suggest what to ask about the clicked cell: its layer by head, or who writes into it."""
    row, col = int(cell["0"]), int(cell["1"])
    fields = {**spec.model_dump(mode="json"), "position": "", "together": ""}
    site = Site.parse(place(result, row, col))
    if site.head is None:
        heads = {**fields, "site": "z", "layers": str(site.layer), "position": str(col)}
        return [FollowUp(f"Heads of layer {site.layer} at position {col}", heads)]
    info = catalogue.info(spec.model)
    asked = ("model", "behavior", "n_pairs", "pairs", "metric", "direction")
    path = {"kind": "path_patching", **{name: fields[name] for name in asked}}
    group = info.n_heads // (info.n_key_value_heads or info.n_heads)
    # Queries may share keys and values: a head reads those of its group.
    whole = {"q": site.head, "k": site.head // group, "v": site.head // group}
    slots = site.component if site.component in ("q", "k", "v") else "qkv"
    at = "" if site.pos is None or slots != site.component else f"@{site.pos}"
    return [
        FollowUp(
            f"Who writes into L{site.layer}H{head}'s {_SLOTS[slot]}{at}?",
            {**path, "receivers": f"L{site.layer}H{head}.{slot}{at}"},
        )
        for slot in slots
        for head in [site.head if slots == site.component else whole[slot]]
    ]


_SLOTS = {"q": "queries", "k": "keys", "v": "values"}
_PLACES = {
    "resid_pre": "residual streams before a layer",
    "resid_mid": "residual streams between attention and MLP",
    "resid_post": "residual streams after a layer",
    "attn_out": "attention outputs",
    "mlp_out": "MLP outputs",
    "z": "heads",
    "z_pos": "heads at which position",
    **{
        f"{site}{suffix}": f"heads' {what}{where}"
        for site, what in (
            ("q", "queries"),
            ("k", "keys"),
            ("v", "values"),
            ("pattern", "attention patterns"),
            ("result", "results (what they write)"),
        )
        for suffix, where in (("", ""), ("_pos", " at which position"))
    },
}


def question(spec: ActivationPatching) -> str:
    """Restate the question in plain words."""
    what = f"Which {_PLACES[spec.site]} of {spec.model}"
    what += f" in layers {spec.layers}" if spec.layers.strip() else ""
    what += f" at position {spec.position}" if spec.position.strip() else ""
    what += f" (and together {spec.together})" if spec.together.strip() else ""
    way, does = (
        ("from clean into corrupted", "bring back")
        if spec.direction == "denoising"
        else ("from corrupted into clean", "take away")
    )
    metric = effects.METRICS[spec.metric][0]
    if spec.behavior:
        some = f"{spec.n_pairs} pair{'s' if spec.n_pairs > 1 else ''} of {spec.behavior}"
        return f"{what}, patched {way}, {does} the answer on {some}, by {metric}?"
    if not spec.pairs:
        return f"{what}, patched {way}, {does} the answer, by {metric}?"
    pair, n = spec.pairs[0], len(spec.pairs) - 1
    over = f" over {pair.foil!r}" if pair.foil and spec.metric == "logit_diff" else ""
    more = f" (and {n} more pair{'s' if n > 1 else ''})" if n else ""
    return (
        f"{what}, patched {way}, {does} the answer {pair.answer!r}{over} on {pair.clean!r} against "
        f"{pair.corrupted!r}{more}, by {metric}?"
    )


ANALYSIS = Analysis(
    kind="activation_patching",
    page=("Find", "Patching"),
    rank=1,
    about="Which activations carry the difference between two prompts?",
    spec=ActivationPatching,
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
    example=ActivationPatching(
        pairs=(Pair(clean="kmabcda", corrupted="kmebcda", answer="b", foil="d"),)
    ),
    cites=(
        Cite(
            "Heimersheim & Nanda (2024), How to use and interpret activation patching",
            "@article{heimersheim2024patching,\n  author = {Heimersheim, Stefan and Nanda, Neel},\n"
            "  title = {How to use and interpret activation patching},\n"
            "  journal = {arXiv:2404.15255},\n  year = {2024}\n}",
        ),
        PATCHING_PRACTICES,
    ),
)
