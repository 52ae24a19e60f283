"""Measurements and text of the card of ``stdlib-lm``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer
from transformer_lens import HookedTransformer

from interp.behaviors import PromptPair, source
from interp.models import catalogue
from interp.models.info import Answers
from zoo import _corpus, _ngrams, _save, _train, stdlib_lm
from zoo import _stdlib_measures as measures
from zoo._stdlib_measures import Rate

ORDERS: Final = (2, 3, 4, 5)
RIVAL: Final = 4
NAMED: Final = 0.2
"""Score from which a head is named."""
BELOW_RIVAL: Final = 0.3
GAIN: Final = 2.0
RIGHT_BRACKET: Final = 0.95
CLOSED: Final = 0.7
ABOVE_LINE_BEFORE: Final = 0.1
"""What the facts promise."""

_CALLS: Final = "".join(
    f"        buffer.size({name})\n        parser.mode({name})\n" for name in ("data", "line")
)
EXAMPLES: Final = (
    {
        "kind": "activation_patching",
        "label": "A round or a square bracket is open: where is that kept?",
        "clean": "    def get(self, key):\n        value = self.data[key",
        "corrupted": "    def get(self, key):\n        value = self.data(key",
        "answer": "]",
        "foil": ")",
    },
    {
        "kind": "attention",
        "label": "An attribute again: which heads look at what followed before?",
        "clean": f"{_CALLS}        buffer.",
        "corrupted": f"{_CALLS}        parser.",
        "answer": "size",
        "foil": "mode",
    },
    {
        "kind": "logit_lens",
        "label": "After a colon, in which layer does the deeper line appear?",
        "clean": "def run(data):\n    if data:\n",
        "corrupted": "def run(data):\n    x = data\n",
        "answer": "        ",
        "foil": "    ",
    },
)
PLOTS: Final = (
    {
        "name": "loss",
        "title": "Loss on held-out files",
        "y": "nats a token",
        "series": {"held out": "loss_nats"},
        "log_x": True,
    },
    {
        "name": "copies",
        "title": "Identifiers at random, and the same again",
        "y": "nats a token",
        "series": {"first copy": "first_copy_nats", "second copy": "second_copy_nats"},
    },
    {
        "name": "heads",
        "title": "The head with the highest score",
        "y": "share of attention",
        "series": {
            "to the token behind the earlier copy": "prefix_matching",
            "to the token before": "previous_token",
        },
    },
)


@dataclass(frozen=True)
class Subject:
    """The exported model, what it was trained on and how that went.

    Attributes:
        folder: Where the model's files are.
        parameters: Numbers that were trained.
        off: Largest difference to the training code's logits, in their standard deviation.
        device: What it was trained on, "cpu" or "cuda".
    """

    model: HookedTransformer
    tokenizer: Tokenizer
    folder: Path
    corpus: _corpus.Corpus
    data: stdlib_lm.Data
    scale: stdlib_lm.Scale
    run: _train.Run
    device: str
    parameters: int
    off: float


@dataclass(frozen=True)
class Found:
    """What was measured.

    Attributes:
        loss: Nats a token.
        right: Share of tokens that the model thought the most likely.
        bits: Bits a byte.
        rivals: Bits a byte of n-grams by their order.
        ahead: Bits a byte of the 4-gram less the model's.
        brackets: Shares of closing brackets whose kind is preferred, by a name of the set, each
            with the share of the same set that the most frequent kind has.
        indents: Shares of lines whose indentation is expected, by who expects it.
        pairs: Of each behavior, the share of clean prompts with the answer above the foil.
    """

    loss: Rate
    right: Rate
    bits: Rate
    rivals: Mapping[int, Rate]
    ahead: Rate
    repeated: measures.Repeated
    brackets: Mapping[str, tuple[Rate, float]]
    indents: Mapping[str, Rate]
    completions: measures.Completions
    pairs: Mapping[str, Rate]


def measure(subject: Subject) -> Found:
    """Measure all that the card says.

    Cost: several minutes of one thread.
    """
    words = measures.Vocabulary.of(subject.tokenizer)
    held_out, files = subject.data.held_out, subject.corpus.part(held_out=True)
    seen = [measures.on_file(subject.model, words, ids) for ids in held_out]
    print(f"{len(seen)} held-out files read", flush=True)
    sizes = [len(text.encode()) for _, text in files]
    tokens = [one.tokens for one in seen]
    bits = [one.nats / np.log(2) for one in seen]
    rivals = {order: _rival(subject.data, order) for order in ORDERS}
    count = sum(tokens)
    ahead = [theirs - ours for theirs, ours in zip(rivals[RIVAL], bits, strict=True)]
    texts = measures.places(words, subject.tokenizer, files)
    return Found(
        loss=Rate.of([one.nats for one in seen], tokens),
        right=Rate.of([one.right for one in seen], tokens),
        bits=Rate.of(bits, sizes, count),
        rivals={order: Rate.of(of, sizes, count) for order, of in rivals.items()},
        ahead=Rate.of(ahead, sizes, count),
        repeated=measures.repeated(subject.model, subject.data.identifiers),
        brackets=_brackets(seen),
        indents=_indents(seen),
        completions=measures.complete(subject.model, words, texts),
        pairs=_pairs(subject),
    )


def _rival(data: stdlib_lm.Data, order: int) -> list[float]:
    """Bits of each held-out file by n-grams fitted on the tokens for training."""
    fitted = _ngrams.fit(data.training, order, _corpus.VOCABULARY)
    return [fitted.nats(ids) / float(np.log(2)) for ids in data.held_out]


def _brackets(seen: Sequence[measures.File]) -> dict[str, tuple[Rate, float]]:
    found: dict[str, tuple[Rate, float]] = {}
    every = ("all", *measures.KINDS, "other before")
    for name in every:
        sets = [[case for case in one.closing if _in_set(name, case)] for one in seen]
        right = [sum(kind == got for kind, got, _ in cases) for cases in sets]
        kinds = np.bincount([kind for cases in sets for kind, _, _ in cases])
        rate = Rate.of(right, [len(cases) for cases in sets])
        found[name] = rate, float(kinds.max() / kinds.sum())
    return found


def _in_set(name: str, case: tuple[int, int, bool]) -> bool:
    kind, _, hard = case
    return name == "all" or (hard if name == "other before" else measures.KINDS[kind] == name)


def _indents(seen: Sequence[measures.File]) -> dict[str, Rate]:
    """Who expects the right indentation, the model or one of three simple rules."""
    widths = [width for one in seen for width, *_ in one.indents]
    usual = int(np.bincount(widths).argmax())
    lines = [len(one.indents) for one in seen]
    found: dict[str, Rate] = {}
    for at, name in enumerate(("by the model", "as the line before", "four more behind a colon")):
        right = [sum(case[0] == case[1 + at] for case in one.indents) for one in seen]
        found[name] = Rate.of(right, lines)
    right = [sum(case[0] == usual for case in one.indents) for one in seen]
    return {**found, f"always {usual} spaces": Rate.of(right, lines)}


def _pairs(subject: Subject) -> dict[str, Rate]:
    info = catalogue.of_shape(
        stdlib_lm.NAME,
        subject.scale.shape.transformer,
        answers=Answers("tokens", (), -1),
        weights="",
        folder=subject.folder,
    )
    found: dict[str, Rate] = {}
    for name, behavior in source.BEHAVIORS.items():
        made = behavior.make(info)
        ahead = measures.ahead(subject.model, subject.tokenizer, made.pairs)
        parts = [ahead[np.array(made.clusters) == group] > 0 for group in set(made.clusters)]
        found[name] = Rate.of([part.sum() for part in parts], [len(part) for part in parts])
    return found


def _check_examples(subject: Subject) -> None:
    """Stop if the model does not answer both prompts of an example as the card says."""
    names = ("clean", "corrupted", "answer", "foil")
    pairs = [PromptPair(*(example[name] for name in names)) for example in EXAMPLES]
    turned = [PromptPair(pair.corrupted, pair.clean, pair.foil, pair.answer) for pair in pairs]
    ahead = measures.ahead(subject.model, subject.tokenizer, [*pairs, *turned])
    _save.require(bool((ahead > 0).all()), f"the examples are answered {ahead}")


# --- the card ----------------------------------------------------------------------------------


def card(subject: Subject) -> tuple[dict[str, Any], str]:
    """Measure, and write front matter and prose."""
    _check_examples(subject)
    found = measure(subject)
    recipe, run = subject.scale.recipe, subject.run
    drawn = recipe.steps * subject.scale.batch * (stdlib_lm.WINDOW - 1)
    trained = {
        "data": f"{len(subject.data.training):,} tokens of Python {_corpus.VERSION}'s library; "
        f"{drawn:,} drawn",
        "steps": recipe.steps,
        "optimizer": recipe.words,
        "wall_seconds": round(run.wall_s, 1),
        "cpu_seconds": round(run.cpu_s, 1),
        "threads": 1,
        "device": subject.device,
    }
    front = {
        "title": "A reader of the Python standard library",
        "summary": "A small transformer that has read the source of Python's standard library.",
        "task": "Predict the next token of Python source.",
        "licence": "PSF-2.0",
        "data": f"Source of Python {_corpus.VERSION}'s standard library with its tests "
        f"({len(subject.corpus.files):,} files, sha256 {subject.corpus.sha256}), under the Python "
        "Software Foundation License Version 2.",
        "seed": stdlib_lm.SEED,
        "parameters": subject.parameters,
        "trained": trained,
        "measured": {
            "loss_nats": round(found.loss.value, 5),
            "accuracy": round(found.right.value, 5),
            "on": f"{found.loss.n:,} tokens of {len(subject.data.held_out)} held-out files",
        },
        "curve": run.curve,
        "plots": list(PLOTS),
        "facts": _facts(found),
        "examples": list(EXAMPLES),
    }
    return front, _prose(subject, found)


def _facts(found: Found) -> list[dict[str, Any]]:
    fact, seen, n = _save.fact, found.repeated, found.bits.n
    rows = [
        fact("Bits a byte on held-out files.", found.bits.value, "bits", n),
        fact(
            f"Bits a byte below the {RIVAL}-gram on held-out files.",
            found.ahead.value,
            "bits",
            n,
            at_least=BELOW_RIVAL,
        ),
        *(
            fact(f"Bits a byte of the {order}-gram on held-out files.", rate.value, "bits", n)
            for order, rate in found.rivals.items()
        ),
        fact(
            "Loss on the first copy of repeated identifiers.",
            seen.first.value,
            "nats",
            seen.first.n,
        ),
        fact(
            "Loss on the second copy below the first, on repeated identifiers.",
            seen.gain.value,
            "nats",
            seen.gain.n,
            at_least=GAIN,
        ),
    ]
    return [*rows, *_head_facts(seen), *_syntax_facts(found)]


def _head_facts(seen: measures.Repeated) -> list[dict[str, Any]]:
    kinds = {
        "the token behind the earlier copy": seen.named(seen.prefix, NAMED),
        "the token before": seen.named(seen.previous, NAMED),
    }
    return [
        _save.fact(
            f"Attention of {head} to {where}, on repeated identifiers.",
            score,
            "attention",
            measures.ROWS,
            at_least=None if place else NAMED,
        )
        for where, heads in kinds.items()
        for place, (head, score) in enumerate(heads)
    ]


def _syntax_facts(found: Found) -> list[dict[str, Any]]:
    fact, ends = _save.fact, found.completions
    every, hard = found.brackets["all"][0], found.brackets["other before"][0]
    model, before = found.indents["by the model"], found.indents["as the line before"]
    more = model.value - before.value
    return [
        fact(
            "Closing brackets in held-out files whose kind is preferred to the other two.",
            every.value,
            "share",
            every.n,
            at_least=RIGHT_BRACKET,
        ),
        fact(
            "Closing brackets whose kind is preferred where the bracket before is of another kind.",
            hard.value,
            "share",
            hard.n,
        ),
        fact(
            f"Sampled completions that close an open bracket within {measures.LONGEST} tokens.",
            ends.closed / ends.n,
            "share",
            ends.n,
            at_least=CLOSED,
        ),
        fact("Lines whose indentation is expected.", model.value, "share", model.n),
        fact(
            "Lines whose indentation is expected, above expecting that of the line before.",
            more,
            "share",
            model.n,
            at_least=ABOVE_LINE_BEFORE,
        ),
        *(
            fact(
                f"Clean prompts of {name} with the answer above the foil.",
                rate.value,
                "share",
                rate.n,
            )
            for name, rate in found.pairs.items()
        ),
    ]


def _heads(named: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} ({score:.2f})" for name, score in named) or "none"


def _prose(subject: Subject, found: Found) -> str:
    seen, data = found.repeated, subject.data
    matching = seen.named(seen.prefix, NAMED)
    flat = seen.named(seen.cost, -np.inf)
    cost = dict(flat)
    induction = {name for name, _ in matching}
    shape = subject.scale.shape
    told = {
        "layers": shape.n_layers,
        "heads": shape.n_heads,
        "width": shape.d_model,
        "files": len(subject.corpus.files),
        "tokens": len(data.training),
        "held": len(data.held_out),
        "held_tokens": found.bits.n,
        "rival": RIVAL,
        "bits": found.bits.said(),
        "rivals": ", ".join(f"{n}-grams {rate.value:.3f}" for n, rate in found.rivals.items()),
        "judgement": "still better" if seen.second.value > np.log(_corpus.VOCABULARY) else "worse",
        "ahead": found.ahead.said(),
        "right": found.right.value,
        "first": seen.first.said(2),
        "second": seen.second.said(2),
        "gain": seen.gain.said(2),
        "chance": seen.chance,
        "matching": _heads(matching),
        "previous": _heads(seen.named(seen.previous, NAMED)),
        "costs": ", ".join(f"{name} {cost[name]:+.2f}" for name, _ in matching) or "no head named",
        "other": next(f"{name} {by:+.2f}" for name, by in flat if name not in induction),
        "off": subject.off,
        "rows": measures.ROWS,
        "without": measures.WITHOUT,
        "named": NAMED,
        "sha": subject.corpus.sha256[:12],
        "version": _corpus.VERSION,
        "vocabulary": _corpus.VOCABULARY,
        "share": _corpus.SHARE_HELD_OUT,
        "steps": subject.scale.recipe.steps,
        "uniform": float(np.log(_corpus.VOCABULARY)),
    }
    first, copies, last = (
        [_fill(part.format(**told)) for part in parts] for parts in (_INTRODUCTION, _COPIES, _END)
    )
    return "\n\n".join([*first, *copies, *_syntax_prose(found), *last])


def _syntax_prose(found: Found) -> list[str]:
    ends, lines = found.completions, found.indents["by the model"].n
    kinds = ", ".join(f"{kind} {found.brackets[kind][0].value:.3f}" for kind in measures.KINDS)
    rows = [
        f"| {told} | {found.brackets[name][0].n:,} | {found.brackets[name][0].said()} | "
        f"{found.brackets[name][1]:.3f} |"
        for name, told in (
            ("all", "all"),
            ("other before", "the bracket before is of another kind"),
        )
    ]
    head = "| closing brackets | n | right kind preferred | commonest kind |\n|---|---|---|---|"
    model, *rules = (f"{name} {rate.said()}" for name, rate in found.indents.items())
    pairs = ", ".join(f"`{name}` {rate.value:.1%}" for name, rate in found.pairs.items())
    return [
        "## Brackets and indentation",
        "\n".join([head, *rows]),
        _fill(
            f"By kind: {kinds}. Of {ends.n} sampled completions of prompts that end with an open "
            f"bracket, {ends.closed} close it within {measures.LONGEST} tokens, {ends.wrong} close "
            f"it with the wrong kind and {ends.open} leave it open; the files close {ends.true}. "
            "Brackets in strings count too."
        ),
        _fill(
            f"Share of {lines:,} held-out lines whose indentation is expected: {model}; by the "
            f"rules {', '.join(rules)}."
        ),
        _fill(f"Answer above foil on clean prompts of the behaviors: {pairs}."),
    ]


def _fill(text: str) -> str:
    return (
        text
        if text.startswith("#")
        else textwrap.fill(" ".join(text.split()), 99, break_on_hyphens=False)
    )


_INTRODUCTION: Final = (
    "# A reader of the Python standard library",
    """A causal transformer of {layers} layers with {heads} heads each, {width} numbers wide,
    with rotary positions, LayerNorm, GELU and an unembedding that is the embedding. It
    reads [BOS] and up to 255 tokens of its own byte-level vocabulary of {vocabulary:,}:
    type Python source. A line break, an indentation and a bracket are tokens of their own;
    a space goes with the word behind it.""",
    """It was trained for {steps:,} steps on {tokens:,} tokens of the standard library; one file
    in {share}, chosen by its path, was held out. The export agrees with the training code
    within {off:.0e} of the logits' standard deviation. Intervals (95%,
    bootstrap) are for other files, rows or groups of names.""",
    "## How good it is",
    """{bits} bits a byte on all {held_tokens:,} tokens of the {held} held-out files, in pieces of
    255; the right token is first in {right:.1%}. N-grams with modified Kneser–Ney smoothing,
    fitted on exactly the same tokens, need more: {rivals}. They are favoured, for they look
    back across the beginning of a piece. The model is below the {rival}-grams by {ahead}.""",
)
_COPIES: Final = (
    "## Repeated identifiers",
    """Forty different identifiers at random and the same again, {rows} rows: {first} nats a
    token on the first copy, {second} on the second, a gain of {gain}. Such rows are unlike any
    source: an even guess has {uniform:.2f}, {judgement}.""",
    """Heads that attend from a token to the one behind its earlier copy with a weight of
    {named} or more ({chance:.3f} where attention is even): {matching}. To the token before:
    {previous}. Without one head (its output the mean over {without} rows), the second
    copy's nats change by: {costs}; the largest change by another head: {other}.""",
)
_END: Final = (
    "## What is not known",
    """How a head finds out which bracket is open, and what the MLPs compute. That a head
    matches prefixes on identifiers at random does not say what it does in source.""",
    "## Origin",
    """Trained from nothing on the source of Python {version} as python.org ships it, {files:,}
    files (sha256 {sha}…), under the Python Software Foundation License Version 2; some
    files carry notices of their own. No source text is in this repository, only weights and
    tokenizer. It writes code that looks right and does nothing; it may repeat lines of the
    library.""",
)
