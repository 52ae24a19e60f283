"""Attention: where does each head of a layer look, and which heads are of a known type?"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from interp.analyses._fields import Head, Layer, ModelName, Prompt, Seed
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Spec, Step
from interp.axes import DestSrc, HeadDestSrc
from interp.behaviors import Behavior, from_prompt
from interp.errors import UnknownName
from interp.figures import attention as drawn
from interp.figures import curves, heatmap
from interp.figures.named import NamedFigure
from interp.methods import head_scores
from interp.methods.head_scores import RELATIONS, SCORED, SEQUENCES, HeadScores, OnPrompt
from interp.models import catalogue, tokens
from interp.models.batches import rows_per_batch
from interp.models.info import BYTES
from interp.scores import Score

MOST_POSITIONS = 100
"""Positions that are drawn and kept, the last ones: more would be over 10⁴ cells."""
FAR = 0.25
"""Attention above that of uniform attention from which on a sentence names a place."""
_PLACES = {
    "first position": "the first token",
    "own position": "its own token",
    "previous token": "the previous token",
    "duplicate token": "earlier copies of its token",
    "induction": "what came after earlier copies of its token",
}


class Attention(Spec):
    """Look at the heads of a layer on one prompt, and score all heads on random tokens."""

    kind: Literal["attention"] = "attention"
    model: ModelName = Field(default="induction-handmade", description="The model asked.")
    layer: Layer = Field(default=0, description="The layer whose heads are shown, from 0.")
    head: Head = Field(default=0, description="The head that is shown large, from 0.")
    prompt: Prompt = Field(default="kmabcdkmabcd", description="The prompt, as text.")
    seed: Seed = Field(default=0, description="Seed of the random tokens that heads are scored on.")


@dataclass(frozen=True)
class Result:
    """Attention on the prompt, and on random tokens.

    Attributes:
        tokens: Text of the positions that are kept.
        first: Index of the first of them; those before are not kept.
        n_tokens: Positions of the whole prompt.
        causal: Whether a position sees only itself and those before.
        window: How many of these the layer sees, itself included; None for all.
        layer: The layer whose heads are shown.
        head: The head that is shown large.
        pattern: Attention of each head of the layer, 0 to 1, between the positions kept. Rows of
            the whole prompt sum to 1; these sum to less where they look at positions not kept.
        looks: Where each head of the layer looks on this prompt, all of it.
        scores: Scores of all heads on random tokens; None where there can be none.
        absent: Why there are none, else empty.
        outputs: The two most probable outputs of the model on this prompt.
    """

    tokens: tuple[str, ...]
    first: int
    n_tokens: int
    causal: bool
    window: int | None
    layer: int
    head: int
    pattern: HeadDestSrc
    looks: OnPrompt
    scores: HeadScores | None
    absent: str
    outputs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The head that is shown large."""
        return f"L{self.layer}H{self.head}"

    def visible(self, head: int) -> DestSrc:
        """Return the pattern of a head of the layer, NaN where the model masks it."""
        seen = head_scores.visible(len(self.tokens), causal=self.causal, window=self.window)
        return np.where(seen, self.pattern[head], np.nan)


def inputs(spec: Attention) -> Behavior:
    """Check prompt, layer and head against the model."""
    info = catalogue.info(spec.model)
    for what, letter, asked, n in (
        ("layer", "L", spec.layer, info.n_layers),
        ("head", "H", spec.head, info.n_heads),
    ):
        if asked >= n:
            known = [f"{letter}{i}" for i in range(n)]
            raise UnknownName.of(f"{what} in {spec.model}", f"{letter}{asked}", known)
    return from_prompt(spec.model, spec.prompt)


def cost(spec: Attention, behavior: Behavior) -> Cost:
    """One pass over the prompt, and two a random sequence where heads can be scored."""
    info, n = catalogue.info(spec.model), behavior.lengths[0]
    size, passes, rows = 0, 0, 0
    if not head_scores.why_not(info):
        alphabet = head_scores.alphabet(info)
        size = 2 * alphabet.length(info.n_ctx) + len(alphabet.before) + len(alphabet.after)
        rows = min(2 * SEQUENCES, max(2, rows_per_batch(info, size)))
        passes = math.ceil(2 * SEQUENCES / rows)
    # Of a layer's attention there are three copies at once: scores, pattern, and what is kept.
    widest = max(n * n, rows * size * size)
    return Cost(
        tokens=n + 2 * SEQUENCES * size,
        passes=1 + passes,
        bytes=3 * BYTES[info.dtype] * info.n_heads * widest,
    )


