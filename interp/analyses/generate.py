"""Generate: what does the model write after this prompt?"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from interp.analyses._fields import ModelName, Number, Prompt, Seed, Whole
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Spec, Step
from interp.axes import PerSample, SampleStep, SampleStepIds, SampleStepTop
from interp.behaviors import Behavior, from_prompt
from interp.errors import InterpError, PromptTooLong
from interp.figures import curves, theme
from interp.figures.named import NamedFigure
from interp.figures.tokens import token_rows
from interp.models import catalogue, tokens
from interp.models.info import BYTES, ModelInfo

if TYPE_CHECKING:
    from interp.methods.sampling import Drawn

TOP = 5
BATCH = 6
"""Continuations that are written side by side, the greedy one and five samples at first."""
GREEDY = "greedy"
_MOST_LINES = 5
_LONGEST_QUOTE = 100
_GREEDY = {"n_samples": 1, "top_k": 0, "top_p": 1.0, "seed": 0, "temperature": 0.0}


class Generate(Spec):
    """Continue a prompt, greedily and by sampling."""

    kind: Literal["generate"] = "generate"
    model: ModelName = Field(default="induction-handmade", description="The model asked.")
    prompt: Prompt = Field(default="abcdeab", description="The prompt, as text.")
    n_tokens: Whole = Field(
        default=20, ge=1, le=200, title="Tokens", description="How many tokens each sample gets."
    )
    n_samples: Whole = Field(
        default=3, ge=1, le=20, title="Samples", description="How many samples are drawn."
    )
    temperature: Number = Field(
        default=1.0,
        ge=0,
        le=5,
        description="Logits are divided by it: 1 is the model's own distribution, below 1 is "
        "sharper, 0 always takes the most probable output.",
    )
    top_k: Whole = Field(
        default=0,
        ge=0,
        le=1_000_000,
        title="Top-k",
        description="Draw from the so many most probable outputs; 0 is from all.",
    )
    top_p: Number = Field(
        default=1.0,
        ge=0,
        le=1,
        title="Top-p",
        description="Draw from the fewest outputs that hold this probability; 1 is from all.",
    )
    seed: Seed = Field(default=0, description="Seed of the draws.")

    @model_validator(mode="before")
    @classmethod
    def _greedy(cls, fields: Any) -> Any:
        """Drop what is ignored without draws, so that one question has one spec and one key."""
        if not isinstance(fields, dict):
            return fields
        with suppress(TypeError, ValueError):  # what is no number, the field's own check says
            if float(fields.get("temperature", 1.0)) == 0:
                return fields | _GREEDY
        return fields


@dataclass(frozen=True)
class Result:
    """Continuations: the greedy one first, then the samples (none at temperature 0).

    All numbers are the model's own: of temperature 1, with no output cut off. They are NaN where
    nothing is written.

    Attributes:
        prompt: Text of each token of the prompt.
        n_outputs: Number of outputs of the model.
        n_ctx: Number of positions of the model.
        n_asked: Tokens asked of each continuation.
        temperature: As asked; so the next three.
        names: Name of each continuation, as ``texts`` has the text of each.
        tokens: Text of each token written.
        ends: Why each ended: "asked" (it has all its tokens), "context" (the model has no more
            positions), "special" (its last token is one), or "" (it goes on).
        ids: Tokens written, -1 where there is none.
        logprob_nats: Log-probability of each token written.
        entropy_nats: Entropy of the distribution that it was chosen from.
        rank: Rank of each token written, 1 = most probable alone; ties count against it.
        alternatives: The most probable outputs at each token written, most probable first.
        alternatives_p: Their probabilities.
        surprise_nats: Mean of −log p over the tokens of each continuation.
    """

    prompt: tuple[str, ...]
    n_outputs: int
    n_ctx: int
    n_asked: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    names: tuple[str, ...]
    texts: tuple[str, ...]
    tokens: tuple[tuple[str, ...], ...]
    ends: tuple[str, ...]
    ids: SampleStepIds
    logprob_nats: SampleStep
    entropy_nats: SampleStep
    rank: SampleStep
    alternatives: tuple[tuple[tuple[str, ...], ...], ...]
    alternatives_p: SampleStepTop
    surprise_nats: PerSample

    @property
    def uniform_nats(self) -> float:
        """Surprise of a uniform guess: the scale of the others."""
        return math.log(self.n_outputs)


def needs(model: ModelInfo) -> str | None:
    """Say why a model cannot write."""
    if _writes(model):
        return None
    able = [name for name in catalogue.names() if _writes(catalogue.info(name))]
    lacking = (
        "It answers with classes, not with the next token."
        if model.answers.space == "classes"
        else "Its positions see those behind them, so it was not made to predict the next token."
    )
    named = f", such as {', '.join(able[:3])}" if able else ""
    return f"{lacking} Choose a causal model of tokens{named}."


def _writes(model: ModelInfo) -> bool:
    return model.answers.space == "tokens" and model.causal


def inputs(spec: Generate) -> Behavior:
    """Check the prompt; a place must be left to write in."""
    behavior = from_prompt(spec.model, spec.prompt)
    n, n_ctx = behavior.lengths[0], catalogue.info(spec.model).n_ctx
    if n >= n_ctx:
        raise PromptTooLong(
            f"The prompt has {n} tokens.",
            f"{spec.model} has {n_ctx} positions, so none is left to write in.",
            "Shorten it by 1 or more.",
        )
    return behavior


def _shape(spec: Generate, behavior: Behavior) -> tuple[int, int]:
    """Return how many samples are drawn, and of how many tokens."""
    left = catalogue.info(spec.model).n_ctx - behavior.lengths[0]
    return spec.n_samples if spec.temperature > 0 else 0, min(spec.n_tokens, left)


def cost(spec: Generate, behavior: Behavior) -> Cost:
    """A pass over the prompt and one a token for each batch, with its keys and values."""
    model, n = catalogue.info(spec.model), behavior.lengths[0]
    samples, steps = _shape(spec, behavior)
    batches = math.ceil((1 + samples) / BATCH)
    kept = 2 * model.n_layers * (model.n_key_value_heads or model.n_heads) * model.d_head
    return Cost(
        tokens=batches * (n + BATCH * steps),
        passes=batches * steps,
        bytes=BATCH * ((n + steps) * kept * BYTES[model.dtype] + 8 * 4 * model.d_out),
    )


def run(spec: Generate, ctx: Context) -> Generator[Step[Result], None, None]:
    """Write token by token; a later attempt goes on behind what is written."""
    import torch

    from interp.methods.sampling import Drawn, Rule, continuations, text_behind, uniforms

    model, prompt = ctx.load(spec.model), ctx.inputs.clean[0]
    for drawn in continuations(
        model,
        torch.tensor(prompt),
        Rule(spec.temperature, spec.top_k, spec.top_p),
        uniforms(ctx.rng, *_shape(spec, ctx.inputs)),
        batch=BATCH,
        top=TOP,
        ends=tokens.special_ids(model.info),
        done=None if ctx.checkpoint is None else Drawn(**ctx.checkpoint),
    ):
        ctx.save_checkpoint(vars(drawn).copy())
        texts = tuple(text_behind(model.info, prompt, ids) for ids in drawn.written)
        result = _result(spec, model.info, drawn, prompt=prompt, texts=texts)
        yield Step(drawn.fraction, result)


def _result(
    spec: Generate,
    model: ModelInfo,
    drawn: Drawn,
    *,
    prompt: tuple[int, ...],
    texts: tuple[str, ...],
) -> Result:
    written = drawn.written
    special, text = tokens.special_ids(model), tokens.vocabulary_of(model).text
    full = "asked" if drawn.ids.shape[1] == spec.n_tokens else "context"
    return Result(
        prompt=tokens.text_of(model, prompt),
        n_outputs=model.d_out,
        n_ctx=model.n_ctx,
        n_asked=spec.n_tokens,
        temperature=spec.temperature,
        top_k=spec.top_k,
        top_p=spec.top_p,
        seed=spec.seed,
        names=(GREEDY, *(f"sample {i}" for i in range(1, len(texts)))),
        texts=texts,
        tokens=tuple(tokens.text_of(model, ids) for ids in written),
        ends=tuple(
            "" if not over else "special" if ids[-1] in special else full
            for ids, over in zip(written, drawn.over.tolist(), strict=True)
        ),
        ids=drawn.ids,
        logprob_nats=drawn.logprob_nats,
        entropy_nats=drawn.entropy_nats,
        rank=drawn.rank,
        alternatives=tuple(
            tuple(tuple(map(text, ids)) for ids in row[: len(done)])
            for row, done in zip(drawn.top.tolist(), written, strict=True)
        ),
        alternatives_p=drawn.top_p,
        surprise_nats=_mean(-drawn.logprob_nats, axis=1),
    )


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Average what is there; NaN where there is nothing."""
    there = np.isfinite(values).sum(axis)
    total = np.nansum(values, axis)
    return np.where(there > 0, total / np.maximum(there, 1), np.nan)


