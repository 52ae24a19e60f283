"""Attribution patching: which activations matter by their gradients, and where is that wrong?"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from interp.analyses import _attribution_words as words
from interp.analyses._attribution_words import Result
from interp.analyses._fields import (
    BehaviorName,
    Count,
    Direction,
    Kind,
    Metric,
    ModelName,
    Pair,
    Pairs,
    Seed,
    Sites,
    Whole,
)
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Spec, Step
from interp.axes import LayerHead, PairGrid, PerPair
from interp.behaviors import Behavior, built_in, from_pairs
from interp.errors import BadInput
from interp.methods import effects, rechecks
from interp.methods.grids import (
    Grid,
    cells_that_cannot_matter,
    cells_that_must_matter,
    make_grid,
)
from interp.models import catalogue, tokens
from interp.models.batches import rows_per_batch
from interp.scores import Score

if TYPE_CHECKING:
    from interp.methods.attribution_patching import Attribution

Method = Annotated[Literal["gradient", "qk_fix", "integrated"], Kind("choice")]
_STEPS = 8


class AttributionPatching(Spec):
    """Estimate every patch of a map by gradients, and make some of them exactly."""

    kind: Literal["attribution_patching"] = "attribution_patching"
    model: ModelName = Field(default="induction-handmade", description="The model asked.")
    behavior: BehaviorName = Field(default="", description="A built-in set of pairs, or empty.")
    n_pairs: Count = Field(default=20, description="How many pairs of the behavior, 1 to 1000.")
    pairs: Pairs = Field(default=(), description="Prompt pairs; ignored where a behavior is named.")
    site: Sites = Field(default="z_pos", description="What is patched, and with it the map.")
    direction: Direction = Field(
        default="denoising",
        description="denoising: clean activation into the corrupted run; noising: the reverse. "
        "Gradients are those of the run that is patched.",
    )
    metric: Metric = Field(default="logit_diff", description="What is read at the answer position.")
    method: Method = Field(
        default="gradient",
        description="gradient: of the run that is patched; qk_fix: attention computed anew with "
        "the patched query or key, for these sites only; integrated: the mean gradient of runs "
        "between the two prompts.",
    )
    steps: Whole = Field(
        default=_STEPS, ge=1, le=64, title="Steps",
        description="Runs between the two prompts, 1 to 64; only integrated gradients have any.",
    )  # fmt: skip
    recheck: Whole = Field(
        default=10, ge=0, le=200, title="Checked exactly",
        description="How many of the largest estimates are patched exactly, and how many of the "
        "others, drawn at random; a map of at most 60 cells is checked whole. 0 checks none.",
    )  # fmt: skip
    seed: Seed = Field(default=0, description="Seed of the cells drawn and of the bootstrap.")

    @model_validator(mode="before")
    @classmethod
    def _one_question(cls, fields: Any) -> Any:
        """Drop what is ignored, so that one question has one spec and one key."""
        if not isinstance(fields, dict):
            return fields
        fields = dict(fields)
        fields |= {"pairs": ()} if fields.get("behavior") else {"n_pairs": 20}
        if fields.get("method") == "qk_fix" and not _has_fix(fields.get("site", "z_pos")):
            # Elsewhere attention is not what is patched: the fix is the gradient.
            fields["method"] = "gradient"
        if fields.get("method") != "integrated":
            fields["steps"] = _STEPS
        return fields


def _has_fix(site: Any) -> bool:
    return str(site).removesuffix("_pos") in ("q", "k")


def inputs(spec: AttributionPatching) -> Behavior:
    """Check pairs, site and metric against the model."""
    if spec.behavior:
        behavior = built_in(spec.behavior, spec.n_pairs, spec.model)
    else:
        behavior = from_pairs(spec.model, [pair.prompt_pair() for pair in spec.pairs])
    make_grid(catalogue.info(spec.model), behavior, spec.site)
    effects.check_metric(spec.metric, behavior.foils)
    if spec.metric == "kl" and spec.direction == "noising" and spec.method != "integrated":
        raise BadInput(
            "The gradient of the KL from the clean run was asked for in the clean run.",
            "KL from the clean run has no slope at the clean run: it is 0 there, its least value.",
            "Use integrated gradients, denoising, or the logit difference.",
        )
    return behavior


def cost(spec: AttributionPatching, behavior: Behavior) -> Cost:
    """Two bare passes a pair, one forward and backward a step, one forward a cell checked."""
    model = catalogue.info(spec.model)
    live = _live(spec, behavior, make_grid(model, behavior, spec.site))
    checked = rechecks.planned(int(live.sum()), spec.recheck)
    held, steps = sum(behavior.lengths), spec.steps if spec.method == "integrated" else 1
    rows = rows_per_batch(model, max(behavior.lengths))
    batch = min(rows, len(behavior) * steps) * max(behavior.lengths)
    # What a backward pass needs: about 30 numbers of the stream's width a layer and token, the
    # MLP's hidden layer four times, and attention three times.
    width = 30 * model.d_model + 4 * (model.d_mlp or 0)
    width += 3 * model.n_heads * max(behavior.lengths)
    return Cost(
        tokens=held * (2 + 3 * steps + checked),
        passes=2 + 3 * -(-len(behavior) * steps // rows) + -(-len(behavior) * checked // rows),
        bytes=4 * model.n_layers * (batch * width + 8 * held * model.d_model),
    )


def _live(spec: AttributionPatching, behavior: Behavior, grid: Grid) -> np.ndarray:
    """Mark the cells that can matter and are not 1 by structure."""
    model = catalogue.info(spec.model)
    forced = cells_that_must_matter(model, behavior, grid)
    return ~(cells_that_cannot_matter(model, behavior, grid) | forced)


def run(spec: AttributionPatching, ctx: Context) -> Generator[Step[Result], None, None]:
    """Estimate the map, batch by batch of pairs; then check cells exactly, pass by pass."""
    from interp.methods.attribution_patching import Attribution

    model, saved = ctx.load(spec.model), ctx.checkpoint or {}
    grid = make_grid(model.info, ctx.inputs, spec.site)
    work = Attribution(model, ctx.inputs, grid, spec.direction, spec.metric)
    least = effects.least_gap(spec.metric, work.logits, model.info.dtype)
    effects.check_gap(work.clean, work.corrupted, spec.metric, least)
    draw = partial(_result, spec, ctx.inputs, grid, _labelled(spec, ctx.inputs, grid, work, least))
    steps = spec.steps if spec.method == "integrated" else 1
    planned = rechecks.planned(int(_live(spec, ctx.inputs, grid).sum()), spec.recheck)
    # The last hundredth is for what comes behind the last pass.
    first, rest = (0.99 * part / (3 * steps + planned) for part in (3 * steps, planned))
    now = _Numbers.blank(len(ctx.inputs), grid, model.info.n_layers, model.info.n_heads)
    now = replace(now, **saved)
    for estimates, totals in work.estimate(spec.method, spec.steps, (now.estimates, now.totals)):
        now = replace(now, estimates=estimates, totals=totals)
        ctx.save_checkpoint({"estimates": estimates, "totals": totals})
        yield Step(first * float(words.estimated(estimates).mean()), draw(now))
    chosen = _chosen(spec, ctx.inputs, grid, draw(now).effect)
    checks = max(1, len(chosen.order)) * len(ctx.inputs)
    for exact in work.exact(chosen.order, now.exact):
        now = replace(now, exact=exact)
        ctx.save_checkpoint({"estimates": now.estimates, "totals": now.totals, "exact": exact})
        yield Step(first + rest * float(np.isfinite(exact).sum()) / checks, draw(now))
    now = replace(now, complete=True)
    last = draw(now)
    if rechecks.missed(last.effect, last.exact_effect).any():
        last = draw(replace(now, saturated=work.saturated()))
    yield Step(1.0, last)


@dataclass(frozen=True)
class _Numbers:
    """What is computed so far, as in ``Result``."""

    estimates: PairGrid
    totals: PerPair
    exact: PairGrid
    saturated: LayerHead
    complete: bool = False

    @classmethod
    def blank(cls, pairs: int, grid: Grid, n_layers: int, n_heads: int) -> _Numbers:
        """Return nothing yet."""
        nothing = np.full((pairs, *grid.shape), np.nan)
        return cls(nothing, np.full(pairs, np.nan), nothing, np.zeros((n_layers, n_heads)))


def _chosen(
    spec: AttributionPatching, behavior: Behavior, grid: Grid, effect: np.ndarray
) -> rechecks.Chosen:
    live = _live(spec, behavior, grid)
    return rechecks.choose(effect, live, spec.recheck, np.random.default_rng(spec.seed))


def _labelled(
    spec: AttributionPatching, behavior: Behavior, grid: Grid, work: Attribution, least: float
) -> partial[Result]:
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
        method=spec.method,
        steps=spec.steps if spec.method == "integrated" else 0,
        recheck=spec.recheck,
        row_axis=grid.row_axis,
        col_axis=grid.col_axis,
        rows=grid.row_names(),
        clean_tokens=tuple(tokens.text_of(info, ids) for ids in behavior.clean),
        corrupted_tokens=tuple(tokens.text_of(info, ids) for ids in behavior.corrupted),
        answers=tuple(outputs[i] for i in behavior.answers),
        foils=tuple(outputs[i] if i >= 0 else "" for i in behavior.foils),
        read=behavior.read_at(0),
        clean=work.clean,
        corrupted=work.corrupted,
        inert=cells_that_cannot_matter(info, behavior, grid),
        forced=cells_that_must_matter(info, behavior, grid),
        least_gap=least,
        clusters=behavior.clusters,
        how=work.how,
    )


def _result(
    spec: AttributionPatching,
    behavior: Behavior,
    grid: Grid,
    labelled: partial[Result],
    now: _Numbers,
) -> Result:
    args = (labelled.keywords["clean"], labelled.keywords["corrupted"], spec.direction)
    effect = effects.effect(now.estimates, *args)
    # The seed is used afresh for each picture, so that the last one does not depend on how many
    # were drawn before it.
    rng, bounds = np.random.default_rng(spec.seed), None
    there = not np.isnan(now.estimates).any()
    if there:
        bounds = effects.interval(now.estimates, *args, rng, clusters=behavior.clusters)
    low, high = bounds if bounds is not None else (np.full_like(effect, np.nan),) * 2
    chosen = _chosen(spec, behavior, grid, effect if there else np.zeros_like(effect))
    exact_effect = effects.effect(now.exact, *args)
    score = rechecks.agreement(effect, exact_effect, chosen, rng) if now.complete else None
    nothing = np.zeros_like(effect, dtype=bool)
    return labelled(
        estimates=now.estimates,
        totals=now.totals,
        exact=now.exact,
        effect=effect,
        low=low,
        high=high,
        exact_effect=exact_effect,
        top=chosen.top if there else nothing,
        drawn=chosen.drawn if there or chosen.whole else nothing,
        order=score if isinstance(score, Score) else None,
        why_no_order="" if score is None or isinstance(score, Score) else score.reason,
        stage="done" if now.complete else "running",
        saturated=now.saturated,
    )


def follow_ups(spec: AttributionPatching, result: Result) -> list[FollowUp]:
    """Suggest the exact sweep, the other ways to estimate, and the reverse direction."""
    fields = spec.model_dump(mode="json")
    own = ("method", "steps", "recheck")
    same = {name: value for name, value in fields.items() if name not in own}
    ups = [FollowUp("Patch exactly", {**same, "kind": "activation_patching"})]
    if spec.method != "integrated":
        ups.append(FollowUp("Integrated gradients", {**fields, "method": "integrated"}))
    if spec.method != "qk_fix":
        site = spec.site if _has_fix(spec.site) else "k_pos" if _one_length(result) else "k"
        label = "QK fix" if _has_fix(spec.site) else "Keys, with the QK fix"
        changed = {"site": site, "method": "qk_fix", "steps": _STEPS}
        if not (spec.metric == "kl" and spec.direction == "noising"):
            ups.append(FollowUp(label, {**fields, **changed}))
    other = "noising" if spec.direction == "denoising" else "denoising"
    if not (spec.metric == "kl" and other == "noising" and spec.method != "integrated"):
        ups.append(FollowUp(f"Ask the reverse: {other}", {**fields, "direction": other}))
    return ups


def _one_length(result: Result) -> bool:
    return len({len(texts) for texts in result.clean_tokens}) == 1


def question(spec: AttributionPatching) -> str:
    """Restate the question in plain words."""
    way, does = (
        ("from clean into corrupted", "bring back")
        if spec.direction == "denoising"
        else ("from corrupted into clean", "take away")
    )
    what = f"Which {words.PLACES[spec.site]} of {spec.model}, patched {way}, would {does}"
    by = f"by {effects.METRICS[spec.metric][0]}, as {words.way(spec.method, spec.steps)}"
    by += " would have it?"
    if spec.behavior:
        some = f"{spec.n_pairs} pair{'s' if spec.n_pairs > 1 else ''} of {spec.behavior}"
        return f"{what} the answer on {some}, {by}"
    if not spec.pairs:
        return f"{what} the answer, {by}"
    pair, n = spec.pairs[0], len(spec.pairs) - 1
    over = f" over {pair.foil!r}" if pair.foil and spec.metric == "logit_diff" else ""
    more = f" (and {n} more pair{'s' if n > 1 else ''})" if n else ""
    return (
        f"{what} the answer {pair.answer!r}{over} on {pair.clean!r} against "
        f"{pair.corrupted!r}{more}, {by}"
    )


ANALYSIS = Analysis(
    kind="attribution_patching",
    page=("Find", "Attribution patching"),
    rank=2,
    about="Which activations matter, estimated by gradients in two forwards and one backward, "
    "and where is the estimate wrong?",
    spec=AttributionPatching,
    result=Result,
    question=question,
    inputs=inputs,
    cost=cost,
    run=run,
    figures=words.figures,
    verdict=words.verdict,
    scores=lambda result: (result.order,) if result.order else (),
    inspect=words.inspect,
    follow_ups=follow_ups,
    example=AttributionPatching(
        pairs=(Pair(clean="kmabcda", corrupted="kmebcda", answer="b", foil="d"),),
        direction="noising",
    ),
    cites=(
        Cite(
            "Nanda (2023), Attribution patching: activation patching at industrial scale",
            "@misc{nanda2023attribution,\n  author = {Nanda, Neel},\n"
            "  title = {Attribution Patching: Activation Patching At Industrial Scale},\n"
            "  howpublished = {neelnanda.io},\n  year = {2023}\n}",
        ),
        Cite(
            "Syed, Rager & Conmy (2023), Attribution patching outperforms automated circuit "
            "discovery",
            "@article{syed2023attribution,\n  author = {Syed, Aaquib and Rager, Can and Conmy, "
            "Arthur},\n  title = {Attribution Patching Outperforms Automated Circuit Discovery},\n"
            "  journal = {arXiv:2310.10348},\n  year = {2023}\n}",
        ),
        Cite(
            "Kramár, Lieberum, Shah & Nanda (2024), AtP*",
            "@article{kramar2024atp,\n  author = {Kram{\\'a}r, J{\\'a}nos and Lieberum, Tom and "
            "Shah, Rohin and Nanda, Neel},\n  title = {AtP*: An efficient and scalable method for "
            "localizing LLM behaviour to components},\n  journal = {arXiv:2403.00745},\n"
            "  year = {2024}\n}",
        ),
        Cite(
            "Hanna, Pezzelle & Belinkov (2024), Have faith in faithfulness",
            "@inproceedings{hanna2024faith,\n  author = {Hanna, Michael and Pezzelle, Sandro and "
            "Belinkov, Yonatan},\n  title = {Have Faith in Faithfulness: Going Beyond Circuit "
            "Overlap When Finding Model Mechanisms},\n  booktitle = {COLM},\n  year = {2024}\n}",
        ),
    ),
)
