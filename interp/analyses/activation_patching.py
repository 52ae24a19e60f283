"""Activation patching: which activations carry the difference between two prompts?"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from interp.analyses import _slices
from interp.analyses._fields import (
    BehaviorName,
    Count,
    Direction,
    Metric,
    ModelName,
    Pair,
    Pairs,
    Seed,
    Sites,
)
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Spec, Step
from interp.axes import Grid as Effects
from interp.axes import Mask, PairGrid, PerPair
from interp.behaviors import Behavior, built_in, from_pairs
from interp.figures import curves, heatmap, theme
from interp.figures.named import NamedFigure
from interp.methods import effects
from interp.methods.grids import (
    Grid,
    cells_that_cannot_matter,
    cells_that_must_matter,
    make_grid,
)
from interp.models import catalogue, tokens
from interp.models.batches import rows_per_batch
from interp.scores import Anchor, Interval, Score

if TYPE_CHECKING:
    from interp.methods.patching import Sweep


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
    seed: Seed = Field(default=0, description="Seed of the bootstrap.")

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, fields: Any) -> Any:
        """Drop what is ignored, so that one question has one spec and one key."""
        if not isinstance(fields, dict):
            return fields
        return {**fields, "pairs": ()} if fields.get("behavior") else {**fields, "n_pairs": 20}


@dataclass(frozen=True)
class Result:
    """Effects by place, the metric of every single run, and the best cell's score.

    ``inert`` cells are 0 and ``forced`` cells 1 by the model's structure; neither is a finding.
    ``effect`` is 0 where the patch did nothing and 1 where it moved the metric by the whole gap
    between the corrupted and the clean run. ``low`` and ``high`` are NaN where there is no
    interval. ``values``, ``clean``, ``corrupted`` and ``least_gap`` are in ``unit``; a pair whose
    gap is below ``least_gap`` has nothing to recover (0 in answers from before there was one).
    ``clusters`` numbers each pair's group of words, which intervals resample; empty: single pairs.
    """

    site: str
    direction: str
    metric: str
    unit: str
    row_axis: str
    col_axis: str
    rows: tuple[str, ...]
    clean_tokens: tuple[tuple[str, ...], ...]
    corrupted_tokens: tuple[tuple[str, ...], ...]
    answers: tuple[str, ...]
    foils: tuple[str, ...]
    read: int
    held_out: tuple[bool, ...]
    values: PairGrid
    clean: PerPair
    corrupted: PerPair
    effect: Effects
    low: Effects
    high: Effects
    inert: Mask
    forced: Mask
    best: Score | None
    best_cell: tuple[int, ...]
    least_gap: float = 0.0
    clusters: tuple[int, ...] = ()

    @property
    def cols(self) -> list[str]:
        """Column labels; a position is named by its token where all pairs share it."""
        if self.col_axis == "head":
            return [f"H{i}" for i in range(self.effect.shape[1])]
        return theme.positions(tuple(_shared(at) for at in zip(*self.clean_tokens, strict=True)))


def _shared(texts: tuple[str, ...]) -> str:
    return texts[0] if len(set(texts)) == 1 else "*"


def inputs(spec: ActivationPatching) -> Behavior:
    """Check pairs, site and metric against the model."""
    if spec.behavior:
        behavior = built_in(spec.behavior, spec.n_pairs, spec.model)
    else:
        behavior = from_pairs(spec.model, [pair.prompt_pair() for pair in spec.pairs])
    make_grid(catalogue.info(spec.model), behavior, spec.site)
    effects.check_metric(spec.metric, behavior.foils)
    return behavior


def cost(spec: ActivationPatching, behavior: Behavior) -> Cost:
    """Two passes a pair, and one a pair and cell that can matter."""
    model = catalogue.info(spec.model)
    grid = make_grid(model, behavior, spec.site)
    cells = int((~cells_that_cannot_matter(model, behavior, grid)).sum())
    held = sum(behavior.lengths)
    rows = rows_per_batch(model, max(behavior.lengths))
    return Cost(
        tokens=held * (2 + cells),
        passes=2 + math.ceil(len(behavior) * cells / rows),
        bytes=8 * held * model.n_layers * model.d_model,
    )


def run(spec: ActivationPatching, ctx: Context) -> Generator[Step[Result], None, None]:
    """Sweep the map, cell by cell, all pairs of a cell together."""
    from interp.methods.patching import sweep

    model = ctx.load(spec.model)
    grid = make_grid(model.info, ctx.inputs, spec.site)
    done = None if ctx.checkpoint is None else ctx.checkpoint["values"]
    labelled = _labelled(spec, ctx.inputs, grid)
    for state in sweep(model, ctx.inputs, grid, spec.direction, spec.metric, done=done):
        least = _least(spec, state)
        effects.check_gap(state.clean, state.corrupted, spec.metric, least)
        ctx.save_checkpoint({"values": state.values})
        yield Step(state.fraction, _result(spec, ctx.inputs, grid, state, labelled))


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
    )


def _result(
    spec: ActivationPatching,
    behavior: Behavior,
    grid: Grid,
    state: Sweep,
    labelled: Callable[..., Result],
) -> Result:
    args = (state.values, state.clean, state.corrupted, spec.direction)
    # Intervals and the best cell belong to a complete map. The seed is used afresh for each
    # picture, so that the last one does not depend on how many were drawn before it.
    rng = np.random.default_rng(spec.seed)
    complete = not np.isnan(state.values).any()
    effect = effects.effect(*args)
    bounds = effects.interval(*args, rng, clusters=behavior.clusters) if complete else None
    low, high = bounds if bounds is not None else (np.full_like(effect, np.nan),) * 2
    cell, best, least = (), None, _least(spec, state)
    forced = cells_that_must_matter(catalogue.info(spec.model), behavior, grid)
    if complete and not (state.inert | forced).all():
        cell, best = effects.best_cell(
            *args,
            inert=state.inert | forced,
            name=lambda row, col: str(grid.place(row, col)),
            held_out=behavior.held_out,
            least=least,
            rng=rng,
            clusters=behavior.clusters,
        )
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
    )


def _place(result: Result, row: int, col: int) -> str:
    """Name a cell as sites print: ``L1H0.z@11``, ``L2H1.z``, ``L0.resid_pre@3``."""
    component = "z" if result.site == "z_pos" else result.site
    if result.col_axis == "head":
        return f"{result.rows[row]}H{col}.{component}"
    return f"{result.rows[row]}.{component}@{col}"


def figures(result: Result) -> list[NamedFigure]:
    """Draw the map of effects and the two bare runs of each pair."""
    shape = result.effect.shape
    hover = [[_hover(result, i, j) for j in range(shape[1])] for i in range(shape[0])]
    done = result.direction == "denoising"
    n = len(result.clean)
    over = f"{len(set(result.clusters))} groups of words in " if result.clusters else ""
    several = (
        "Intervals come with the complete map."
        if result.best is None and n > 2
        else f"Means over {over}{n} pairs; hover for the 95 % bootstrap interval of each cell by "
        "itself."
        if np.isfinite(result.low).any()
        else f"{n} pair{'s' if n > 1 else ''}: no interval."
    )
    hatched = " Hatched cells cannot matter by the model's structure." if result.inert.any() else ""
    if result.forced.any():
        hatched += " Crossed cells are 1 by that structure and are no finding."
    into = "clean activation into the corrupted run" if done else "corrupted into the clean run"
    return [
        NamedFigure(
            "effects",
            f"Effect of patching {result.site.removesuffix('_pos')} ({result.direction})",
            f"{result.direction.capitalize()}: {into}. Effect 0 = the patch did nothing, "
            f"1 = {'brought back' if done else 'lost'} the whole gap in {result.metric}. "
            f"{several}{hatched}",
            heatmap.heatmap(
                result.effect,
                rows=result.rows,
                cols=result.cols,
                titles=(result.row_axis, result.col_axis, "effect"),
                hover=hover,
                hatched=result.inert,
                crossed=result.forced,
            ),
            selectable=True,
        ),
        NamedFigure(
            "runs",
            f"{result.metric[0].upper()}{result.metric[1:]} of the bare runs",
            f"Each pair's clean and corrupted run, without a patch, in {result.unit}."
            f"{_small(result)}",
            _runs(result),
        ),
    ]


def _runs(result: Result) -> Any:
    names = [f"{i}" for i in range(len(result.clean))]
    return curves.pairs(
        names,
        {"clean": result.clean, "corrupted": result.corrupted},
        titles=(f"{result.metric} ({result.unit})", "pair"),
    )


def _hover(result: Result, row: int, col: int) -> str:
    name = theme.label(_place(result, row, col), 40)
    if result.inert[row, col]:
        return f"{name}: cannot matter"
    value = result.effect[row, col]
    if np.isnan(value):
        return f"{name}: not computed yet"
    text = f"{name}: effect {value:.3f}"
    if result.forced[row, col]:
        text += " by structure"
    if np.isfinite(result.low[row, col]):
        text += f" [{result.low[row, col]:.3f}, {result.high[row, col]:.3f}]"
    mean = float(result.values[:, row, col].mean())
    return f"{text}<br>{result.metric} {mean:.3f} {result.unit}"


def verdict(result: Result) -> str:
    """Name the cells that carry the gap, with the scale of the claim."""
    if result.best is None:
        live = ~(result.inert | result.forced)
        done = int((np.isfinite(result.effect) & live).sum())
        if not live.any():
            return "No cell of this map tells anything: each is 0 or 1 by the model's structure."
        return f"{done} of {int(live.sum())} cells are computed; the rest are blank."
    size = np.where(result.inert | result.forced, -1.0, np.abs(result.effect))
    order = [np.unravel_index(int(i), size.shape) for i in np.argsort(-size, axis=None)]
    strong = [(int(r), int(c)) for r, c in order if size[r, c] >= 0.5 * size.max()][:4]
    named = ", ".join(
        f"{_place(result, r, c)} {_two(result.effect[r, c])}{_bounds(result, r, c)}"
        for r, c in strong
    )
    verb = "brought back" if result.direction == "denoising" else "lost"
    rest = [
        float(size[r, c]) for r, c in order if (int(r), int(c)) not in strong and size[r, c] >= 0
    ]
    others = f"; every other cell that tells anything stays within ±{max(rest):.2f}" if rest else ""
    return (
        f"Largest shares {verb} by one patch, of the gap in {result.metric} "
        f"({result.corrupted.mean():.3g} corrupted to {result.clean.mean():.3g} clean, "
        f"{result.unit}): {named}{others}. {_note(result)}{_small(result)}"
        f"{effects.wrong_way(result.clean, result.corrupted, result.metric)}"
    )


def _small(result: Result) -> str:
    said = effects.small_gaps(result.clean, result.corrupted, result.least_gap, result.unit)
    return said and f" {said}"


def _two(value: float) -> str:
    """Write two decimals, without a minus before zero."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def _note(result: Result) -> str:
    """Say what the best cell is worth on inputs that it was not chosen on."""
    best, n = result.best, len(result.clean)
    if best is None:
        return ""
    if isinstance(best.held_out, Anchor):
        spread = best.interval
        given = isinstance(spread, Interval)
        bounds = f" [{_two(spread.low)}, {_two(spread.high)}]" if given else ""
        return (
            f"Chosen on {best.n} search pairs, {_place(result, *result.best_cell)} scores "
            f"{_two(best.held_out.value)}{bounds} {best.held_out.name}."
        )
    if n < 3:
        return f"{n} pair{'s' if n > 1 else ''}: no interval, and none held out."
    return f"No pair is held out: {best.held_out.reason}."


