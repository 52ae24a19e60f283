"""Logit lens: what would the model say if it stopped after each layer?"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from interp.analyses._fields import Answer, ModelName, Prompt, Seed
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Spec, Step
from interp.axes import LayerPos, LayerPosTop
from interp.behaviors import Behavior, from_prompt
from interp.figures import curves, heatmap, theme
from interp.figures.named import NamedFigure
from interp.models import catalogue, tokens

TOP = 10
_ACROSS, _MOST_WRITTEN = 52, 20
"""Letters side by side in the cells of the narrowest window, and the most positions with any."""
TIE = 1e-9
"""Log-probabilities closer than this, in nats, count as equal."""


class LogitLens(Spec):
    """Read one prompt at every layer and position."""

    kind: Literal["logit_lens"] = "logit_lens"
    model: ModelName = Field(default="induction-handmade", description="The model asked.")
    prompt: Prompt = Field(default="kmabcda", description="The prompt, as text.")
    answer: Answer = Field(
        default="", description="The output to follow; empty: what the model itself answers."
    )
    seed: Seed = Field(default=0, description="Not used: nothing here is random.")


@dataclass(frozen=True)
class Result:
    """Readings by depth (``embed``, then after each layer) and position.

    Attributes:
        tokens: Text of each position.
        depths: Name of each depth.
        read: The position whose output is the model's answer.
        space: "tokens" or "classes".
        n_outputs: Number of outputs of the model.
        answer: The output that is followed.
        top: Names of the most probable outputs, most probable first.
        top_p: Their probabilities.
        answer_p: Probability of the answer.
        answer_rank: Rank of the answer, 1 = most probable alone; ties count against it.
        entropy_nats: Entropy of the reading.
        kl_nats: KL(last depth ‖ this depth) at the same position.
    """

    tokens: tuple[str, ...]
    depths: tuple[str, ...]
    read: int
    space: str
    n_outputs: int
    answer: str
    top: tuple[tuple[tuple[str, ...], ...], ...]
    top_p: LayerPosTop
    answer_p: LayerPos
    answer_rank: LayerPos
    entropy_nats: LayerPos
    kl_nats: LayerPos


def inputs(spec: LogitLens) -> Behavior:
    """Check the prompt and the answer."""
    return from_prompt(spec.model, spec.prompt, spec.answer)


def cost(spec: LogitLens, behavior: Behavior) -> Cost:
    """One pass, and an unembedding a layer."""
    model = catalogue.info(spec.model)
    n = behavior.lengths[0]
    # Of one depth: logits, and log-probabilities, probabilities and their product in float64.
    size = 30 * n * model.d_out + 4 * n * (model.n_layers + 1) * model.d_model
    return Cost(tokens=2 * n, passes=2, bytes=size)


def run(spec: LogitLens, ctx: Context) -> Generator[Step[Result], None, None]:
    """Read the prompt at every depth in one step."""
    import torch

    from interp.methods.lens import logit_lens

    model = ctx.load(spec.model)
    names, ids = tokens.answer_names(model.info), ctx.inputs.clean[0]
    lens, depths = logit_lens(model, torch.tensor(ids)), model.info.n_layers + 1
    last, read = lens.log_probs(depths - 1), ctx.inputs.read_at(0)
    answer = ctx.inputs.answers[0] if ctx.inputs.answers else int(last[read].argmax())
    readings = [_reading(lens.log_probs(depth), last, answer) for depth in range(depths)]

    def at_every_depth(name: str) -> np.ndarray:
        return np.stack([reading[name] for reading in readings])

    top = at_every_depth("top")
    yield Step(
        1.0,
        Result(
            tokens=tokens.text_of(model.info, ids),
            depths=("embed", *(f"L{i}" for i in range(model.info.n_layers))),
            read=read,
            space=ctx.inputs.space,
            n_outputs=len(names),
            answer=names[answer],
            top=tuple(tuple(tuple(names[i] for i in cell) for cell in row) for row in top.tolist()),
            top_p=at_every_depth("top_p"),
            answer_p=at_every_depth("answer_p"),
            answer_rank=at_every_depth("answer_rank"),
            entropy_nats=at_every_depth("entropy_nats"),
            kl_nats=at_every_depth("kl_nats"),
        ),
    )


def _reading(logp: Any, last: Any, answer: int) -> dict[str, np.ndarray]:
    """Reduce the log-probabilities ``[pos, output]`` at one depth to what is shown of them."""
    p, followed = logp.exp(), logp[:, answer]
    top = logp.topk(min(TOP, logp.shape[-1]), dim=-1).indices
    return {
        "top": top.numpy(),
        "top_p": p.gather(-1, top).numpy(),
        "answer_p": followed.exp().numpy(),
        # Ties count against the answer: a uniform reading puts it last, not first.
        "answer_rank": (logp >= followed[:, None] - TIE).sum(-1).double().numpy(),
        "entropy_nats": -(p * logp).sum(-1).numpy(),
        "kl_nats": (last.exp() * (last - logp)).sum(-1).numpy(),
    }


def figures(result: Result) -> list[NamedFigure]:
    """Draw the lens grid, the answer's way through the layers, and the predictions."""
    grid = heatmap.heatmap(
        result.top_p[:, :, 0],
        rows=result.depths,
        cols=theme.positions(result.tokens),
        titles=("read after", "position", "probability"),
        limits=(0.0, 1.0),
        text=_texts(result),
        hover=[
            [_hover(result, i, j) for j in range(len(result.tokens))]
            for i in range(len(result.depths))
        ],
    )
    where = f"The model's answer is read at position {result.read}."
    if result.space == "classes":
        where += " Its outputs are classes, trained at that position only; read others with care."
    last = result.top_p[-1, result.read]
    return [
        NamedFigure(
            "lens",
            "Top output after each layer, at each position",
            "Colour: probability of the top output, which is named on hover"
            f"{' and, cut, in the cell' if len(result.tokens) <= _MOST_WRITTEN else ''}. Guessing "
            f"among {result.n_outputs} outputs gives {1 / result.n_outputs:.3g}. {where}",
            grid,
            selectable=True,
        ),
        NamedFigure(
            "trajectory",
            f"{result.answer!r} through the layers",
            f"Probability of {result.answer!r} at position {result.read} after each layer; "
            f"guessing gives {1 / result.n_outputs:.3g}.",
            _trajectory(result, result.read),
        ),
        NamedFigure(
            "predictions",
            "What the model predicts",
            f"The most probable outputs at position {result.read}.",
            curves.bars(
                [theme.label(name) for name in result.top[-1][result.read]],
                last,
                titles=("probability", "output"),
            ),
        ),
    ]