# --- reading it ----------------------------------------------------------------------------------


def figures(result: Result) -> list[NamedFigure]:
    """Draw what was written, and how surprising it was."""
    return [_samples(result), _surprise(result)]


def _order(result: Result) -> list[int]:
    """List the continuations as rows from below: the greedy one, then the last sample first."""
    return [0, *range(len(result.names) - 1, 0, -1)]


def _samples(result: Result) -> NamedFigure:
    order, steps = _order(result), range(result.ids.shape[1])
    figure = token_rows(
        -result.logprob_nats[order],
        rows=[result.names[i] for i in order],
        texts=[result.tokens[i] for i in order],
        first=len(result.prompt),
        titles=("continuation", "surprise (nats)"),
        most=result.uniform_nats,
        hover=[[_hover(result, i, step) for step in steps] for i in order],
    )
    return NamedFigure(
        "samples",
        "What it writes, token by token",
        f"Colour: surprise −log p of the token under the model's own distribution; the full "
        f"colour is a uniform guess among {result.n_outputs} outputs, {result.uniform_nats:.2f} "
        f"nats. {GREEDY.capitalize()}: always the most probable output.{_cut(result)}",
        figure,
        selectable=True,
        texts=tuple((_label(result, i), result.texts[i]) for i in order[::-1] if result.texts[i]),
    )


