"""What the card of ``induction-2l`` says: measurements of the final weights, seeds, and prose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformer_lens import HookedTransformer

from interp.behaviors import repeats
from zoo import _induction2_heads as heads
from zoo import _induction2_rows as rows
from zoo import _save, _train

TEST_ROWS: Final = 1_000
_HALF: Final = 0.5  # of a score, from which a head is called by it

EXAMPLES: Final = (
    {
        "kind": "activation_patching",
        "label": "The first n is hidden: which heads bring w back?",
        "clean": "qtnwzeuxkmqtn",
        "corrupted": "qtbwzeuxkmqtn",
        "answer": "w",
        "foil": "u",
    },
    {
        "kind": "direct_logit_attribution",
        "label": "Which head writes the answer?",
        "clean": "hG3kWx7bPzdhG3k",
        "corrupted": "hG3mWx7bPzdhG3k",
        "answer": "W",
        "foil": "b",
    },
    {
        "kind": "attention",
        "label": "Which head of the first layer looks one letter back?",
        "clean": "rhjoslpgyCrhjos",
        "corrupted": "rhjodlpgyCrhjos",
        "answer": "l",
        "foil": "y",
    },
)
"""Starting points; in each corrupted prompt the earlier copy of the last letter is an unseen one.

The distance between the copies is one of those that were trained.
"""


@dataclass(frozen=True)
class About:
    """How the model came about; ``curves`` are those of every seed."""

    seed: int
    parameters: int
    error: float
    trained: dict[str, Any]
    curves: dict[int, list[_train.Row]]


@dataclass(frozen=True)
class Found:
    """What is measured of the final weights.

    Attributes:
        scores: Attention scores of all heads.
        copying: Copying score of each head.
        previous: Previous-token heads, the best first.
        induction: Prefix-matching heads, the best first.
        losses: On fresh rows.
        without_previous: On the same rows without the previous-token heads.
        without_best: On the same rows without the best prefix-matching head.
        without_induction: On the same rows without all of them.
        prefix_left: Highest prefix-matching score without the previous-token heads.
        duplicate: The best duplicate-token head.
        without_duplicate: On the same rows without it.
        prefix_without: Highest prefix-matching score without it.
        continued: Share of right answers in second copies of different letters.
        behavior: Share of the pairs of the behavior whose clean prompt is answered right.
        short: The same for prompts of distinct letters and one repeat, as kmabcda.
        floor: Loss in nats of letters of the chain to somebody who knows it.
    """

    scores: heads.Attention
    copying: heads.Scores
    previous: list[heads.Head]
    induction: list[heads.Head]
    losses: heads.Losses
    without_previous: heads.Losses
    without_best: heads.Losses
    without_induction: heads.Losses
    prefix_left: float
    duplicate: heads.Head
    without_duplicate: heads.Losses
    prefix_without: float
    continued: float
    behavior: float
    short: float
    floor: float


def measure(model: HookedTransformer, tokenizer: Tokenizer, weights: Mapping[str, Tensor]) -> Found:
    """Measure the exported model."""
    asked = [(example["clean"], example["answer"]) for example in EXAMPLES]
    _save.require(
        all(_right(model, tokenizer, [one]) == 1 for one in asked), "an example is answered wrong"
    )
    following = rows.chain()
    drawn = rows.draw(np.random.default_rng([0, 2]), TEST_ROWS, following)
    scores = heads.attention(model)
    previous, induction = _called(scores.previous), _called(scores.prefix)
    duplicate = heads.best(scores.duplicate)
    pairs = repeats.repeated_segment(1_000)
    return Found(
        scores,
        {head: heads.copying(weights, head) for head in scores.previous},
        previous,
        induction,
        heads.losses(model, drawn),
        heads.losses(model, drawn, previous),
        heads.losses(model, drawn, induction[:1]),
        heads.losses(model, drawn, induction),
        max(heads.attention(model, previous).prefix.values()),
        duplicate,
        heads.losses(model, drawn, [duplicate]),
        max(heads.attention(model, [duplicate]).prefix.values()),
        heads.continued(model),
        _right(model, tokenizer, [(pair.clean, pair.answer) for pair in pairs]),
        _right(model, tokenizer, _short(1_000)),
        _floor(following),
    )


def _called(scores: heads.Scores) -> list[heads.Head]:
    """The heads with a score of one half or more, the best first."""
    order = sorted(scores, key=scores.__getitem__, reverse=True)
    return [head for head in order if scores[head] >= _HALF]


def _listed(found: Sequence[heads.Head]) -> str:
    return " and ".join(map(heads.name, found))


def _floor(following: NDArray[np.float64]) -> float:
    """Entropy of the chain in nats, over the share of time that it spends at each letter."""
    lasting = np.linalg.matrix_power(following, 1_000)[0]
    logs = np.log(np.maximum(following, 1e-300))
    return float(-lasting @ (following * logs).sum(1))


def _short(count: int) -> list[tuple[str, str]]:
    """Six different letters and the third one again, with the right answer."""
    rng = np.random.default_rng(91)
    made: list[tuple[str, str]] = []
    for _ in range(count):
        letters = [repeats.LETTERS[i] for i in rng.permutation(len(repeats.LETTERS))[:6]]
        made.append(("".join([*letters, letters[2]]), letters[3]))
    return made


@torch.no_grad()
def _right(
    model: HookedTransformer, tokenizer: Tokenizer, asked: Sequence[tuple[str, str]]
) -> float:
    """Share of prompts of one length that are answered right."""
    tokens = torch.tensor([tokenizer.encode(text).ids for text, _ in asked])
    answers = torch.tensor([tokenizer.token_to_id(answer) for _, answer in asked])
    return float((_save.logits_at(model, tokens, -1).argmax(-1) == answers).float().mean())


def card(about: About, found: Found) -> tuple[dict[str, Any], str]:
    """Front matter and prose."""
    front = {
        "title": "Induction, learned",
        "summary": "Two layers of attention that learned to continue what was there before.",
        "task": "Read letters and digits; where a letter has been before, give what followed it.",
        "licence": "MIT",
        "data": "Random letters, half of them from a random chain; no data from elsewhere.",
        "seed": about.seed,
        "parameters": about.parameters,
        "trained": about.trained,
        "measured": {
            "loss_nats": float(f"{found.losses.every:.5g}"),
            "accuracy": float(f"{found.losses.copied_accuracy:.5g}"),
            "on": f"{TEST_ROWS:,} fresh rows: loss of all letters, accuracy on copied ones",
        },
        "curve": about.curves[about.seed],
        "plots": _plots(),
        "facts": [*_head_facts(found), *_behaviour_facts(found), *_seed_facts(about)],
        "examples": list(EXAMPLES),
    }
    return front, _prose(about, found)


def _plots() -> list[dict[str, Any]]:
    drawn = (
        ("loss", "Behavior: loss of letters that a copy decides, and of the others", "loss (nats)",
         {"copied": "copied_loss", "not copied": "uncopied_loss"}),
        ("accuracy", "Behavior: right answers in the copied segment", "accuracy (share)",
         {"copied": "copied_accuracy"}),
        ("heads", "Heads: the highest score of any head", "mean attention (0 to 1)",
         {"previous token": "previous", "prefix matching": "prefix",
          "duplicate token": "duplicate"}),
    )  # fmt: skip
    return [
        {"name": name, "title": title, "y": y, "series": series} for name, title, y, series in drawn
    ]


def _head_facts(found: Found) -> list[dict[str, Any]]:
    says, n = _save.fact, len(heads.PERIODS) * heads.SEQUENCES
    scores = found.scores
    previous, induction = found.previous[0], found.induction[0]
    facts = [
        says(f"Mean attention of {heads.name(previous)} to the position before.",
             scores.previous[previous], "attention", n, at_least=0.6),
        says(f"Mean attention of {heads.name(induction)} from the second copy to what followed "
             "the first (prefix matching).", scores.prefix[induction], "attention", n,
             at_least=0.6),
        says(f"Highest prefix matching with the output of {_listed(found.previous)} replaced by "
             "its mean.", found.prefix_left, "attention", n),
    ]  # fmt: skip
    for head in sorted(scores.previous):
        others = [
            ("previous token", scores.previous[head], previous),
            ("prefix matching", scores.prefix[head], induction),
            ("duplicate token", scores.duplicate[head], None),
            ("own position", scores.own[head], None),
        ]
        facts += [
            says(f"{heads.name(head)}: {score}.", value, "attention", n)
            for score, value, told in others
            if head != told
        ]
    return facts + [
        says(f"{heads.name(head)}: copying (eigenvalues of W_E W_V W_O W_U, sum over sum of "
             "sizes).", found.copying[head], "ratio from -1 to 1", 1)
        for head in sorted(found.copying)
    ]  # fmt: skip


def _behaviour_facts(found: Found) -> list[dict[str, Any]]:
    says = _save.fact
    n = len(heads.PERIODS) * heads.SEQUENCES
    without = "Right answers in copied segments with the output replaced by its mean of"
    return [
        says(f"Right answers in second copies of {heads.PERIODS[0]} to {heads.PERIODS[-1]} "
             "different letters.", found.continued, "share", n, at_least=0.95),
        says("Right answers in copied segments of fresh rows.", found.losses.copied_accuracy,
             "share", TEST_ROWS),
        says("Loss there.", found.losses.copied, "nats", TEST_ROWS),
        says("Loss of all other letters.", found.losses.uncopied, "nats", TEST_ROWS),
        says(f"{without} {_listed(found.previous)}.", found.without_previous.copied_accuracy,
             "share", TEST_ROWS),
        says(f"{without} {heads.name(found.duplicate)}.",
             found.without_duplicate.copied_accuracy, "share", TEST_ROWS),
        says(f"{without} {_listed(found.induction[:1])}.", found.without_best.copied_accuracy,
             "share", TEST_ROWS),
        says(f"{without} {_listed(found.induction)}.", found.without_induction.copied_accuracy,
             "share", TEST_ROWS),
        says("Right answers on the clean prompts of repeated-segment.", found.behavior, "share",
             1_000, at_least=0.9),
        says("Right answers after six different letters and the third again.", found.short,
             "share", 1_000),
    ]  # fmt: skip


def _reaches(curve: Sequence[_train.Row], series: str) -> float:
    """First step measured at which a series is a half or more; not a number if it never is."""
    return next((row["step"] for row in curve if row[series] >= _HALF), float("nan"))


def _seed_facts(about: About) -> list[dict[str, Any]]:
    facts: list[dict[str, Any]] = []
    told = {
        "previous": ("highest previous-token score", "attention"),
        "prefix": ("highest prefix-matching score", "attention"),
        "copied_accuracy": ("right answers in copied segments", "share"),
    }
    for seed, curve in about.curves.items():
        for series, (what, unit) in told.items():
            facts.append(_save.fact(f"Seed {seed}: {what}.", curve[-1][series], unit, 256))
        for series, (what, _) in told.items():
            reached = _reaches(curve, series)
            claim = f"first of {len(curve)} measured steps with {what} of one half or more"
            facts.append(_save.fact(f"Seed {seed}: {claim}.", reached, "step", 1))
    return facts


PROSE: Final = """\
# Induction, learned in training