def run(spec: Attention, ctx: Context) -> Generator[Step[Result], None, None]:
    """Read the layer's patterns on the prompt, then score all heads, batch by batch."""
    import torch

    from interp.methods.attention import look, score_heads

    model, ids = ctx.load(spec.model), ctx.inputs.clean[0]
    info, names = model.info, tokens.answer_names(model.info)
    looked = look(model, torch.tensor(ids), spec.layer, ctx.inputs.read_at(0))
    pattern = looked.pattern.float().numpy()
    first = max(0, len(ids) - MOST_POSITIONS)
    absent = head_scores.why_not(info)
    drawn = None if absent else head_scores.draw(info, ctx.rng)
    window = head_scores.window(info, spec.layer)
    seen = head_scores.visible(len(ids), causal=info.causal, window=window)
    result = Result(
        tokens=tokens.text_of(info, ids)[first:],
        first=first,
        n_tokens=len(ids),
        causal=info.causal,
        window=window,
        layer=spec.layer,
        head=spec.head,
        pattern=pattern[:, first:, first:].copy(),
        looks=head_scores.on_prompt(pattern, ids, seen),
        scores=None if drawn is None else head_scores.none_yet(info, drawn),
        absent=absent,
        outputs=tuple(names[i] for i in looked.logits.topk(min(2, len(names))).indices.tolist()),
    )
    if drawn is None:
        yield Step(1.0, result)
        return
    begun = len(ids) / (len(ids) + 2 * drawn.repeated.size)
    yield Step(begun, result)
    for so_far in score_heads(model, drawn):
        fraction = begun + (1 - begun) * so_far.done / len(so_far.tokens)
        yield Step(fraction, replace(result, scores=so_far))


# --- figures -------------------------------------------------------------------------------------


def figures(result: Result) -> list[NamedFigure]:
    """Draw the head's pattern, all heads of its layer, and the induction score of every head."""
    large = NamedFigure(
        "pattern",
        f"Where {result.name} looks on this prompt",
        "Row: the token that looks (destination, query). Column: the token that it looks at "
        f"(source, key). Colour: attention, 0 to 1; a row sums to 1. {_masked(result)} "
        f"{_cropped(result)}"
        "Click a cell for the top sources of its row and the top destinations of its column.",
        _pattern(result, result.head),
        selectable=True,
    )
    scored = [] if result.scores is None else [_score_map(result.scores)]
    return [large, _heads(result), *scored]


def _masked(result: Result) -> str:
    if not result.causal:
        return "This model sees both ways, so nothing is masked."
    if result.window is None:
        return "Grey: later tokens, which the model cannot see."
    return (
        f"Grey: later tokens and those {result.window} or more positions back, which this layer "
        f"cannot see: it has sliding attention with a window of {result.window}."
    )


def _pattern(result: Result, head: int, *, clicks: bool = True) -> Any:
    return drawn.pattern(
        result.visible(head),
        tokens=result.tokens,
        first=result.first,
        name=f"L{result.layer}H{head}",
        clicks=clicks,
    )


def _outside(result: Result) -> np.ndarray:
    """Attention of the shown head's rows that falls on positions not drawn."""
    return 1 - result.pattern[result.head].sum(-1, dtype=np.float64)


def _cropped(result: Result) -> str:
    if not result.first:
        return ""
    out = _outside(result)
    return (
        f"Of {result.n_tokens} positions the last {len(result.tokens)} are drawn: {out.mean():.2f} "
        f"of the attention of their rows ({out.min():.2f} to {out.max():.2f} by row) falls on the "
        f"{result.first} before, so less than 1 of a row is shown. "
    )


def _heads(result: Result) -> NamedFigure:
    heads, n = result.pattern.shape[:2]
    size = drawn.block_size(heads, n)
    small = np.stack([drawn.in_blocks(result.visible(head), size) for head in range(heads)])
    starts = list(range(0, n, size))
    axis = drawn.labels(result.tokens, result.first)
    if size > 1:
        axis = [f"{axis[i]} to {axis[min(i + size, n) - 1]}" for i in starts]
    pooled = (
        f" Pooled: a cell is the attention of the mean of {size} destinations to {size} sources "
        "together."
        if size > 1
        else ""
    )
    return NamedFigure(
        "heads",
        f"All heads of layer {result.layer}",
        f"The same for each head, in the same colours; {result.name} is framed.{pooled} "
        "Click one for its numbers.",
        drawn.thumbnails(
            small,
            axis=axis,
            hover=[_hover(result.scores, result.layer, head) for head in range(heads)],
            chosen=(result.layer, result.head),
        ),
        selectable=True,
    )


