"""Ablation: what breaks when a component is taken out, and does it depend on the way?"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

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
from interp.axes import AblationGrid, AblationPairGrid, Mask, PerPair
from interp.behaviors import Behavior, built_in, from_pairs
from interp.errors import InterpError
from interp.figures import ablation as drawn
from interp.figures.named import NamedFigure
from interp.methods import effects
from interp.methods.changes import common_top, furthest_apart, largest, mean_change, opposite
from interp.methods.pools import (
    ABLATIONS,
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

DRAWS = 4
TOP, SHOWN, TOLD = 5, 10, 3
"""Components that are compared between the ways, drawn, and told in words."""
SAME = 0.5
"""Share of draws with the same answer from which it is said that they keep it."""


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
        le=32,
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
        return (
            {**fields, "draws": DRAWS, "seed": 0} if fields.get("pool") == "corrupted" else fields
        )


@dataclass(frozen=True)
class Result:
    """The metric of every input, bare and with each component taken out, and what that changes.

    Attributes:
        metric: Its name in words.
        unit: Of ``values``, ``clean``, ``corrupted``, ``change``, ``low`` and ``high``.
        pool: "clean" or "corrupted": where mean and resample take activations from.
        averaged: What the mean is over, in words.
        draws: Runs of each input that resample is the mean over.
        same_answer: Share of the draws from the clean pool whose prompt has the same answer.
        rows: Layers.
        cols: Components of each: heads, the attention as a whole, the MLP if there is one.
        clean_tokens: Texts of each clean prompt's tokens.
        values: With a component taken out, by zero, mean and resample (mean over draws).
        clean: Bare clean runs.
        corrupted: Bare corrupted runs.
        change: Mean over inputs of ``values - clean``.
        low: Lower end of its 95 % interval; NaN where there is none.
        high: Upper end.
        held_out: Inputs that do not choose what the sentence names, or empty.
        clusters: Number of each input's group of words, or empty.
    """

    metric: str
    unit: str
    pool: str
    averaged: str
    draws: int
    same_answer: float
    rows: tuple[str, ...]
    cols: tuple[str, ...]
    clean_tokens: tuple[tuple[str, ...], ...]
    values: AblationPairGrid
    clean: PerPair
    corrupted: PerPair
    change: AblationGrid
    low: AblationGrid
    high: AblationGrid
    held_out: tuple[bool, ...]
    clusters: tuple[int, ...]

    @property
    def falls(self) -> bool:
        """Whether taking out what helps makes the metric smaller."""
        return self.metric in (effects.METRICS["logit_diff"][0], effects.METRICS["prob"][0])

    @property
    def units(self) -> Mask:
        """Heads and MLPs: components that hold no other."""
        return np.tile(np.array([col != "attn" for col in self.cols]), (len(self.rows), 1))

    def name(self, row: int, col: int) -> str:
        """Name a component: ``L1H0``, ``L1 attn``, ``L1 MLP``."""
        part = self.cols[col]
        return f"{self.rows[row]}{part}" if part[0] == "H" else f"{self.rows[row]} {part}"


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


def figures(result: Result) -> list[NamedFigure]:
    """Draw the three maps on one scale, and where they differ most."""
    gap = abs(float(result.clean.mean() - result.corrupted.mean()))
    finite = result.change[np.isfinite(result.change)]
    most = max(float(np.abs(finite).max(initial=0.0)), gap) or 1.0
    cells = range(len(result.rows)), range(len(result.cols))
    hover = [
        [[_hover(result, k, i, j) for j in cells[1]] for i in cells[0]]
        for k in range(len(ABLATIONS))
    ]
    named = {name: result.change[k] for k, name in enumerate(ABLATIONS)}
    return [
        NamedFigure(
            "changes",
            f"Change of the {result.metric} when a component is taken out",
            _caption(result),
            drawn.side_by_side(
                named,
                rows=result.rows,
                cols=result.cols,
                titles=("layer", "component", result.unit),
                most=most,
                hover=hover,
            ),
            selectable=True,
        ),
        _differences(result),
    ]


def _caption(result: Result) -> str:
    n, draws = len(result.clean), result.draws
    if result.metric == effects.METRICS["kl"][0]:
        means = "red: the outputs are others without it"
    else:
        means = f"{'blue' if result.falls else 'red'}: the component helped"
    taken = (
        "its own corrupted partner"
        if result.pool == "corrupted"
        else f"another clean prompt of its length (mean of {draws} draw{'s' if draws > 1 else ''})"
    )
    over = f"{len(set(result.clusters))} groups of words in " if result.clusters else ""
    spread = (
        f"Hover for the 95 % interval over {over}{n} inputs. It is each component's own: of those "
        "that do nothing one in 20 leaves out 0 all the same."
        if np.isfinite(result.low).any()
        else f"{n} input{'s' if n > 1 else ''}: no interval."
        if n < effects.FEWEST
        else "Intervals come with each component's last run."
    )
    return (
        f"Taken out minus clean, at all positions at once; {means}. Clean "
        f"{result.clean.mean():.3g}, corrupted {result.corrupted.mean():.3g} {result.unit}. Zero: "
        f"its output is 0. Mean: its mean over {result.averaged}. Resample: what it gives on "
        f"{taken}. attn{' and MLP' if 'MLP' in result.cols else ''}: what a whole layer's adds to "
        f"the residual stream. {spread}"
    )


def _hover(result: Result, way: int, row: int, col: int) -> str:
    name, value = f"{result.name(row, col)}, {ABLATIONS[way]}", result.change[way, row, col]
    if np.isnan(value):
        return f"{name}: not computed yet"
    share = _share(result, float(value))
    return f"{name}: {_told(result, way, row, col)} {result.unit}{share and f'<br>{share}'}"


def _told(result: Result, way: int, row: int, col: int) -> str:
    """Write a change with its sign and interval."""
    parts = (float(part[way, row, col]) for part in (result.change, result.low, result.high))
    return drawn.told(*parts)


def _share(result: Result, value: float) -> str:
    """Compare a change with the clean mean, where that is surely above a zero with a meaning."""
    mean, low, _ = mean_change(result.clean, result.clusters)
    above = float(low if np.isfinite(low) else mean)
    if not result.falls or above <= 0:
        return ""
    return f"{abs(value) / float(mean):.0%} of the clean {float(mean):.3g}".replace("%", " %")


def _differences(result: Result) -> NamedFigure:
    found = furthest_apart(result.change, SHOWN)
    r, c = np.array(found, dtype=int).reshape(-1, 2).T
    series = {
        name: (result.change[k, r, c], result.low[k, r, c], result.high[k, r, c])
        for k, name in enumerate(ABLATIONS)
    }
    caption = "The three ways agree on every component."
    if found:
        told = "; ".join(_apart(result, *cell) for cell in found[:TOLD])
        bars = ", with 95 % intervals" if np.isfinite(result.low).any() else ""
        caption = (
            f"Components by how far the three ways are apart{bars}. {told}. Zero and mean put in "
            "what no prompt gives; resample what another prompt gives."
        )
    figure = drawn.ways(
        [result.name(*cell) for cell in found],
        series,
        titles=(f"change of the {result.metric} ({result.unit})", "component"),
    )
    return NamedFigure("differences", "Where the way matters most", caption, figure)


def _apart(result: Result, row: int, col: int) -> str:
    """Say how far the ways are apart for one component; inputs are compared one by one."""
    of_cell = result.change[:, row, col]
    up, down = int(of_cell.argmax()), int(of_cell.argmin())
    runs = result.values[:, :, row, col]
    mean, low, high = mean_change(runs[up] - runs[down], result.clusters)
    bounds = f" [{float(low):.3g}, {float(high):.3g}]" if np.isfinite(low) else ""
    ends = (f"{ABLATIONS[k]} {drawn.signed(float(of_cell[k]))}" for k in sorted((up, down)))
    return f"{result.name(row, col)}: {', '.join(ends)}, {float(mean):.3g}{bounds} apart"


def verdict(result: Result) -> str:
    """Name the largest losses of each way, whether the ways agree, and one next step."""
    left = np.isnan(result.change).any(0)
    if left.any():
        return (
            f"{int((~left).sum())} of {left.size} components are computed in all three ways; the "
            "rest are blank."
        )
    k, shared, chance = common_top(np.abs(result.change[:, result.units]), TOP)
    if k == 0:
        ways = [name for name, part in zip(ABLATIONS, result.change, strict=True) if not part.any()]
        return f"No component changes the {result.metric} by {' or '.join(ways)}.{_kept(result)}"
    n, mlps = int(result.units.sum()), " and MLPs" if "MLP" in result.cols else ""
    agree = (
        f"The top {k} of the three ways have {shared} in common ({chance:.2g} by chance, of {n} "
        f"heads{mlps})."
    )
    both = opposite(result.low, result.high) & result.units
    turned = [result.name(int(r), int(c)) for r, c in np.argwhere(both)]
    if turned:
        more = f" and {len(turned) - TOLD} more" if len(turned) > TOLD else ""
        agree += f" The sign depends on the way at {', '.join(turned[:TOLD])}{more}."
    step = _next_step(result, agree=shared == k and not turned)
    return f"{_largest(result)} {agree}{_kept(result)} {step}"


def _largest(result: Result) -> str:
    sign, told = -1.0 if result.falls else 1.0, []
    for way, values in zip(ABLATIONS, result.values, strict=True):
        harm = sign * (values - result.clean[:, None, None])
        cell, found = largest(harm, result.units, result.held_out, result.clusters)
        value, *ends = (sign * number for number in found)
        said = f"{result.name(*cell)} {drawn.told(value, min(ends), max(ends))}"
        told.append(f"{way} {said if found[0] > 0 else 'none'}")
    held = sum(result.held_out)
    chosen = f"chosen on {len(result.clean) - held} inputs, measured on the {held} held out"
    one = "one head or MLP" if "MLP" in result.cols else "one head"
    return (
        f"The {result.metric} ({result.clean.mean():.3g} clean, {result.corrupted.mean():.3g} "
        f"corrupted, {result.unit}) {'falls' if result.falls else 'rises'} most without {one}: "
        f"{'; '.join(told)} ({chosen if held else 'no input is held out'})."
    )


def _kept(result: Result) -> str:
    """Warn where the pool has the same answers: then what carries the answer is put back."""
    if result.same_answer < SAME:
        return ""
    return (
        f" {result.same_answer:.0%} of the draws have the same answer, so mean and resample put "
        "back what carries it."
    ).replace("%", " %")


def _next_step(result: Result, *, agree: bool) -> str:
    if result.same_answer >= SAME:
        return "Next: choose the pool 'corrupted'."
    if not np.isfinite(result.low).any():
        return f"Next: ask {effects.FEWEST} inputs or more, for intervals."
    if agree:
        return "Next: split what they share by position, or ask for its paths to the logits."
    return "Next: click where they differ. Only resample puts in what some prompt gives."


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say what taking out the clicked component does in each way, and draw it input by input."""
    row, col = int(cell["0"]), int(cell["1"])
    name, of_cell = result.name(row, col), result.values[:, :, row, col]
    if np.isnan(of_cell).any():
        return f"{name}: not computed yet.", []
    told = [f"{way} {_told(result, k, row, col)}" for k, way in enumerate(ABLATIONS)]
    shares = [_share(result, float(result.change[k, row, col])) for k in range(len(ABLATIONS))]
    if all(shares):
        told = [f"{text} ({share})" for text, share in zip(told, shares, strict=True)]
    prompts = ["".join(texts) for texts in result.clean_tokens]
    figure = drawn.spreads(
        dict(zip(ABLATIONS, of_cell, strict=True)),
        title=f"{result.metric} without {name} ({result.unit}), one point an input",
        marks={"corrupted": float(result.corrupted.mean()), "clean": float(result.clean.mean())},
        hover=[f"input {i}: {drawn.theme.label(text, 40)}" for i, text in enumerate(prompts)],
    )
    text = f"{name} taken out, in {result.unit}: {'; '.join(told)}."
    return text, [NamedFigure("cell", name, "Dotted: means of the bare runs.", figure)]


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
        Cite(
            "Chan et al. (2022), Causal scrubbing",
            "@misc{chan2022scrubbing,\n  author = {Chan, Lawrence and others},\n"
            "  title = {Causal Scrubbing: a method for rigorously testing interpretability "
            "hypotheses},\n  howpublished = {AI Alignment Forum},\n  year = {2022}\n}",
        ),
        Cite(
            "Zhang & Nanda (2024), Towards best practices of activation patching",
            "@inproceedings{zhang2024patching,\n  author = {Zhang, Fred and Nanda, Neel},\n"
            "  title = {Towards Best Practices of Activation Patching in Language Models: "
            "Metrics and Methods},\n  booktitle = {ICLR},\n  year = {2024}\n}",
        ),
        Cite(
            "Li & Janson (2024), Optimal ablation for interpretability",
            "@inproceedings{li2024optimal,\n  author = {Li, Maximilian and Janson, Lucas},\n"
            "  title = {Optimal Ablation for Interpretability},\n  booktitle = {NeurIPS},\n"
            "  year = {2024}\n}",
        ),
    ),
)