Two layers of attention with two heads each, no MLPs, a stream of 128 numbers. It reads one token a
letter, [BOS] first: a-z, A-Z, 0-9, `-` and `_`, at most {length}. After letters that have been
there before it gives the one that followed then: after `{clean}` it says `{answer}`. The same
circuit written by hand is the model induction-handmade. Norms have no gain (LNPre). Only queries
and keys read positions (shortformer): they are never in the stream, so values cannot carry them.

## Training

{data}: half follow a random chain (a letter's successors are from a
Dirichlet distribution of {concentration:g}; entropy {floor:.2f} nats), half are uniform
({uniform:.2f} nats). In every row segments of {shortest} to {longest} letters are followed at once
by themselves. {optimizer}. Positions start as
large as normed tokens. Of three seeds this is seed {seed}: the smaller of its scores is largest.

| seed | previous token | prefix matching | right in copies | prefix 0.5 at | right 0.5 at |
|---|---|---|---|---|---|
{seeds}

## The mechanism, as far as it is known

Scores are mean attention weights on [BOS] and {periods} different letters typed twice,
{sequences} rows of each.

* **Previous token**: {previous_score:.2f} of the attention of {previous} is on the position before.
* **Induction**: in the second copy, {prefixes} of the attention of {induction} is on
  what followed the first copy of the same letter (prefix matching).