def _bounds(result: Result, row: int, col: int) -> str:
    low, high = result.low[row, col], result.high[row, col]
    return f" [{_two(low)}, {_two(high)}]" if np.isfinite(low) else ""


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say the clicked cell's number with its interval and draw its spread over pairs."""
    row, col = int(cell["0"]), int(cell["1"])
    text = _hover(result, row, col).replace("<br>", "; ")
    values = result.values[:, row, col]
    if result.inert[row, col] or np.isnan(values).any():
        return text, []
    marks = {"corrupted": float(result.corrupted.mean()), "clean": float(result.clean.mean())}
    figure = curves.spread(
        values,
        title=f"{result.metric} with this patch ({result.unit}), one point a pair",
        marks=marks,
        hover=[f"pair {i}" for i in range(len(values))],
    )
    runs = (values, result.clean, result.corrupted, result.direction)
    why, split = _slices.split(
        ("gap", result.unit, result.clean - result.corrupted),
        "effect",
        ("all pairs", float(result.effect[row, col])),
        effects.on_pairs(*runs, least=result.least_gap, unit=result.unit, clusters=result.clusters),
    )
    text = f"{text}. {why}" if why else text
    return text, [NamedFigure("cell", _place(result, row, col), "", figure), *split]


def follow_ups(spec: ActivationPatching, result: Result) -> list[FollowUp]:
    """Suggest the reverse patch, a split into heads or positions, and a look at the prompt."""
    fields = spec.model_dump(mode="json")
    other = "noising" if spec.direction == "denoising" else "denoising"
    ups = [FollowUp(f"Ask the reverse: {other}", {**fields, "direction": other})]
    split = {"z": "z_pos", "z_pos": "resid_pre"}.get(spec.site, "z")
    labels = {
        "z": "Split into heads",
        "z_pos": "Split heads by position",
        "resid_pre": "Patch the residual stream",
    }
    lengths = {len(texts) for texts in result.clean_tokens}
    if split == "z" or len(lengths) == 1:
        ups.append(FollowUp(labels[split], {**fields, "site": split}))
    if spec.pairs:
        prompt = {
            "model": spec.model,
            "prompt": spec.pairs[0].clean,
            "answer": spec.pairs[0].answer,
        }
        ups.append(FollowUp("Read it layer by layer", {"kind": "logit_lens", **prompt}))
    return ups


_PLACES = {
    "resid_pre": "residual streams before a layer",
    "resid_mid": "residual streams between attention and MLP",
    "resid_post": "residual streams after a layer",
    "attn_out": "attention outputs",
    "mlp_out": "MLP outputs",
    "z": "heads",
    "z_pos": "heads at which position",
}


def question(spec: ActivationPatching) -> str:
    """Restate the question in plain words."""
    what = f"Which {_PLACES[spec.site]} of {spec.model}"
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
    scores=lambda result: (result.best,) if result.best else (),
    inspect=inspect,
    follow_ups=follow_ups,
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
        Cite(
            "Zhang & Nanda (2024), Towards best practices of activation patching",
            "@inproceedings{zhang2024patching,\n  author = {Zhang, Fred and Nanda, Neel},\n"
            "  title = {Towards Best Practices of Activation Patching in Language Models: "
            "Metrics and Methods},\n  booktitle = {ICLR},\n  year = {2024}\n}",
        ),
    ),
)
