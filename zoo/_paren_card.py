"""Measurements and text of the paren balancer's card.

Everything is measured on the exported model, without padding.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformer_lens import HookedTransformer

from interp.behaviors import parens
from zoo import _save

EXHAUSTIVE: Final = 12  # all strings up to this length are tried
FAMILY, ODD, SWAPPED = 4_000, 4_000, 4_000  # sample sizes of the three probes

SHORT_CLAIM: Final = f"Accuracy on all strings of even length up to {EXHAUSTIVE}."
CATEGORY_TITLES: Final = {
    "dyck": "uniform balanced strings",
    "iid": "independent random parentheses",
    "equal_count": "shuffled strings with equal counts",
    "near_miss": "balanced strings after one edit",
}
BY_CLASS: Final = ("balanced strings of the hard mix", "unbalanced strings of the hard mix")
IN_BULLETS: Final = (SHORT_CLAIM, *(f"Accuracy on {title}." for title in BY_CLASS))
EFFECT_CLAIM: Final = "Loss with the direct output of {} taken from a random other string."

EXAMPLES: Final = (
    {
        "kind": "activation_patching",
        "label": "Equal counts, but the last pair is the wrong way round",
        "clean": "(())()",
        "corrupted": "(()))(",
        "answer": "balanced",
        "foil": "unbalanced",
    },
    {
        "kind": "activation_patching",
        "label": "One parenthesis flipped, so the counts differ",
        "clean": "(()(()))",
        "corrupted": "(()(())(",
        "answer": "balanced",
        "foil": "unbalanced",
    },
    {
        "kind": "logit_lens",
        "label": "When does the verdict form at [START]?",
        "clean": "()(())()",
        "corrupted": ")((())()",
        "answer": "balanced",
        "foil": "unbalanced",
    },
)


@dataclass(frozen=True)
class Judge:
    """The exported model as a judge of strings."""

    model: HookedTransformer
    tokenizer: Tokenizer

    @torch.no_grad()
    def logits(self, strings: Sequence[str]) -> Tensor:
        """Class logits, one row per string."""
        logits = torch.empty(len(strings), self.model.cfg.d_vocab_out)
        for rows, tokens in self.groups(strings):
            logits[rows] = _save.logits_at(self.model, tokens, 0)
        return logits

    def groups(self, strings: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        """Row numbers and tokens of the strings of each length."""
        ids = [code.ids for code in self.tokenizer.encode_batch(list(strings))]
        lengths = torch.tensor([len(row) for row in ids])
        groups: list[tuple[Tensor, Tensor]] = []
        for length in lengths.unique():
            rows = torch.nonzero(lengths == length).flatten()
            groups.append((rows, torch.tensor([ids[int(row)] for row in rows])))
        return groups


@dataclass(frozen=True)
class Verdicts:
    """Judged strings: logits, true labels and whether each was judged rightly."""

    strings: Sequence[str]
    logits: Tensor
    labels: Tensor

    @classmethod
    def of(cls, judge: Judge, strings: Sequence[str]) -> "Verdicts":
        """Judge the strings and compare with the truth."""
        labels = torch.tensor([int(parens.is_balanced(text)) for text in strings])
        return cls(strings, judge.logits(strings), labels)

    @property
    def right(self) -> Tensor:
        """Whether each verdict is right."""
        return self.logits.argmax(-1) == self.labels

    def accuracy(self, rows: Tensor | None = None) -> float:
        """Share of right verdicts, over some rows if given."""
        return float((self.right if rows is None else self.right[rows]).double().mean())

    def loss(self, rows: Tensor | None = None) -> float:
        """Mean cross-entropy in nats, over some rows if given."""
        each = functional.cross_entropy(self.logits.double(), self.labels, reduction="none")
        return float((each if rows is None else each[rows]).mean())

    def errors(self, label: int) -> list[tuple[str, float]]:
        """Misjudged strings of one class, shortest first, and their probability of balanced."""
        chance = self.logits.double().softmax(-1)[:, 1].tolist()
        wrong = {
            text: probability
            for text, probability, right, truth in zip(
                self.strings, chance, self.right.tolist(), self.labels.tolist(), strict=True
            )
            if truth == label and not right
        }
        return sorted(wrong.items(), key=lambda item: (len(item[0]), item[0]))


def reversed_pair_family(rng: np.random.Generator, count: int) -> list[str]:
    """Balanced strings A and B joined as ``A)(B``: equal counts and one shallow violation."""
    strings: list[str] = []
    while len(strings) < count:
        left, right = (int(half) for half in rng.integers(0, 20, size=2))
        if left + right <= 19:  # the whole must fit into 40 parentheses
            parts = (parens.dyck_words(rng, 2 * half, 1) for half in (left, right))
            strings.append(")(".join(parens.to_strings(part)[0] for part in parts))
    return strings


@torch.no_grad()
def direct_effects(judge: Judge, strings: Sequence[str], rng: np.random.Generator) -> Tensor:
    """Loss when one component's direct output is that on another string, in nats.

    Only the term that the component adds to the final residual stream at position 0 is exchanged;
    what later components computed from it stays.

    Returns:
        One row per layer; columns are the heads, then the MLP.
    """
    cfg = judge.model.cfg
    labels = torch.tensor([int(parens.is_balanced(text)) for text in strings])
    final = torch.empty(len(strings), cfg.d_model)
    terms = torch.empty(cfg.n_layers, cfg.n_heads + 1, len(strings), cfg.d_model)
    for rows, tokens in judge.groups(strings):
        _, cache = judge.model.run_with_cache(tokens)
        final[rows] = cache["resid_post", cfg.n_layers - 1][:, 0]
        for layer in range(cfg.n_layers):
            z = cache["z", layer][:, 0]
            results = torch.einsum("bhd,hdm->hbm", z, judge.model.W_O[layer])
            terms[layer][: cfg.n_heads, rows] = results
            terms[layer][cfg.n_heads, rows] = cache["mlp_out", layer][:, 0]
    other = torch.from_numpy(rng.permutation(len(strings)))
    losses = torch.empty(cfg.n_layers, cfg.n_heads + 1)
    for layer in range(cfg.n_layers):
        for index in range(cfg.n_heads + 1):
            term = terms[layer, index]
            stream = (final + term[other] - term)[:, None]
            logits = _save.tensor(judge.model.unembed(judge.model.ln_final(stream)))[:, 0]
            losses[layer, index] = functional.cross_entropy(logits, labels)
    return losses


# --- card ------------------------------------------------------------------------------------

PROSE: Final = """\
# A paren balancer

A small encoder that reads `[START]`, up to 40 parentheses and `[END]`, and judges at `[START]`
whether every parenthesis has its partner. Three layers, two heads each, 56 numbers wide, no causal
mask, LayerNorm before every attention and MLP, ReLU, learned positions: the architecture that
Redwood Research used to introduce causal scrubbing, trained anew (no weights of theirs are used).
A string is balanced exactly when it has equal counts and no suffix has more `(` than `)`.

## Training

{strings:,} strings of the "hard mix", equal shares of the even lengths 2 to 40: 35% uniform
balanced strings, 30% independent random parentheses, 20% shuffled equal counts, 15% balanced
strings with one edit (two unlike parentheses exchanged, or one flipped).
{steps:,} steps of {batch} strings, seed {seed}, {optimizer}; {cpu:.0f} CPU seconds on one thread.

The weights are those of step {pinned:,}, **chosen on purpose before the end**: the last evaluated
checkpoint with an accuracy between 99.5% and 99.8% on {held_out:,} held-out strings
({held_out_accuracy:.2%}; the last step reaches {last_accuracy:.2%}), so that errors are left.
The learning rate was still high there, and accuracy moves between neighbouring checkpoints.
The export reproduces the training code within {conversion:.0e} of the logits' standard deviation.

## How good it is

On {n:,} strings of the same mix that neither training nor the choice of checkpoint used, the
accuracy is {accuracy:.2%} and the loss {loss:.4f} nats.

| strings | accuracy |
|---|---|
{table}

## Known weaknesses

* At even lengths errors are long: none up to {exhaustive}, and {shortest} in the shortest above.
* Balanced strings are missed more often ({missed:.2%}) than unbalanced ones ({accepted:.2%}).
* Equal counts with one violation at depth 0, `A)(B`, are its blind spot.
* Long regular strings are called unbalanced: twenty pairs side by side, for instance.
* Odd lengths and the empty string were never trained; the empty string is called unbalanced.

| misjudged string | truth | model's probability of balanced |
|---|---|---|
{errors}

## Which parts write the answer

{effects}

## Origin

Generated data only, no weights from elsewhere. Licence: MIT.
"""


EFFECTS: Final = """\
Exchanging one component's direct contribution at `[START]` for that on a random other string
raises the loss from {before:.3f} nats to {after}. Roles depend on the seed."""


@dataclass(frozen=True)
class Run:
    """What the trainer knows and the card repeats."""

    seed: int
    parameters: int
    strings: int
    held_out: int
    batch: int
    pinned_step: int
    trained: Mapping[str, Any]
    conversion_error: float
    curve: Sequence[Mapping[str, float]]


def card(
    judge: Judge, run: Run, test: parens.ParenSample, training: Sequence[str]
) -> tuple[dict[str, Any], str]:
    """Measure the model and write its card.

    Args:
        judge: The exported model.
        run: What is known from training.
        test: A sample that neither training nor the choice of checkpoint has used.
        training: The strings trained on, to tell which test strings are new.

    Returns:
        Front matter and prose.
    """
    for example in EXAMPLES:
        pair = Verdicts.of(judge, [example["clean"], example["corrupted"]])
        _save.require(bool(pair.right.all()), f"an example is misjudged: {example}")
    verdicts = Verdicts.of(judge, test.strings)
    facts = [*_test_facts(verdicts, test, training), *_probe_facts(judge, run.seed)]
    effects = _named_effects(judge, test.strings[:SWAPPED], run.seed)
    special = Verdicts.of(judge, ["", "()" * 20]).logits.argmax(-1)
    _save.require(not special.any(), "the card says that these two are called unbalanced")
    short = next(row for row in facts if row["claim"] == SHORT_CLAIM)
    _save.require(short["value"] == 1, "the card says that there are no short errors")
    front = {
        "title": "Paren balancer",
        "summary": "A three-layer encoder, trained to say whether parentheses are balanced.",
        "task": "Read a string of parentheses and judge it balanced or unbalanced at [START].",
        "licence": "MIT",
        "seed": run.seed,
        "parameters": run.parameters,
        "trained": dict(run.trained),
        "curve": [dict(row) for row in run.curve],
        "facts": [
            *facts,
            *(
                _save.fact(EFFECT_CLAIM.format(name), loss, "nats", SWAPPED)
                for name, loss in effects
            ),
        ],
        "examples": list(EXAMPLES),
    }
    return front, _prose(verdicts, run, facts, effects)


def _named_effects(judge: Judge, strings: Sequence[str], seed: int) -> list[tuple[str, float]]:
    """Components with their direct effects, largest first."""
    effects = direct_effects(judge, strings, np.random.default_rng([seed, 6])).tolist()
    named: list[tuple[str, float]] = []
    for layer, row in enumerate(effects):
        heads = [f"head L{layer}H{head}" for head in range(len(row) - 1)]
        named += zip([*heads, f"the MLP of layer {layer}"], row, strict=True)
    return sorted(named, key=lambda item: -item[1])


def _test_facts(
    verdicts: Verdicts, test: parens.ParenSample, training: Sequence[str]
) -> list[dict[str, Any]]:
    seen = set(training)
    slices: dict[str, Tensor] = {
        "the hard mix": torch.ones(len(test.strings), dtype=torch.bool),
        "hard-mix strings absent from the training data": torch.tensor(
            [text not in seen for text in test.strings]
        ),
        BY_CLASS[0]: verdicts.labels == 1,
        BY_CLASS[1]: verdicts.labels == 0,
    }
    for category, title in CATEGORY_TITLES.items():
        slices[title] = torch.tensor([category == name for name in test.categories])
    facts: list[dict[str, Any]] = []
    for title, rows in slices.items():
        n = int(rows.sum())
        facts.append(_save.fact(f"Accuracy on {title}.", verdicts.accuracy(rows), "share", n))
        facts.append(_save.fact(f"Loss on {title}.", verdicts.loss(rows), "nats", n))
    return facts


def _probe_facts(judge: Judge, seed: int) -> list[dict[str, Any]]:
    short = [
        "".join(word)
        for length in range(2, EXHAUSTIVE + 1, 2)
        for word in product(parens.OPEN + parens.CLOSE, repeat=length)
    ]
    family = reversed_pair_family(np.random.default_rng([seed, 4]), FAMILY)
    rng = np.random.default_rng([seed, 5])
    odd = [
        text
        for length in range(1, 40, 2)
        for text in parens.to_strings(parens.iid_words(rng, length, ODD // 20))
    ]
    rows = (
        (SHORT_CLAIM, short),
        ("Accuracy on A)(B with A and B balanced, an equal-count violation at depth 0.", family),
        ("Accuracy on random strings of odd length, which were never trained.", odd),
        ("Accuracy on 1 to 20 pairs side by side.", ["()" * n for n in range(1, 21)]),
        ("Accuracy on 1 to 20 pairs nested.", ["(" * n + ")" * n for n in range(1, 21)]),
    )
    return [
        _save.fact(claim, Verdicts.of(judge, strings).accuracy(), "share", len(strings))
        for claim, strings in rows
    ]


def _prose(
    verdicts: Verdicts,
    run: Run,
    facts: Sequence[Mapping[str, Any]],
    effects: Sequence[tuple[str, float]],
) -> str:
    table = [
        f"| {row['claim'].removeprefix('Accuracy on ').rstrip('.')} | {row['value']:.2%} |"
        for row in facts
        # The bullets below the table give the others.
        if row["unit"] == "share" and row["n"] > 1_000 and row["claim"] not in IN_BULLETS
    ]
    wrong = verdicts.errors(1), verdicts.errors(0)
    missed, accepted = (1 - verdicts.accuracy(verdicts.labels == label) for label in (1, 0))
    _save.require(missed > accepted, "the card says that balanced strings are missed more often")
    errors = [
        f"| `{text}` | {truth} | {chance:.3f} |"
        for truth, found in (("balanced", wrong[0][:2]), ("unbalanced", wrong[1][:1]))
        for text, chance in found
    ]
    before = verdicts.loss(torch.arange(SWAPPED))
    after = ", ".join(f"{loss:.3f} for {name}" for name, loss in effects[:3])
    pinned = next(row for row in run.curve if row["step"] == run.pinned_step)
    return PROSE.format(
        strings=run.strings,
        steps=run.trained["steps"],
        batch=run.batch,
        seed=run.seed,
        optimizer=run.trained["optimizer"],
        cpu=run.trained["cpu_seconds"],
        pinned=run.pinned_step,
        held_out=run.held_out,
        held_out_accuracy=pinned["accuracy"],
        last_accuracy=run.curve[-1]["accuracy"],
        conversion=run.conversion_error,
        n=len(verdicts.strings),
        accuracy=verdicts.accuracy(),
        loss=verdicts.loss(),
        table="\n".join(table),
        exhaustive=EXHAUSTIVE,
        shortest=min(len(text) for text, _ in [*wrong[0], *wrong[1]]),
        missed=missed,
        accepted=accepted,
        errors="\n".join(errors),
        effects=textwrap.fill(EFFECTS.format(before=before, after=after), width=98),
    )