* **Together.** With the output of {previous} replaced by its mean, no head's prefix matching is
  above {left:.2f}, and the share of right answers in copied segments of fresh rows falls from
  {right:.1%} to {right_previous:.1%}. Without {best} it is {right_best:.1%}, without every
  induction head {right_induction:.1%}.
* **Not in the textbook**: {duplicate} attends to its own position ({own:.2f}) and to earlier copies
  of its letter ({duplicate_score:.2f}). Without it {right_duplicate:.1%} are right and no prefix
  matching is above {prefix_without:.2f}. What it gives to the others was not worked out.
* **Copying.** The eigenvalues of W_E W_V W_O W_U of {best} have a sum of {copying:.2f} times that
  of their sizes; 1 would be pure copying. All heads are among the facts.

## What to be careful about

* The plots part behavior from head scores on purpose. Loss falls and answers come right for any
  circuit that copies; only attention and patching say which. Here they rise within the same
  steps, and even that is not a proof that one makes the other.
* The highest score of any head is drawn, which need not be the same head at every step. Snapshots
  are stored in float16; the curve is of the weights before rounding.

## Weaknesses

* In copied segments of fresh rows letters also repeat by chance, which makes the answer uncertain:
  with different letters in a segment, {continued:.1%} are right.
* After six different letters and the third again {short:.1%} are right; on the behavior
  repeated-segment {behavior:.1%}. Distances over {longest} were never trained.

