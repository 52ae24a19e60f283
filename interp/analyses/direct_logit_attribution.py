"""Direct logit attribution: why A and not B, component by component."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from interp.analyses._fields import Answer, ModelName, Prompt, Seed
from interp.analyses._record import Analysis, Cite, Context, Cost, FollowUp, Spec, Step
from interp.axes import Grid, LayerHead, PerDepth, PerLayer, SplitHeads, SplitSrc
from interp.behaviors import Behavior, from_prompt
from interp.errors import BadInput
from interp.figures import attribution, curves, theme
from interp.figures.attribution import Bar, signed
from interp.figures.named import NamedFigure
from interp.models import catalogue, tokens

BARS, SOURCES = 20, 30
"""Bars of components and of source positions that are drawn one by one."""
COMPLETE = 1e-3
"""What may be missing from the sum, in standard deviations of the logits."""
TIE = 1e-6
"""Logits closer than this, in the same unit, count as equal."""
OTHERS, LEFT = (-2, 0), (-2, 1)
"""Places of all others together and of what is not accounted for. Those of the others are layer
and column of the map, or -1 and a number for what belongs to no layer."""


class DirectLogitAttribution(Spec):
    """Split the difference of two logits into what each component writes towards it."""

    kind: Literal["direct_logit_attribution"] = "direct_logit_attribution"
    model: ModelName = Field(default="induction-handmade", description="The model asked.")
    prompt: Prompt = Field(default="kmabcda", description="The prompt, as text.")
    answer: Answer = Field(
        default="", description="A; empty: the model's most probable output that is not the foil."
    )
    foil: Answer = Field(
        default="", description="B; empty: the model's most probable output that is not the answer."
    )
    seed: Seed = Field(default=0, description="Not used: nothing here is random.")


@dataclass(frozen=True)
class Result:
    """Terms of logit(answer) − logit(foil) before the soft cap, in logits.

    Attributes:
        tokens: Text of each position.
        read: The position whose output is the model's answer.
        answer: A.
        foil: B.
        answer_tied: Outputs that tie with A where it was not asked for by name.
        foil_tied: Likewise for B.
        n_heads: Heads a layer.
        heads: Each head, without its layer's output bias.
        attn_bias: Each layer's attention output bias.
        mlp: Each MLP; None in a model without.
        embed: Token embedding at the position read.
        pos_embed: Positional embedding there; None where none is added.
        norm_bias: Bias of the final norm.
        unembed_bias: Bias of the unembedding.
        accumulated: The difference after the embedding and after each layer, with the final
            scale; the two biases at the end are in it from the start.
        split: Layer and head of each row of ``by_source``: all heads, or the largest of many.
        by_source: Terms of these heads by source position.
        logit_answer: Logit of A before the soft cap.
        logit_foil: Logit of B before the soft cap.
        softcap: Scale of the tanh on the logits, 0 for none.
        capped_answer: Logit of A after it.
        capped_foil: Logit of B after it.
        spread: Standard deviation of the logits at the position read, before the cap.
        dtype: Precision that the model ran in.
    """

    tokens: tuple[str, ...]
    read: int
    answer: str
    foil: str
    answer_tied: int
    foil_tied: int
    n_heads: int
    heads: LayerHead
    attn_bias: PerLayer
    mlp: PerLayer | None
    embed: float
    pos_embed: float | None
    norm_bias: float
    unembed_bias: float
    accumulated: PerDepth
    split: SplitHeads
    by_source: SplitSrc
    logit_answer: float
    logit_foil: float
    softcap: float
    capped_answer: float
    capped_foil: float
    spread: float
    dtype: str

    @property
    def difference(self) -> float:
        """logit(answer) − logit(foil) of the model itself, before the soft cap."""
        return self.logit_answer - self.logit_foil

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return float(self.accumulated[-1])

    @property
    def unaccounted(self) -> float:
        """What the parts miss of the difference: rounding, or a fault."""
        return self.difference - self.total

    @property
    def complete(self) -> bool:
        """Whether the parts add up to the difference but for rounding of float32."""
        return abs(self.unaccounted) <= COMPLETE * self.spread

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the map: heads, then the output bias and the MLP where there are any."""
        more = (["bias"] if self.attn_bias.any() else []) + ([] if self.mlp is None else ["MLP"])
        return (*(f"H{i}" for i in range(self.n_heads)), *more)

    @property
    def grid(self) -> Grid:
        """Terms by layer and column of the map."""
        parts = [self.heads]
        parts += [self.attn_bias[:, None]] if self.attn_bias.any() else []
        parts += [] if self.mlp is None else [self.mlp[:, None]]
        return np.concatenate(parts, axis=1)

    def sources(self, layer: int, head: int) -> np.ndarray | None:
        """Return a head's terms by source position, or None where they were not kept."""
        row = np.flatnonzero((self.split == (layer, head)).all(axis=1))
        return self.by_source[row[0]] if len(row) else None