def _texts(result: Result) -> list[list[str]] | None:
    """Return the top output of every cell, cut to its width; nothing where no letter fits."""
    n = len(result.tokens)
    if n > _MOST_WRITTEN:
        return None
    longest = max(2, min(8, _ACROSS // n))
    depths = range(len(result.depths))
    return [[_top(result, i, j, longest) for j in range(n)] for i in depths]


def _top(result: Result, depth: int, pos: int, longest: int) -> str:
    """Name the top output; where the first two are equally probable there is none to name."""
    p = result.top_p[depth, pos]
    if len(p) > 1 and p[0] - p[1] < TIE * p[0]:
        return "tie"
    return theme.label(result.top[depth][pos][0], longest)


def _trajectory(result: Result, pos: int) -> Any:
    return curves.lines(
        result.depths,
        {theme.label(result.answer): result.answer_p[:, pos]},
        level=("uniform guess", 1 / result.n_outputs),
        titles=("read after", "probability"),
        y_range=(-0.03, 1.03),
    )


def _hover(result: Result, depth: int, pos: int) -> str:
    lines = [
        f"{theme.label(name, 30)}: {p:.3f}"
        for name, p in zip(result.top[depth][pos][:5], result.top_p[depth, pos], strict=False)
    ]
    place = f"after {result.depths[depth]}, position {pos} ({theme.label(result.tokens[pos], 30)})"
    rank = f"rank of {theme.label(result.answer, 30)}: {int(result.answer_rank[depth, pos])}"
    return "<br>".join([place, *lines, rank])


def verdict(result: Result) -> str:
    """Say from which layer on the answer leads."""
    rank, p = result.answer_rank[:, result.read], result.answer_p[:, result.read]
    leads = rank == 1
    scale = f"guessing gives {1 / result.n_outputs:.2g}"
    if not leads[-1] and p[-1] >= result.top_p[-1, result.read, 0] * (1 - TIE):
        return (
            f"The model has no single answer here: {result.answer!r} and {int(rank[-1]) - 1} other "
            f"outputs share the top at probability {p[-1]:.3f} ({scale})."
        )
    if not leads[-1]:
        own = result.top[-1][result.read][0]
        return (
            f"The model does not answer {result.answer!r}: it ends at rank {int(rank[-1])} with "
            f"probability {p[-1]:.3f} ({scale}); its own answer is {own!r}."
        )
    start = len(leads) - int(np.argmin(leads[::-1])) if not leads.all() else 0
    name = result.depths[start]
    since = (
        "from the embedding on, where nothing but the token at this position is read"
        if start == 0
        else f"from {name} on"
    )
    return (
        f"{result.answer!r} is the top output {since}, and ends at probability {p[-1]:.3f} "
        f"({scale}); one prompt, so this has no interval."
    )


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say what is read at the clicked cell, and draw the answer's way at its position."""
    depth, pos = int(cell["0"]), int(cell["1"])
    top = ", ".join(
        f"{name!r} {p:.3f}"
        for name, p in zip(result.top[depth][pos][:5], result.top_p[depth, pos], strict=False)
    )
    text = (
        f"After {result.depths[depth]} at position {pos} ({result.tokens[pos]!r}): {top}. "
        f"Entropy {result.entropy_nats[depth, pos]:.2f} nats, "
        f"KL from the last layer {result.kl_nats[depth, pos]:.2f} nats."
    )
    title = f"{result.answer!r} at position {pos}"
    return text, [NamedFigure("trajectory-at", title, "", _trajectory(result, pos))]


def follow_ups(spec: LogitLens, result: Result) -> list[FollowUp]:
    """Suggest to find the cause by patching, starting from this prompt."""
    answer, others = result.answer, [n for n in result.top[-1][result.read] if n != result.answer]
    pair = {
        "clean": spec.prompt,
        "corrupted": "",
        "answer": answer,
        "foil": others[0] if others else "",
    }
    return [
        FollowUp(
            f"Patch to find what makes it {answer!r}",
            {"kind": "activation_patching", "model": spec.model, "pairs": [pair]},
        )
    ]


ANALYSIS = Analysis(
    kind="logit_lens",
    page=("Look", "Explore"),
    rank=1,
    about="What does the model predict for this prompt, and from which layer on?",
    spec=LogitLens,
    result=Result,
    question=lambda s: (
        f"After which layer does {s.model} come to "
        + (f"{s.answer!r}" if s.answer else "its answer")
        + f" on {s.prompt!r}?"
    ),
    inputs=inputs,
    cost=cost,
    run=run,
    figures=figures,
    verdict=verdict,
    scores=lambda _: (),
    inspect=inspect,
    follow_ups=follow_ups,
    example=LogitLens(),
    cites=(
        Cite(
            "nostalgebraist (2020), interpreting GPT: the logit lens",
            "@misc{nostalgebraist2020logitlens,\n  author = {nostalgebraist},\n"
            "  title = {interpreting {GPT}: the logit lens},\n  year = {2020},\n"
            "  howpublished = {LessWrong}\n}",
        ),
        Cite(
            "Belrose et al. (2023), Eliciting latent predictions with the tuned lens",
            "@article{belrose2023tunedlens,\n  author = {Belrose, Nora and others},\n"
            "  title = {Eliciting Latent Predictions from Transformers with the Tuned Lens},\n"
            "  journal = {arXiv:2303.08112},\n  year = {2023}\n}",
        ),
    ),
)