## Origin

Generated data only, no weights from elsewhere. The scores are those of Olsson et al. (2022),
In-context Learning and Induction Heads. The export reproduces the training code within {error:.0e}
of the logits' standard deviation. Licence: MIT.
"""


def _prose(about: About, found: Found) -> str:
    scores, first = found.scores, EXAMPLES[0]
    previous, best = found.previous[0], found.induction[0]
    *some, last = heads.PERIODS
    return PROSE.format(
        length=rows.LENGTH,
        clean=first["clean"],
        answer=first["answer"],
        data=about.trained["data"],
        concentration=rows.CONCENTRATION,
        floor=found.floor,
        shortest=rows.PERIODS[0],
        longest=rows.PERIODS[1],
        optimizer=about.trained["optimizer"],
        seed=about.seed,
        seeds="\n".join(_line(seed, curve) for seed, curve in about.curves.items()),
        periods=f"{', '.join(map(str, some))} or {last}",
        sequences=heads.SEQUENCES,
        uniform=math.log(len(repeats.LETTERS)),
        previous=_listed(found.previous),
        previous_score=scores.previous[previous],
        induction=_listed(found.induction),
        best=heads.name(best),
        prefixes=" and ".join(f"{scores.prefix[head]:.2f}" for head in found.induction),
        left=found.prefix_left,
        right=found.losses.copied_accuracy,
        right_previous=found.without_previous.copied_accuracy,
        right_best=found.without_best.copied_accuracy,
        right_induction=found.without_induction.copied_accuracy,
        copying=found.copying[best],
        duplicate=heads.name(found.duplicate),
        duplicate_score=scores.duplicate[found.duplicate],
        own=scores.own[found.duplicate],
        right_duplicate=found.without_duplicate.copied_accuracy,
        prefix_without=found.prefix_without,
        continued=found.continued,
        short=found.short,
        behavior=found.behavior,
        error=about.error,
    )


def _line(seed: int, curve: Sequence[_train.Row]) -> str:
    end = curve[-1]
    numbers = [f"{end['previous']:.2f}", f"{end['prefix']:.2f}", f"{end['copied_accuracy']:.1%}"]
    steps = [f"step {_reaches(curve, series):.0f}" for series in ("prefix", "copied_accuracy")]
    return "| " + " | ".join([str(seed), *numbers, *steps]) + " |"
