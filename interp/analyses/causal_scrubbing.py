"""Causal scrubbing: what is left of a behavior when all that a hypothesis allows is exchanged?"""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from interp.analyses import _scrubbing_words as words
from interp.analyses._cites import CAUSAL_SCRUBBING
from interp.analyses._fields import MORE, Kind, Whole
from interp.analyses._hypotheses import OfHypothesis, arrays, inputs
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Step
from interp.analyses._scrubbing_result import SHOWN, Result, figures, inspect, scores
from interp.analyses._scrubbing_versions import compared, short, variations
from interp.behaviors import Behavior
from interp.errors import BadInput
from interp.explanations.words import summary
from interp.models import catalogue, tokens

MECHANISM = "mechanism"
"""Feature of inputs of which it is known what answers them."""


class CausalScrubbing(OfHypothesis):
    """Test a hypothesis by exchanging everything that it allows to be exchanged."""

    kind: Literal["causal_scrubbing"] = "causal_scrubbing"
    draws: Whole = Field(
        default=4,
        ge=1,
        le=64,
        title="Draws",
        description="How often each reference is scrubbed, with new draws.",
    )
    nulls: Whole = Field(
        default=60,
        ge=0,
        le=500,
        title="Random hypotheses",
        description="How many of each kind stand beside the score.",
        json_schema_extra=MORE,
    )
    references: Annotated[Literal["all", "held-out"], Kind("choice")] = Field(
        default="all",
        description="Inputs that are scored: all, or those that no search has seen. All are drawn "
        "from.",
        json_schema_extra=MORE,
    )


def checked(spec: CausalScrubbing) -> Behavior:
    """Draw the inputs and check the hypothesis, and that there is something to be scored."""
    behavior = inputs(spec)
    held = {a for a, out in zip(behavior.answers, behavior.held_out, strict=False) if out}
    if spec.references == "held-out" and len(held) < 2:
        raise BadInput(
            f"The held-out inputs of {spec.behavior} were to be scored.",
            "They have one right answer." if held else "None is held out.",
            "Take more inputs, or score all.",
        )
    return behavior


def cost(spec: CausalScrubbing, behavior: Behavior) -> Cost:
    """Two passes an input; then each node with children once a reference and draw."""
    info = catalogue.info(spec.model)
    longest, n = max(behavior.lengths), len(behavior)
    nodes = list(spec.claimed.nodes())
    inner = sum(1 for node, _ in nodes if node.children and node.site != "logits")
    evaluations = spec.draws * (3 * len(nodes) + 4) + 2 * spec.nulls
    run_again = evaluations * n * inner * longest // max(1, info.n_layers * info.n_heads)
    kept = (len(nodes) + info.n_layers) * n * (longest if inner else 1) * info.d_model
    return Cost(
        tokens=2 * n * longest + run_again + evaluations * n,
        passes=2 * n // 256 + evaluations,
        bytes=4 * kept,
    )


def run(spec: CausalScrubbing, ctx: Context) -> Generator[Step[Result], None, None]:
    """Scrub, and compute what the score is read against."""
    from interp.methods.scrubbing.run import Amount, test

    of = arrays(spec, ctx.inputs)
    which = np.ones(len(of), bool)
    if spec.references == "held-out" and of.held_out is not None:
        which = of.held_out
    info = catalogue.info(spec.model)
    names = _outputs(spec, ctx.inputs)
    amount = Amount(spec.draws, spec.nulls, spec.seed)
    text_of = cache(lambda row: tokens.text_of(info, ctx.inputs.clean[row]))
    slices = _slices(ctx.inputs)
    for fraction, found in test(ctx.load(spec.model), spec.claimed, of, which, amount):
        shown = _shown(found.measured.loss, found.measured.model[0])
        rows = np.flatnonzero(which)[shown]
        result = Result(
            hypothesis=spec.hypothesis,
            inputs=ctx.inputs.source,
            references=spec.references,
            drawn_from=len(of),
            refs=np.flatnonzero(which),
            labels=of.labels[which],
            names=names,
            shown=shown,
            shown_tokens=tuple(text_of(int(row)) for row in rows),
            columns=tuple(name for name, _ in ctx.inputs.features),
            slice_names=tuple(slices),
            slices=np.array(list(slices.values()))[:, which],
            found=found,
        )
        yield Step(fraction, result)