def parts(result: Result) -> list[Bar]:
    """List every term of the sum: those of no layer, then layer by layer."""
    loose = [("token embedding", result.embed), ("positional embedding", result.pos_embed)]
    # A bias that a model does not have is 0 and would only be a line too many.
    loose += [("final norm bias", result.norm_bias or None)]
    loose += [("unembedding bias", result.unembed_bias or None)]
    listed = [
        Bar(name, value, (-1, i)) for i, (name, value) in enumerate(loose) if value is not None
    ]
    words = {"bias": " attention bias", "MLP": " MLP"}
    for (layer, col), value in np.ndenumerate(result.grid):
        name = words.get(result.columns[col], result.columns[col])
        listed.append(Bar(f"L{layer}{name}", float(value), (layer, col)))
    return listed


def inputs(spec: DirectLogitAttribution) -> Behavior:
    """Check the prompt, the answer and the foil."""
    behavior = from_prompt(spec.model, spec.prompt, spec.answer)
    if not spec.foil:
        return behavior
    foil = tokens.answer_id(catalogue.info(spec.model), spec.foil)
    if foil in behavior.answers:
        raise BadInput(
            f"Answer and foil are both {spec.answer!r}.", "", "Choose two different outputs."
        )
    return replace(behavior, foils=(foil,))


def cost(spec: DirectLogitAttribution, behavior: Behavior) -> Cost:
    """One pass; values and attention of every layer are kept, and one output matrix at a time."""
    model, n = catalogue.info(spec.model), behavior.lengths[0]
    width = model.n_heads * model.d_head
    kept = model.n_layers * n * (width + 3 * model.n_heads)
    return Cost(tokens=n, passes=1, bytes=8 * (kept + width * model.d_model + 2 * model.d_out))


def run(spec: DirectLogitAttribution, ctx: Context) -> Generator[Step[Result], None, None]:
    """Attribute in one step."""
    import torch

    from interp.methods.attribution import attribute

    model = ctx.load(spec.model)
    ids, read = ctx.inputs.clean[0], ctx.inputs.read_at(0)
    asked = [named[0] if named else None for named in (ctx.inputs.answers, ctx.inputs.foils)]
    found = attribute(model, torch.tensor(ids), read, (asked[0], asked[1]))
    names, logits, spread = tokens.answer_names(model.info), found.logits, float(found.logits.std())
    pair = (found.answer, found.foil)
    ties = [int((np.abs(logits - logits[i]) <= TIE * spread).sum()) - 1 for i in pair]
    layers = found.heads.sum(1) + found.attn_bias + (0 if found.mlp is None else found.mlp)
    start = found.embed + (found.pos_embed or 0.0) + found.norm_bias + found.unembed_bias
    yield Step(
        1.0,
        Result(
            tokens=tokens.text_of(model.info, ids),
            read=read,
            answer=names[found.answer],
            foil=names[found.foil],
            answer_tied=ties[0] if asked[0] is None else 0,
            foil_tied=ties[1] if asked[1] is None else 0,
            n_heads=model.info.n_heads,
            heads=found.heads,
            attn_bias=found.attn_bias,
            mlp=found.mlp,
            embed=found.embed,
            pos_embed=found.pos_embed,
            norm_bias=found.norm_bias,
            unembed_bias=found.unembed_bias,
            accumulated=np.cumsum([start, *layers]),
            split=found.split,
            by_source=found.by_source.astype(np.float32),
            logit_answer=float(logits[found.answer]),
            logit_foil=float(logits[found.foil]),
            softcap=found.softcap,
            capped_answer=float(found.capped[found.answer]),
            capped_foil=float(found.capped[found.foil]),
            spread=spread,
            dtype=str(model.dtype).removeprefix("torch."),
        ),
    )


def _cut(text: str) -> str:
    """Quote an output; long ones are cut."""
    return repr(text if len(text) <= 30 else text[:29] + "…")