def _score_map(scores: HeadScores) -> NamedFigure:
    values = scores.mean("induction")
    layers, heads = values.shape
    n, size = scores.tokens.shape
    done = f"{n}" if scores.complete else f"{scores.done} of {n}"
    low, high = (f"{u:.2f}" for u in (scores.uniform[-1].min(), scores.uniform[-1].max()))
    even = low if low == high else f"{low} to {high}, by the layer's window"
    figure: Any = heatmap.heatmap(
        values,
        rows=[f"L{i}" for i in range(layers)],
        cols=[f"H{i}" for i in range(heads)],
        titles=("layer", "head", "attention"),
        limits=(0.0, 1.0),
        hover=[[_hover(scores, i, j) for j in range(heads)] for i in range(layers)],
    )
    drawn.thin_labels(figure, most=(16, 6))
    return NamedFigure(
        "scores",
        "Induction score of every head",
        f"Mean attention to the token after the earlier copy, on {done} sequences of "
        f"{scores.length} random tokens and the same again ({size} tokens with specials). Uniform "
        f"attention gives {even}. Hover for the other two scores; click a head "
        "for its numbers.",
        figure,
        selectable=len(figure.data) > 1,
    )


def _hover(scores: HeadScores | None, layer: int, head: int) -> str:
    """Say a head's three scores, induction first."""
    if scores is None or not scores.done:
        return f"L{layer}H{head}" + ("" if scores is None else ": not scored yet")
    said = [scores.said(score, layer, head) for score in reversed(SCORED)]
    return "<br>".join([f"L{layer}H{head}: {said[0]}", *said[1:]])


# --- words ---------------------------------------------------------------------------------------


def verdict(result: Result) -> str:
    """Say where the shown head looks on the prompt, and what it is on random tokens."""
    crop = ""
    if result.first:
        crop = (
            f"The first {result.first} of {result.n_tokens} positions are not drawn; "
            f"{_outside(result).mean():.2f} of the attention of those drawn falls there. "
        )
    return (
        f"{_on_this_prompt(result)} {_on_random_tokens(result)} {crop}"
        "Attention is where a head looks, not what it does; one prompt has no interval."
    )


def _on_this_prompt(result: Result) -> str:
    looks = result.looks
    above = looks.mean[:, result.head] - looks.uniform
    if np.isnan(above).all():
        return f"The prompt is one token: {result.name} has nowhere else to look."
    best = int(np.nanargmax(above))
    if above[best] < FAR:
        given = np.nan_to_num(result.visible(result.head)).mean(0)
        most = int(given.argmax())
        one = (
            f" {given[most]:.2f} of all attention goes to {result.tokens[most]!r} "
            f"({result.first + most})."
        )
        return (
            f"On this prompt {result.name} prefers no place of a known kind "
            f"({', '.join(RELATIONS)}): none gets {FAR} more than uniform attention gives."
            + (one if given[most] >= FAR and not result.first else "")
        )
    rows = looks.rows[best]
    return (
        f"On this prompt {result.name} stands out most from uniform attention at "
        f"{_PLACES[RELATIONS[best]]}: "
        f"{looks.mean[best, result.head]:.2f} of the attention from the {rows} "
        f"position{'s' if rows > 1 else ''} of {result.n_tokens} that can, where uniform attention "
        f"gives {looks.uniform[best]:.2f}."
    )


def _on_random_tokens(result: Result) -> str:
    scores, at = result.scores, (result.layer, result.head)
    if scores is None:
        return f"It has no head scores: {result.absent}."
    if not scores.complete:
        return f"Scores on random tokens: {scores.done} of {len(scores.tokens)} sequences are done."
    above = [float(scores.above_uniform(score)[at]) for score in SCORED]
    best = SCORED[int(np.argmax(above))]
    if max(above) < FAR:
        each = "; ".join(scores.said(score, *at) for score in SCORED)
        return f"On repeated random tokens it is of none of the three types: {each}."
    by_position = scores.mean(best, control=True)[at] > scores.mean(best)[at] / 2
    return f"On repeated random tokens its clearest score is {scores.said(best, *at)}" + (
        ", so it looks there by position more than by token."
        if by_position and best != "previous token"
        else "."
    )


