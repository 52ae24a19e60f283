"""Path patching: who writes into what matters here?"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from interp.analyses import _path_circuit, _paths
from interp.analyses._fields import (
    BehaviorName,
    Count,
    Direction,
    Kind,
    Metric,
    ModelName,
    Pair,
    Pairs,
    Places,
    Seed,
)
from interp.analyses._path_result import LEAST, Result, figures, inspect, onward, told, verdict
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Spec, Step
from interp.behaviors import Behavior, built_in, from_pairs
from interp.explanations.circuits import Circuit
from interp.figures.named import NamedFigure
from interp.methods import effects
from interp.methods.paths import LOGITS, Senders, name, parse_receivers, reads, tidy
from interp.models import catalogue
from interp.models.batches import rows_per_batch

if TYPE_CHECKING:
    from interp.methods.patching import Sweep

Via = Annotated[Literal["direct", "mlps"], Kind("choice")]


class PathPatching(Spec):
    """Send what each head and MLP writes differently into the receivers alone."""

    kind: Literal["path_patching"] = "path_patching"
    model: ModelName = Field(default="induction-handmade", description="The model asked.")
    behavior: BehaviorName = Field(default="", description="A built-in set of pairs, or empty.")
    n_pairs: Count = Field(default=20, description="How many pairs of the behavior, 1 to 1000.")
    pairs: Pairs = Field(default=(), description="Prompt pairs; ignored where a behavior is named.")
    receivers: Places = Field(
        default=LOGITS,
        title="Receivers",
        description="Who reads: logits, or queries, keys or values of heads (L5H3.q, L5H3.k, "
        "L5H3.v) or MLPs (L2.mlp_in), with @7 at one position; several between commas, patched "
        "jointly.",
    )
    via: Via = Field(
        default="direct",
        description="direct: through the residual stream alone; mlps: also through the MLPs in "
        "between. Attention in between stays as it was in both.",
    )
    direction: Direction = Field(
        default="noising",
        description="noising: corrupted output sent into the clean run; denoising: the reverse.",
    )
    metric: Metric = Field(default="logit_diff", description="What is read at the answer position.")
    seed: Seed = Field(default=0, description="Seed of the bootstrap.")

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, fields: Any) -> Any:
        """Drop what is ignored and tidy names, so that one question has one spec and one key."""
        if not isinstance(fields, dict):
            return fields
        if isinstance(fields.get("receivers"), str):
            fields = {**fields, "receivers": tidy(fields["receivers"])}
        return {**fields, "pairs": ()} if fields.get("behavior") else {**fields, "n_pairs": 20}


def inputs(spec: PathPatching) -> Behavior:
    """Check pairs, receivers and metric against the model."""
    if spec.behavior:
        behavior = built_in(spec.behavior, spec.n_pairs, spec.model)
    else:
        behavior = from_pairs(spec.model, [pair.prompt_pair() for pair in spec.pairs])
    parse_receivers(catalogue.info(spec.model), spec.receivers, behavior)
    effects.check_metric(spec.metric, behavior.foils)
    return behavior


def cost(spec: PathPatching, behavior: Behavior) -> Cost:
    """Two passes a pair, and one a pair and upstream sender from the first receiver on."""
    model = catalogue.info(spec.model)
    receivers = parse_receivers(model, spec.receivers, behavior)
    cells = int(np.any([Senders.of(model).reach(one) for one in receivers], 0).sum())
    share = 1 - min(one.layer for one in receivers) / model.n_layers
    share += 0.5 if spec.via == "mlps" and model.has_mlp else 0.0
    held = sum(behavior.lengths)
    rows = rows_per_batch(model, max(behavior.lengths))
    return Cost(
        tokens=math.ceil(held * (2 + share * cells)),
        passes=2 + math.ceil(len(behavior) * cells / rows),
        bytes=32 * held * model.n_layers * model.d_model,
    )


def run(spec: PathPatching, ctx: Context) -> Generator[Step[Result], None, None]:
    """Send from every sender, all pairs of a sender together."""
    from interp.methods.path_patching import Paths, sweep

    model = ctx.load(spec.model)
    receivers = parse_receivers(model.info, spec.receivers, ctx.inputs)
    done = None if ctx.checkpoint is None else ctx.checkpoint["values"]
    senders, (metric, unit) = Senders.of(model.info), effects.METRICS[spec.metric]
    labelled = partial(
        Result,
        receivers=tuple(str(one) for one in receivers),
        via=spec.via,
        direction=spec.direction,
        metric=metric,
        unit=unit,
        rows=senders.rows,
        cols=senders.cols,
        key_heads=model.info.n_key_value_heads or model.info.n_heads,
        parallel=senders.parallel,
        clusters=ctx.inputs.clusters,
    )
    paths = Paths(receivers, spec.via, spec.direction)
    for state in sweep(model, ctx.inputs, paths, spec.metric, done=done):
        least = effects.least_gap(spec.metric, state.logits, catalogue.info(spec.model).dtype)
        effects.check_gap(state.clean, state.corrupted, spec.metric, least)
        ctx.save_checkpoint({"values": state.values})
        yield Step(state.fraction, _result(spec, ctx.inputs, state, labelled, least))


def _result(
    spec: PathPatching,
    behavior: Behavior,
    state: Sweep,
    labelled: Callable[..., Result],
    least: float,
) -> Result:
    args = (state.values, state.clean, state.corrupted, spec.direction)
    # Intervals and the best cell belong to a complete map; the seed is used afresh for each
    # picture, so that the last one does not depend on how many were drawn before it.
    rng = np.random.default_rng(spec.seed)
    complete = not np.isnan(state.values).any()
    effect = effects.effect(*args)
    bounds = effects.interval(*args, rng, clusters=behavior.clusters) if complete else None
    low, high = bounds if bounds is not None else (np.full_like(effect, np.nan),) * 2
    cell, best = (), None
    if complete:
        cols = Senders.of(catalogue.info(spec.model)).cols
        cell, best = effects.best_cell(
            *args,
            inert=state.inert,
            name=lambda row, col: name(row, cols[col]),
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
        best=best,
        best_cell=cell,
        least_gap=least,
    )


# --- going on -------------------------------------------------------------------------------------


def _walk(spec: PathPatching, result: Result, row: int, col: int) -> list[FollowUp]:
    fields = spec.model_dump(mode="json")
    return [
        FollowUp(f"Who writes into {words}?", {**fields, "receivers": receiver})
        for words, receiver in result.inputs(row, col)
    ]


def cell_follow_ups(spec: PathPatching, result: Result, cell: dict[str, Any]) -> list[FollowUp]:
    """Go on from a clicked sender, alone or beside the present receivers."""
    row, col = int(cell["0"]), int(cell["1"])
    if result.inert[row, col]:
        return []
    fields, ups = spec.model_dump(mode="json"), _walk(spec, result, row, col)
    for _, one in result.inputs(row, col):
        both = tidy(f"{spec.receivers}, {one}")
        if both != spec.receivers:
            ups.append(FollowUp(f"Add {one} to the receivers", {**fields, "receivers": both}))
    return ups


def follow_ups(spec: PathPatching, result: Result) -> list[FollowUp]:
    """Suggest to go on from the strongest sender, the way through MLPs, and the reverse."""
    fields, ups = spec.model_dump(mode="json"), []
    cell = onward(result)
    if cell is not None:
        ups = _walk(spec, result, *cell)
    if "MLP" in result.cols:
        other = (
            ("mlps", "Also through MLPs") if spec.via == "direct" else ("direct", "Directly alone")
        )
        ups.append(FollowUp(other[1], {**fields, "via": other[0]}))
    turned = "noising" if spec.direction == "denoising" else "denoising"
    ups.append(FollowUp(f"Ask the reverse: {turned}", {**fields, "direction": turned}))
    return ups


def lineage(steps: Sequence[tuple[PathPatching, Result]]) -> NamedFigure | None:
    """Draw the chain of senders that was followed, and the strongest ones of the last answer."""
    walk = _walked(steps)
    if len(walk) < 2:
        return None
    last = walk[-1]
    verb = "lost" if last.direction == "noising" else "brought back"
    return _paths.chain([_link(result) for result in walk], len(last.rows), LEAST, verb)


def circuit(steps: Sequence[tuple[PathPatching, Result]]) -> Circuit | None:
    """Return the circuit that was followed up to the last answer, if it reaches the logits."""
    spec, links = steps[-1][0], [_link(result) for result in _walked(steps)]
    return _path_circuit.circuit(links, catalogue.info(spec.model), spec.behavior, LEAST)


def _walked(steps: Sequence[tuple[PathPatching, Result]]) -> list[Result]:
    """List the answers of one walk up to the last one."""
    walk: list[tuple[dict[str, Any], Result]] = []
    end = steps[-1][0].model_dump()
    for spec, result in reversed(steps):
        fields = spec.model_dump()
        other = {name for name in fields if fields[name] != end[name]}
        # One walk has one question; a rerun of a step is no step.
        if other - {"receivers", "via", "seed"} or fields in [seen for seen, _ in walk]:
            break
        walk.insert(0, (fields, result))
    return [result for _, result in walk]


def _link(result: Result) -> _paths.Link:
    """Say who could send to whom in an answer, and what was sent."""
    size, parallel = (len(result.rows), len(result.cols)), result.parallel
    grid = Senders(size[0], sum(c[0] == "H" for c in result.cols), "MLP" in result.cols, parallel)
    levels = {one: reads(one, size[0], parallel) for one in result.receivers}
    senders = tuple(
        _paths.Sender(
            name=result.name(*cell),
            inputs=tuple(receiver for _, receiver in result.inputs(*cell)),
            reaches=tuple(one for one, at in levels.items() if grid.writes(*cell) <= at),
            effect=float(result.effect[cell]),
            told=told(result, *cell),
        )
        for cell in result.order
    )
    return _paths.Link(result.receivers, result.via, senders)


def question(spec: PathPatching) -> str:
    """Restate the question in plain words."""
    names = [part.strip() for part in spec.receivers.split(",") if part.strip()]
    known = tidy(spec.receivers) == spec.receivers and names
    into = _paths.readers(names) if known else spec.receivers or "nothing"
    whose, verb = (
        ("corrupted", "loses") if spec.direction == "noising" else ("clean", "brings back")
    )
    what = (
        f"Which head or MLP of {spec.model} {verb} the answer if its {whose} output is sent "
        f"{_paths.way(spec.via)} into {into} alone"
    )
    metric = effects.METRICS[spec.metric][0]
    if spec.behavior:
        some = f"{spec.n_pairs} pair{'s' if spec.n_pairs > 1 else ''} of {spec.behavior}"
        return f"{what}, on {some}, by {metric}?"
    if not spec.pairs:
        return f"{what}, by {metric}?"
    pair, n = spec.pairs[0], len(spec.pairs) - 1
    over = f" over {pair.foil!r}" if pair.foil and spec.metric == "logit_diff" else ""
    more = f" (and {n} more pair{'s' if n > 1 else ''})" if n else ""
    what = what.replace("the answer", f"the answer {pair.answer!r}{over}", 1)
    return f"{what}, on {pair.clean!r} against {pair.corrupted!r}{more}, by {metric}?"


ANALYSIS = Analysis(
    kind="path_patching",
    page=("Find", "Path patching"),
    rank=3,
    about="Who writes into what matters here?",
    spec=PathPatching,
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
    cell_follow_ups=cell_follow_ups,
    lineage=lineage,
    circuit=circuit,
    example=PathPatching(pairs=(Pair(clean="kmabcda", corrupted="kmebcda", answer="b", foil="d"),)),
    cites=(
        Cite(
            "Wang et al. (2022), Interpretability in the wild: a circuit for indirect object "
            "identification in GPT-2 small",
            "@inproceedings{wang2023interpretability,\n  author = {Wang, Kevin and Variengien, "
            "Alexandre and Conmy, Arthur and Shlegeris, Buck and Steinhardt, Jacob},\n"
            "  title = {Interpretability in the Wild: a Circuit for Indirect Object Identification "
            "in {GPT-2} Small},\n  booktitle = {ICLR},\n  year = {2023}\n}",
        ),
        Cite(
            "Goldowsky-Dill et al. (2023), Localizing model behavior with path patching",
            "@article{goldowskydill2023localizing,\n  author = {Goldowsky-Dill, Nicholas and "
            "MacLeod, Chris and Sato, Lucas and Arora, Aryaman},\n"
            "  title = {Localizing Model Behavior with Path Patching},\n"
            "  journal = {arXiv:2304.05969},\n  year = {2023}\n}",
        ),
    ),
)