def figures(result: Result) -> list[NamedFigure]:
    """Draw the sorted parts, the map of layers and heads, and the sum as it grows."""
    pair = f"{_cut(result.answer)} − {_cut(result.foil)}"
    towards = f"Red: towards {_cut(result.answer)}; blue: towards {_cut(result.foil)}."
    where = f"at position {result.read} ({_cut(result.tokens[result.read])})"
    rows = [f"L{i}" for i in range(len(result.heads))]
    cells = result.grid
    hover = [
        [
            f"L{i}{'' if c[0] == 'H' else ' '}{c}: {cells[i, j]:.4g}"
            for j, c in enumerate(result.columns)
        ]
        for i in range(len(rows))
    ]
    beside = [name for name in result.columns if name in ("bias", "MLP")]
    also = f" Beside the heads: {' and '.join(beside)} of each layer." if beside else ""
    return [
        NamedFigure(
            "components",
            f"Direct contributions to {pair}" + ("" if result.complete else " (not complete)"),
            f"What each component writes {where}, read by the unembedding. {towards} All bars add "
            f"up to {signed(result.difference)} logits; the last one is what they would miss.",
            _bars(result),
            selectable=True,
        ),
        NamedFigure(
            "heads",
            "By layer and head",
            f"The same numbers as a map. {towards}{also}",
            attribution.signed_map(
                cells, rows=rows, cols=result.columns, title="logits", hover=hover
            ),
            selectable=True,
        ),
        NamedFigure(
            "accumulated",
            f"{pair}, summed up to each layer",
            "Accumulated, final scale: the parts so far, with the final norm's scale as it is at "
            "the end and the biases at the end in it from the start.",
            curves.lines(
                ["embed", *rows],
                {"accumulated, final scale": result.accumulated},
                titles=("after", "logit difference (logits)"),
                level=("both alike", 0.0),
            ),
        ),
    ]


def _bars(result: Result) -> Any:
    listed = parts(result)
    order = sorted(range(len(listed)), key=lambda i: -abs(listed[i].value))[:BARS]
    left = f"{result.unaccounted:.0e}" if result.unaccounted else "0"
    shown = [
        *attribution.lumped(listed, order, OTHERS),
        Bar("not accounted for", result.unaccounted, LEFT, left),
    ]
    return attribution.signed_bars(shown, titles=("logits", "component"))


def verdict(result: Result) -> str:
    """Say the difference, who writes most of it, and what this does not show."""
    said = [_lead(result), _writers(result), _constant(result)]
    if result.softcap:
        after = result.capped_answer - result.capped_foil
        said.append(
            f"The model caps its logits at ±{result.softcap:g}: all parts are before the cap; "
            f"after it the difference is {signed(after)}."
        )
    if not result.complete:
        low = result.dtype not in ("float32", "float64")
        why = f": the rounding of {result.dtype}, which float32 avoids" if low else ""
        said.append(f"Not complete: {result.unaccounted:+.2g} logits are in no part{why}.")
    said.append(
        "One prompt, so no interval; direct effects only: what a head does through later "
        "components is in their bars, not in its own."
    )
    return " ".join(said)


def _lead(result: Result) -> str:
    a, b = _cut(result.answer), _cut(result.foil)
    size = abs(result.difference)
    if size <= TIE * result.spread:
        text = f"The model gives {a} and {b} the same logit."
    else:
        word = "more" if result.difference > 0 else "less"
        cap = " before its cap" if result.softcap else ""
        text = f"The model gives {a} {size:.2f} logits {word} than {b}{cap}."
    for name, tied in ((a, result.answer_tied), (b, result.foil_tied)):
        if tied:
            others = "another output" if tied == 1 else f"{tied} other outputs"
            text += f" {name} was not asked for and ties with {others}: name one instead."
    return text


def _writers(result: Result) -> str:
    listed = sorted(parts(result), key=lambda part: -abs(part.value))
    least = 0.05 * abs(listed[0].value)
    sides: list[str] = []
    for name, sign in ((result.answer, 1), (result.foil, -1)):
        large = [p for p in listed if p.value * sign > least][:3]
        said = ", ".join(f"{p.name} {signed(p.value)}" for p in large)
        sides.append(f"towards {_cut(name)}: {said or 'nothing of size'}")
    return f"Largest parts {'; '.join(sides)}."


def _constant(result: Result) -> str:
    fixed = result.embed + (result.pos_embed or 0.0) + float(result.attn_bias.sum())
    fixed += result.norm_bias + result.unembed_bias
    gross = sum(abs(part.value) for part in parts(result))
    if gross <= TIE * result.spread:
        return "Every part is 0."
    text = f"Embeddings and biases give {signed(fixed)} of the {signed(result.difference)}"
    if abs(result.difference) <= 0.1 * gross:
        return f"{text}; the parts nearly cancel, their sizes add up to {gross:.2f}."
    share = fixed / result.difference
    # A share below none or above all of it is no share.
    return f"{text} ({_percent(share)})." if 0 <= share <= 1 else f"{text}."


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("-0%", "0%").replace("%", " %")