def scores(result: Result) -> Sequence[Score]:
    """Put the shown head's three scores on their scale, once all sequences are computed."""
    if result.scores is None or not result.scores.complete:
        return ()
    return [result.scores.on_scale(score, result.layer, result.head) for score in SCORED]


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say the clicked cell's top sources and destinations, or the clicked head's numbers."""
    dest, src = int(cell["0"]), int(cell["1"])
    if "2" not in cell:
        return _inspect_head(result, dest, src)
    values = np.nan_to_num(result.visible(result.head))
    names = drawn.labels(result.tokens, result.first)
    ends = [f"{result.tokens[i]!r} ({result.first + i})" for i in (dest, src)]
    text = (
        f"{result.name}, from {ends[0]} to {ends[1]}: {values[dest, src]:.3f} of the attention of "
        f"{ends[0]}."
    )
    return text, [
        NamedFigure("sources", f"Where {ends[0]} looks", "", _top(values[dest], names, "source")),
        NamedFigure(
            "destinations",
            f"Who looks at {ends[1]}",
            "",
            _top(values[:, src], names, "destination"),
        ),
    ]


def _top(values: np.ndarray, names: Sequence[str], what: str) -> Any:
    order = np.argsort(-values, kind="stable")[: max(1, min(6, int((values >= 0.001).sum())))]
    return curves.bars([names[int(i)] for i in order], values[order], titles=("attention", what))


def _inspect_head(result: Result, layer: int, head: int) -> tuple[str, list[NamedFigure]]:
    text = _hover(result.scores, layer, head).replace("<br>", "; ") + "."
    if layer != result.layer:
        then = f"Choose layer L{layer} and head H{head} to see where it looks"
        return f"{text} {then}, with another seed to score it on fresh sequences.", []
    title = f"Where L{layer}H{head} looks on this prompt"
    figure = _pattern(result, head, clicks=False)
    return text, [NamedFigure("head", title, "", figure)]


def follow_ups(spec: Attention, result: Result) -> list[FollowUp]:
    """Suggest another head, to patch the heads, and to read the prompt layer by layer."""
    fields = spec.model_dump(mode="json")
    ups = [] if result.scores is None else _other_head(fields, result, result.scores)
    answer, foil = (*result.outputs, "", "")[:2]
    pair = {"clean": spec.prompt, "corrupted": "", "answer": answer, "foil": foil}
    patching = {"kind": "activation_patching", "model": spec.model, "pairs": [pair], "site": "z"}
    lens = {"kind": "logit_lens", "model": spec.model, "prompt": spec.prompt}
    ups.append(FollowUp(f"Patch each head: which make it {answer!r}?", patching))
    ups.append(FollowUp("Read this prompt layer by layer", lens))
    return ups


def _other_head(fields: dict[str, Any], result: Result, scores: HeadScores) -> list[FollowUp]:
    """Suggest the clearest induction head, or else previous-token head, unless it is shown.

    The next seed: what chose a head must not score it.
    """
    fresh = (int(fields["seed"]) + 1) % 2**31
    for score in ("induction", "previous token"):
        above = scores.above_uniform(score)
        layer, head = (int(i) for i in np.unravel_index(int(above.argmax()), above.shape))
        if above.max() >= FAR and (layer, head) != (result.layer, result.head):
            label = f"Show L{layer}H{head}, highest {score} score; score it on fresh sequences"
            return [FollowUp(label, {**fields, "layer": layer, "head": head, "seed": fresh})]
    return []


def question(spec: Attention) -> str:
    """Restate the question in plain words; of a long prompt only its beginning."""
    prompt = spec.prompt if len(spec.prompt) <= 80 else spec.prompt[:79] + "…"
    return (
        f"Where does L{spec.layer}H{spec.head} of {spec.model} look on {prompt!r}, and is it a "
        "previous-token, duplicate-token or induction head?"
    )


ANALYSIS = Analysis(
    kind="attention",
    page=("Look", "Attention"),
    rank=2,
    about="Where does each head look, and which heads are previous-token, duplicate-token or "
    "induction heads?",
    spec=Attention,
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
    example=Attention(layer=1),
    cites=(
        Cite(
            "Olsson et al. (2022), In-context learning and induction heads",
            "@article{olsson2022induction,\n  author = {Olsson, Catherine and others},\n"
            "  title = {In-context Learning and Induction Heads},\n"
            "  journal = {Transformer Circuits Thread},\n  year = {2022}\n}",
        ),
        Cite(
            "Jain & Wallace (2019), Attention is not explanation",
            "@inproceedings{jain2019attention,\n  author = {Jain, Sarthak and Wallace, Byron C.},\n"
            "  title = {Attention is not Explanation},\n  booktitle = {NAACL},\n"
            "  year = {2019}\n}",
        ),
    ),
)