def _hover(result: Result, row: int, step: int) -> str:
    place = f"{result.names[row]}, position {len(result.prompt) + step}"
    if step >= len(result.tokens[row]):
        return place
    logp = float(result.logprob_nats[row, step])
    most = ", ".join(
        f"{theme.label(name, 16)} {p:.3f}"
        for name, p in zip(
            result.alternatives[row][step][:3], result.alternatives_p[row, step], strict=False
        )
    )
    return (
        f"{place}: {theme.label(result.tokens[row][step], 30)}<br>"
        f"probability {math.exp(logp):.3g}, surprise {-logp:.2f} nats, "
        f"rank {int(result.rank[row, step])}<br>most probable: {most}"
    )


def _label(result: Result, row: int) -> str:
    n = len(result.tokens[row])
    ended = {
        "special": f"; ended by {result.tokens[row][-1]}" if n else "",
        "context": f"; ended at the model's {result.n_ctx} positions",
    }
    return (
        f"{result.names[row]}: {_count(n, 'token')}, {result.surprise_nats[row]:#.3g} nats a token"
        + ended.get(result.ends[row], "")
    )


def _cut(result: Result) -> str:
    steps = result.ids.shape[1]
    said = f" Of {result.n_asked} tokens asked {steps} fit behind the prompt: the model has "
    return "" if steps == result.n_asked else f"{said}{result.n_ctx} positions."


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _surprise(result: Result) -> NamedFigure:
    rows = [*range(1, len(result.names))] or [0]
    surprise, entropy = -result.logprob_nats[rows], result.entropy_nats[rows]
    series = (
        {result.names[row]: of_row for row, of_row in zip(rows, surprise, strict=True)}
        if len(rows) < _MOST_LINES
        else {f"surprise, mean of {len(rows)} samples": _mean(surprise, axis=0)}
    )
    series["entropy, mean" if len(rows) > 1 else "entropy"] = _mean(entropy, axis=0)
    return NamedFigure(
        "surprise",
        "How surprising each token was",
        "Draws from the model's own distribution are as surprising as its entropy, on average. "
        "A lower temperature or a cut makes them less so, a higher temperature more.",
        _lines(result, series),
    )


def _lines(result: Result, series: dict[str, np.ndarray]) -> Any:
    highest = max([result.uniform_nats, *(float(np.nanmax(y, initial=0)) for y in series.values())])
    return curves.lines(
        [float(len(result.prompt) + step) for step in range(result.ids.shape[1])],
        series,
        titles=("position", "nats"),
        level=("uniform guess", result.uniform_nats),
        y_range=(-0.03 * highest, 1.06 * highest),
    )