def inspect(result: Result, cell: dict[str, Any]) -> tuple[str, list[NamedFigure]] | None:
    """Say the clicked part's number; split a head by the positions that it read from."""
    row, col = int(cell["0"]), int(cell["1"])
    if (row, col) == LEFT:
        return (
            f"The parts miss {result.unaccounted:.2g} logits of the difference: "
            "rounding where it is tiny, a fault of the split where it is not.",
            [],
        )
    if (row, col) == OTHERS:
        return (
            "Each is smaller than those above. The map shows heads, biases and MLPs one by one.",
            [],
        )
    part = next(part for part in parts(result) if part.place == (row, col))
    text = f"{part.name} writes {signed(part.value)} logits"
    if abs(part.value) >= 0.005:
        text += f", towards {_cut(result.answer if part.value > 0 else result.foil)}"
    text += "."
    if row < 0 or col >= result.n_heads:
        return text, []
    sources = result.sources(row, col)
    if sources is None:
        return f"{text} Only the {len(result.split)} largest heads are split by source.", []
    at = int(np.argmax(np.abs(sources)))
    if abs(sources[at]) >= 0.005:
        text += (
            f" The largest term is read from position {at} ({_cut(result.tokens[at])}): "
            f"{signed(float(sources[at]))}."
        )
    figure = NamedFigure(
        "sources",
        f"{part.name} by source position",
        "What it moves from each position, with its attention held fixed. The bars add up to "
        f"{signed(float(sources.sum()))} logits.",
        _source_bars(result, sources),
    )
    return text, [figure]


def _source_bars(result: Result, sources: Any) -> Any:
    bars = [Bar(f"{i}: {theme.label(t)}", float(sources[i])) for i, t in enumerate(result.tokens)]
    largest = np.sort(np.argsort(-np.abs(sources), kind="stable")[:SOURCES])
    shown = attribution.lumped(bars, largest.tolist())
    return attribution.signed_bars(shown, titles=("logits", "source position"))


def follow_ups(spec: DirectLogitAttribution, result: Result) -> list[FollowUp]:
    """Suggest to test it by patching, to look at the largest head, and to read the layers."""
    same = {"model": spec.model, "prompt": spec.prompt}
    pair = {
        "clean": spec.prompt,
        "corrupted": "",
        "answer": result.answer,
        "foil": result.foil,
    }
    layer, head = divmod(int(np.argmax(np.abs(result.heads))), result.n_heads)
    return [
        FollowUp(
            "Patch to test what matters",
            {"kind": "activation_patching", "model": spec.model, "pairs": [pair]},
        ),
        FollowUp(
            f"Where does L{layer}H{head} look?",
            {"kind": "attention", **same, "layer": layer, "head": head},
        ),
        FollowUp(
            f"Read {_cut(result.answer)} layer by layer",
            {"kind": "logit_lens", **same, "answer": result.answer},
        ),
    ]


def question(spec: DirectLogitAttribution) -> str:
    """Restate the question in plain words; outputs that were left open are named as such."""
    a, b = (_cut(text) if text else "" for text in (spec.answer, spec.foil))
    other = "its most probable other output"
    over = f"{a or (other if b else 'its most probable output')} over {b or other}"
    return f"Which components of {spec.model} write directly towards {over} on {spec.prompt!r}?"


ANALYSIS = Analysis(
    kind="direct_logit_attribution",
    page=("Look", "Why A, not B"),
    rank=3,
    about="How much does each component write directly towards one output over another?",
    spec=DirectLogitAttribution,
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
    example=DirectLogitAttribution(answer="b", foil="d"),
    cites=(
        Cite(
            "Elhage et al. (2021), A mathematical framework for transformer circuits",
            "@article{elhage2021mathematical,\n  author = {Elhage, Nelson and others},\n"
            "  title = {A Mathematical Framework for Transformer Circuits},\n"
            "  journal = {Transformer Circuits Thread},\n  year = {2021}\n}",
        ),
        Cite(
            "Wang et al. (2023), Interpretability in the wild",
            "@inproceedings{wang2023ioi,\n  author = {Wang, Kevin and others},\n"
            "  title = {Interpretability in the Wild: a Circuit for Indirect Object "
            "Identification in {GPT-2} Small},\n  booktitle = {ICLR},\n  year = {2023}\n}",
        ),
    ),
    needs=lambda model: (
        None if model.d_out > 1 else "It has one output: there is nothing to compare."
    ),
)
