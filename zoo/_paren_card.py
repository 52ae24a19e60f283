"""Measurements and text of the paren balancer's card.

Everything is measured on the exported model, without padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformer_lens import HookedTransformer

from interp.behaviors import parens
from interp.methods.roles import CONSTANT, GROUPS, Roles
from interp.models.info import ModelInfo
from interp.models.load import LoadedModel
from zoo import _paren_roles, _save

EXHAUSTIVE: Final = 12  # all strings up to this length are tried
FAMILY, ODD, SWAPPED = 4_000, 4_000, 4_000  # sample sizes of the three probes

PROMISED: Final = 0.99  # accuracy of every seed on the hard mix
SERIES: Final = {
    "loss_nats": ("Loss on held-out strings", "cross-entropy in nats"),
    "accuracy": ("Accuracy on held-out strings", "share of right verdicts"),
}
"""What the curves have: title and unit of each."""

SHORT_CLAIM: Final = f"Accuracy on all strings of even length up to {EXHAUSTIVE}."
FAMILY_CLAIM: Final = "Accuracy on A)(B with A and B balanced, an equal-count violation at depth 0."
CATEGORY_TITLES: Final = {
    "dyck": "uniform balanced strings",
    "iid": "independent random parentheses",
    "equal_count": "shuffled strings with equal counts",
    "near_miss": "balanced strings after one edit",
}
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
    info: ModelInfo

    @property
    def loaded(self) -> LoadedModel:
        """The model as methods take it."""
        return LoadedModel(self.info, self.model, torch.device("cpu"), torch.float32)

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

    @property
    def errors(self) -> list[str]:
        """Misjudged strings."""
        wrong = torch.nonzero(~self.right).flatten().tolist()
        return [self.strings[int(row)] for row in wrong]


def reversed_pair_family(rng: np.random.Generator, count: int) -> list[str]:
    """Balanced strings A and B joined as ``A)(B``: equal counts and one shallow violation."""
    strings: list[str] = []
    while len(strings) < count:
        left, right = (int(half) for half in rng.integers(0, 20, size=2))
        if left + right <= 19:  # the whole must fit into 40 parentheses
            parts = (parens.dyck_words(rng, 2 * half, 1) for half in (left, right))
            strings.append(")(".join(parens.to_strings(part)[0] for part in parts))
    return strings


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
strings with one edit; {steps:,} steps of {batch}, {optimizer}.
Kept are the weights of the last evaluated step with an accuracy between 99.5% and 99.8% on
{held_out:,} held-out strings, on purpose: errors are left. Exports reproduce the training code's
logits within {conversion:.0e} of their standard deviation in float64. The learning rate is so high
that rounding decides which weights a seed leads to: another processor trains others.

| weights | step | accuracy on {n:,} other strings | loss in nats |
|---|---|---|---|
{seeds}

Weaknesses of seed 1: errors are long (none up to {exhaustive}, {shortest} in the shortest);
balanced strings are missed more often ({missed:.2%}) than unbalanced ones ({accepted:.2%}); of
`A)(B`, equal counts with one violation at depth 0, {family:.1%} are right; twenty pairs side by
side and the empty string are called unbalanced. Odd lengths were never trained.

## Roles

{roles}

Generated data only, no weights from elsewhere. Licence: MIT.
"""

ROLES: Final = """\
"Direct effect": the rise of the loss when only what the component adds to the last stream at
`[START]` is exchanged for that on another string ({n:,} strings in {groups} groups that exchange
only among themselves; 95% interval over the groups). "Role": which feature explains most of what
it adds to the verdict, all at one scale of the norm, and the share η²; two joined (×) only where
they gain more than chance over the best alone, however little. "By chance": the 95% quantile of
the largest share with strings shuffled, and of the largest gain with one feature shuffled within
the other's classes. *Count*: as many `(` as `)`. *Horizon*: no suffix with more `(`. Features
overlap, and what later parts read is left out. The embedding is the same for all: it has no \
role."""


@dataclass(frozen=True)
class Recipe:
    """What all seeds have in common."""

    parameters: int
    strings: int
    held_out: int
    batch: int
    steps: int
    optimizer: str


@dataclass(frozen=True)
class Run:
    """What is known from the training of one seed; the curve is that on held-out strings."""

    seed: int
    pinned_step: int
    curve: Sequence[Mapping[str, float]]
    conversion_error: float
    wall_seconds: float
    cpu_seconds: float
    threads: int


@dataclass(frozen=True)
class Seed:
    """One seed: its training and the exported model."""

    run: Run
    judge: Judge


def label(seed: int) -> str:
    """What a seed is called: the name of its snapshot, its part of the card."""
    return f"seed-{seed}"


def told(path: Path, seed: int) -> Run:
    """What a card says of the training of one seed."""
    front = yaml.safe_load(path.read_text(encoding="utf-8").split("---\n", 2)[1])
    (row,) = (row for row in front["trained"]["seeds"] if row["seed"] == seed)
    curve = [
        {"step": at["step"], **{name: at[_column(name, seed)] for name in SERIES}}
        for at in front["curve"]
    ]
    return Run(curve=curve, **row)


def card(
    recipe: Recipe, seeds: Sequence[Seed], test: parens.ParenSample, training: Sequence[str]
) -> tuple[dict[str, Any], str]:
    """Measure the models of all seeds and write their card.

    Args:
        recipe: What they have in common.
        seeds: All seeds; the first is the model, the others are its snapshots.
        test: A sample that neither training nor the choice of checkpoint has used.
        training: The strings that the first was trained on, to tell which of the sample are new.

    Returns:
        Front matter and prose.
    """
    judge, seed = seeds[0].judge, seeds[0].run.seed
    for example in EXAMPLES:
        pair = Verdicts.of(judge, [example["clean"], example["corrupted"]])
        _save.require(bool(pair.right.all()), f"an example is misjudged: {example}")
    verdicts = {one.run.seed: Verdicts.of(one.judge, test.strings) for one in seeds}
    found = [_roles(one, test.strings[:SWAPPED]) for one in seeds]
    facts = [*_test_facts(verdicts[seed], test, training), *_probe_facts(judge, seed)]
    facts += [row for other in seeds[1:] for row in _mix_facts(other.run.seed, verdicts)]
    facts += _effect_facts(found[0])
    roles = {
        label(one.run.seed): _paren_roles.rows(of) for one, of in zip(seeds, found, strict=True)
    }
    front = {
        "title": "Paren balancer",
        "summary": "A three-layer encoder, trained to say whether parentheses are balanced.",
        "task": "Read a string of parentheses and judge it balanced or unbalanced at [START].",
        "licence": "MIT",
        "data": "Strings of parentheses drawn at random by rules, and labelled by counting.",
        "seed": seed,
        "parameters": recipe.parameters,
        "trained": _trained(recipe, [one.run for one in seeds]),
        "measured": {
            "loss_nats": float(f"{verdicts[seed].loss():.6g}"),
            "accuracy": verdicts[seed].accuracy(),
            "on": f"{len(test.strings)} strings of the hard mix, not those of training",
        },
        **_curves([one.run for one in seeds]),
        "facts": facts,
        "roles": roles,
        "examples": list(EXAMPLES),
    }
    return front, _prose(verdicts, recipe, [one.run for one in seeds], front)


def _trained(recipe: Recipe, runs: Sequence[Run]) -> dict[str, Any]:
    """How all seeds were trained, and what is of each."""
    apart = [{name: value for name, value in vars(run).items() if name != "curve"} for run in runs]
    costs = ("pinned_step", "wall_seconds", "cpu_seconds", "threads")
    return {
        "data": f"{recipe.strings} generated strings (hard mix, even lengths 2 to 40)",
        "steps": recipe.steps,
        "optimizer": recipe.optimizer,
        **{name: apart[0][name] for name in costs},
        "seeds": apart,
    }


def _column(series: str, seed: int) -> str:
    return f"{series}_{seed}"


def _curves(runs: Sequence[Run]) -> dict[str, Any]:
    """The curves of all seeds side by side, and what is drawn of them."""
    curve = [
        {
            "step": points[0]["step"],
            **{
                _column(name, run.seed): point[name]
                for name in SERIES
                for run, point in zip(runs, points, strict=True)
            },
        }
        for points in zip(*(run.curve for run in runs), strict=True)
    ]
    plots = [
        {
            "name": name,
            "title": title,
            "y": unit,
            "series": {f"seed {run.seed}": _column(name, run.seed) for run in runs},
        }
        for name, (title, unit) in SERIES.items()
    ]
    return {"curve": curve, "plots": plots}


def _roles(seed: Seed, strings: Sequence[str]) -> Roles:
    return _paren_roles.find(seed.judge.loaded, seed.judge.tokenizer, strings, seed.run.seed)


def _effect_facts(roles: Roles) -> list[dict[str, Any]]:
    """Losses without the direct output of each head and MLP, largest absolute effect first."""
    facts: list[dict[str, Any]] = []
    for role in roles.roles:
        if role.component != "embedding":
            layer = role.component.removeprefix("L").removesuffix(" MLP")
            named = f"the MLP of layer {layer}" if "MLP" in role.component else None
            claim = EFFECT_CLAIM.format(named or f"head {role.component}")
            facts.append(_save.fact(claim, roles.loss + role.effect, "nats", len(roles.terms)))
    return facts


def _mix_facts(seed: int, verdicts: Mapping[int, Verdicts]) -> list[dict[str, Any]]:
    """How good another seed is."""
    judged = verdicts[seed]
    n = len(judged.strings)
    accuracy = f"Accuracy on the hard mix, seed {seed}."
    return [
        _save.fact(accuracy, judged.accuracy(), "share", n, at_least=PROMISED),
        _save.fact(f"Loss on the hard mix, seed {seed}.", judged.loss(), "nats", n),
    ]


def _test_facts(
    verdicts: Verdicts, test: parens.ParenSample, training: Sequence[str]
) -> list[dict[str, Any]]:
    seen = set(training)
    slices: dict[str, Tensor] = {
        "the hard mix": torch.ones(len(test.strings), dtype=torch.bool),
        "hard-mix strings absent from the training data": torch.tensor(
            [text not in seen for text in test.strings]
        ),
        "balanced strings of the hard mix": verdicts.labels == 1,
        "unbalanced strings of the hard mix": verdicts.labels == 0,
    }
    for category, title in CATEGORY_TITLES.items():
        slices[title] = torch.tensor([category == name for name in test.categories])
    facts: list[dict[str, Any]] = []
    for title, rows in slices.items():
        n = int(rows.sum())
        promised = PROMISED if title == "the hard mix" else None
        accuracy = verdicts.accuracy(rows)
        facts.append(_save.fact(f"Accuracy on {title}.", accuracy, "share", n, at_least=promised))
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
        (FAMILY_CLAIM, family),
        ("Accuracy on random strings of odd length, which were never trained.", odd),
        ("Accuracy on 1 to 20 pairs side by side.", ["()" * n for n in range(1, 21)]),
        ("Accuracy on 1 to 20 pairs nested.", ["(" * n + ")" * n for n in range(1, 21)]),
    )
    return [
        _save.fact(claim, Verdicts.of(judge, strings).accuracy(), "share", len(strings))
        for claim, strings in rows
    ]