def _outputs(spec: CausalScrubbing, behavior: Behavior) -> tuple[str, ...]:
    """Return the names of the labels that the inputs have, by output; empty where it has none."""
    every = tokens.answer_names(catalogue.info(spec.model))
    used = set(behavior.answers)
    return tuple(name if i in used else "" for i, name in enumerate(every[: max(used) + 1]))


def _shown(loss: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Choose the references whose text is kept: where most is lost, and some spread evenly."""
    lost = np.where(np.isfinite(loss).any(0), np.nanmean(np.nan_to_num(loss), 0) - model, -np.inf)
    worst = np.argsort(-lost, kind="stable")[: SHOWN // 2]
    spread = np.linspace(0, len(lost) - 1, min(SHOWN // 2, len(lost))).astype(int)
    return np.unique(np.concatenate([worst, spread]))


def _slices(behavior: Behavior) -> dict[str, np.ndarray]:
    """Return inputs by what is true of them: their features of two values."""
    found: dict[str, np.ndarray] = {}
    for name, values in behavior.features:
        if set(values) == {0, 1}:
            found |= {f"{name} = {v}": np.array(values) == v for v in (1, 0)}
    return found or {"all": np.ones(len(behavior), bool)}


def follow_ups(spec: CausalScrubbing, result: Result) -> list[FollowUp]:
    """Suggest what the answer leaves open."""
    fields = spec.model_dump(mode="json")
    shared = {name: fields[name] for name in ("model", "behavior", "n_inputs", "hypothesis")}
    ups = [FollowUp("Try to break it", {"kind": "adversarial_inputs", **shared})]
    if MECHANISM in result.columns:
        apart = {"kind": "mechanism_distinction", **shared}
        ups.append(FollowUp("Does it tell mechanisms apart?", apart))
    same = {name: fields[name] for name in ("model", "behavior")}
    ups.append(FollowUp("Which parts act, and on what?", {"kind": "component_roles", **same}))
    ups += [
        FollowUp(label, {**fields, "hypothesis": changed.canonical})
        for label, changed in variations(spec.claimed, result)
    ]
    return ups


def question(spec: CausalScrubbing) -> str:
    """Restate the question in plain words."""
    said = summary(spec.claimed).rstrip(".")
    return (
        f"What loss does {spec.model} keep on {spec.n_inputs:,} inputs of {spec.behavior} when "
        f"everything is exchanged that this hypothesis allows ({short(spec.claimed)}; "
        f"{said[0].lower()}{said[1:]})?"
    )


ANALYSIS = Analysis(
    kind="causal_scrubbing",
    page=("Test", "Causal scrubbing"),
    rank=1,
    about="How much of the behavior is left when everything is exchanged that the hypothesis says "
    "does not matter, and what does that number mean?",
    spec=CausalScrubbing,
    result=Result,
    question=question,
    inputs=checked,
    cost=cost,
    run=run,
    figures=figures,
    verdict=words.verdict,
    scores=scores,
    inspect=inspect,
    follow_ups=follow_ups,
    lineage=compared,
    example=CausalScrubbing(hypothesis="preset:paren-1b", n_inputs=1000, draws=4, nulls=60),
    cites=(
        CAUSAL_SCRUBBING,
        Cite(
            "Scheurer et al. (2023), Practical pitfalls of causal scrubbing",
            "@misc{scheurer2023pitfalls,\n  author = {Scheurer, J{\\'e}r{\\'e}my and others},\n"
            "  title = {Practical Pitfalls of Causal Scrubbing},\n"
            "  howpublished = {AI Alignment Forum},\n  year = {2023}\n}",
        ),
        Cite(
            "Jenner et al. (2023), A comparison of causal scrubbing, causal abstractions, and "
            "related methods",
            "@misc{jenner2023comparison,\n  author = {Jenner, Erik and Garriga-Alonso, "
            "Adri{\\`a} and Zverev, Egor},\n  title = {A Comparison of Causal Scrubbing, Causal "
            "Abstractions, and Related Methods},\n  howpublished = {AI Alignment Forum},\n"
            "  year = {2023}\n}",
        ),
    ),
)