def verdict(result: Result) -> str:
    """Quote the first sample and say how sure the model was, against a uniform guess."""
    first = 1 if len(result.names) > 1 else 0
    if not result.tokens[first]:
        return "Nothing is written yet."
    scale = f"a uniform guess among {result.n_outputs} outputs has {result.uniform_nats:.2f}"
    greedy = f"{result.surprise_nats[0]:#.3g}"
    cut = "" if result.ends[first] != "context" else f", to the last of {result.n_ctx} positions"
    if not first:
        return (
            f"Greedily it writes {_quoted(result.texts[0])}{cut}: {greedy} nats of surprise a "
            f"token, where {scale}; nothing is drawn, equal outputs go to the lowest id."
        )
    mean = float(_mean(-result.logprob_nats[1:].ravel(), axis=0))
    rule = f"temperature {result.temperature:g}{_cuts(result.top_k, result.top_p)}"
    n = len(result.names) - 1
    return (
        f"Sample 1 is {_quoted(result.texts[1])}{cut}; the {_count(n, 'draw')} at {rule}, seed "
        f"{result.seed}, {'has' if n == 1 else 'have'} {mean:#.3g} nats of surprise a token, where "
        f"{scale} and the greedy continuation {greedy}; another seed draws other texts."
    )


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…")


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say what else could have been written at the clicked cell."""
    row, step = _order(result)[int(cell["0"])], int(cell["1"])
    name, place = result.names[row], len(result.prompt) + step
    if step >= len(result.tokens[row]):
        return None
    token, p = result.tokens[row][step], math.exp(float(result.logprob_nats[row, step]))
    rank = int(result.rank[row, step])
    names = [theme.label(other, 24) for other in result.alternatives[row][step]]
    values = result.alternatives_p[row, step]
    if token not in result.alternatives[row][step]:
        names, values = [*names, f"{theme.label(token, 24)} (rank {rank})"], np.append(values, p)
    text = (
        f"{name}, position {place}: {token!r} with probability {p:.3g}, rank {rank}; entropy "
        f"{result.entropy_nats[row, step]:.2f} nats, {name} so far "
        f"{-result.logprob_nats[row, : step + 1].mean():#.3g} nats a token."
    )
    series = {"surprise": -result.logprob_nats[row], "entropy": result.entropy_nats[row]}
    return text, [
        NamedFigure(
            "alternatives",
            f"What could stand at position {place} of {name}",
            "Probabilities of the model's own distribution.",
            curves.bars(names, values, titles=("probability", "output")),
        ),
        NamedFigure("surprise-of", f"Surprise of {name}", "", _lines(result, series)),
    ]


def follow_ups(spec: Generate, result: Result) -> list[FollowUp]:
    """Suggest to look inside where the first sample surprises most, and to draw again."""
    fields, seed = spec.model_dump(mode="json"), (spec.seed + 1) % 2**31
    if spec.temperature > 0:
        again = FollowUp(f"Draw again with seed {seed}", {**fields, "seed": seed})
    else:
        drawn = {**fields, "temperature": 1.0, "n_samples": 3}
        again = FollowUp("Draw 3 samples at temperature 1", drawn)
    return [_look_inside(spec, result), again]


def _look_inside(spec: Generate, result: Result) -> FollowUp:
    """Ask the lens about the text up to the most surprising token, if it is read as written."""
    lens = {"kind": "logit_lens", "model": spec.model}
    row = min(1, len(result.names) - 1)
    if result.tokens[row]:
        step = int(np.nanargmin(result.logprob_nats[row]))
        before, token = result.tokens[row][:step], result.tokens[row][step]
        prompt = spec.prompt + "".join(before)
        try:
            model = catalogue.info(spec.model)
            read = tokens.encode(model, prompt).texts == (*result.prompt, *before)
            if read and tokens.answer_id(model, token) == result.ids[row, step]:
                return FollowUp(
                    f"Look inside before {token!r}, the most surprising token of "
                    + ("sample 1" if row else "the greedy text"),
                    {**lens, "prompt": prompt, "answer": token},
                )
        except InterpError:
            pass  # a token that nobody can type: the prompt itself can be looked at
    return FollowUp("Look inside at the prompt's end", {**lens, "prompt": spec.prompt})


def _cuts(top_k: int, top_p: float) -> str:
    return (f", top-k {top_k}" if top_k else "") + (f", top-p {top_p:g}" if top_p < 1 else "")


ANALYSIS = Analysis(
    kind="generate",
    page=("Look", "Generate"),
    rank=4,
    about="What does the model write after this prompt?",
    spec=Generate,
    result=Result,
    question=lambda s: (
        f"What does {s.model} write after {s.prompt!r}: "
        + (
            f"{_count(s.n_samples, 'sample')} of {_count(s.n_tokens, 'token')} at temperature "
            f"{s.temperature:g}{_cuts(s.top_k, s.top_p)}, seed {s.seed}"
            if s.temperature > 0
            else f"{_count(s.n_tokens, 'token')}, always the most probable one"
        )
        + "?"
    ),
    inputs=inputs,
    cost=cost,
    run=run,
    figures=figures,
    verdict=verdict,
    scores=lambda _: (),
    inspect=inspect,
    follow_ups=follow_ups,
    example=Generate(),
    cites=(
        Cite(
            "Holtzman et al. (2020), The curious case of neural text degeneration",
            "@inproceedings{holtzman2020curious,\n  author = {Holtzman, Ari and others},\n"
            "  title = {The Curious Case of Neural Text Degeneration},\n"
            "  booktitle = {ICLR},\n  year = {2020}\n}",
        ),
        Cite(
            "Fan, Lewis & Dauphin (2018), Hierarchical neural story generation",
            "@inproceedings{fan2018hierarchical,\n"
            "  author = {Fan, Angela and Lewis, Mike and Dauphin, Yann},\n"
            "  title = {Hierarchical Neural Story Generation},\n"
            "  booktitle = {ACL},\n  year = {2018}\n}",
        ),
    ),
    needs=needs,
)