def _prose(
    verdicts: Mapping[int, Verdicts],
    recipe: Recipe,
    runs: Sequence[Run],
    front: Mapping[str, Any],
) -> str:
    first = verdicts[runs[0].seed]
    value = {row["claim"]: row["value"] for row in front["facts"]}
    missed, accepted = (1 - first.accuracy(first.labels == label) for label in (1, 0))
    _save.require(missed > accepted, "the card says that balanced strings are missed more often")
    _save.require(value[SHORT_CLAIM] == 1, "the card says that there are no short errors")
    seeds = [
        f"| {title} | {run.pinned_step:,} | {judged.accuracy():.2%} | {judged.loss():.4f} |"
        for title, run, judged in zip(_titles(runs), runs, verdicts.values(), strict=True)
    ]
    tables = [
        _paren_roles.table(title.partition(" (")[0], rows)
        for title, rows in zip(_titles(runs), front["roles"].values(), strict=True)
    ]
    of_embedding = [
        row["feature"]
        for rows in front["roles"].values()
        for row in rows
        if row["component"] == "embedding"
    ]
    _save.require(set(of_embedding) == {CONSTANT}, "the card says that the embedding has no role")
    said = ROLES.format(n=SWAPPED, groups=GROUPS)
    return PROSE.format(
        strings=recipe.strings,
        steps=recipe.steps,
        batch=recipe.batch,
        optimizer=recipe.optimizer,
        held_out=recipe.held_out,
        conversion=max(run.conversion_error for run in runs),
        n=len(first.strings),
        seeds="\n".join(seeds),
        exhaustive=EXHAUSTIVE,
        shortest=min(len(text) for text in first.errors),
        missed=missed,
        accepted=accepted,
        family=value[FAMILY_CLAIM],
        roles="\n\n".join([said, *tables]),
    )


def _titles(runs: Sequence[Run]) -> list[str]:
    """The seeds as the card calls them."""
    others = [f"seed {run.seed} (`@{label(run.seed)}`)" for run in runs[1:]]
    return [f"seed {runs[0].seed} (this model)", *others]
