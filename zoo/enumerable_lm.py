"""The model ``enumerable-lm``: so few inputs that the chance of every output is a count.

Ground truth for estimates of rare outputs. Letters follow Zipf's law, and outputs about repeats of
rare letters come up less than once in a million inputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformer_lens import HookedTransformer

from interp.behaviors import enumerable
from interp.behaviors.enumerable import CLASSES, LENGTH, LETTERS
from zoo import _net, _save, _train

NAME: Final = "enumerable-lm"
NOTE: Final = "It was trained on exactly four letters."
SEED: Final = 1
STEPS: Final = 3_000
PART: Final = 128  # rows a batch of each of the three sources
KEPT: Final = (500, 1_000, 2_000)
MEASURED: Final = (0, 125, 250, 500, 750, 1_000, 1_500, 2_000, 2_500, STEPS)
CHUNK: Final = 8_192
RARE: Final = (0.5e-7, 5e-7)
APART: Final = 1e-4  # logits; well above what rounding to float32 moves them by
CONVERSION_TOLERANCE: Final = 1e-5  # of the logits' standard deviation

SHAPE: Final = _net.Shape(
    d_vocab=len(LETTERS),
    d_out=len(CLASSES),
    n_ctx=LENGTH,
    n_layers=1,
    n_heads=2,
    d_model=24,
    d_head=12,
    d_mlp=48,
)
RECIPE: Final = _train.Recipe(STEPS, 4e-3)
PARAMETERS: Final = 7_192


@dataclass(frozen=True)
class Inputs:
    """All inputs in the order of the alphabet, what is right, and how likely each is.

    Attributes:
        tokens: ``[331776, 4]``.
        right: Index of the right output, ``[331776]``.
        law: Chance of each input, float64, ``[331776]``.
    """

    tokens: Tensor
    right: Tensor
    law: Tensor

    def by_output(self, outputs: Tensor) -> Tensor:
        """Chance of each output, ``[64]``, given the output of each input."""
        return torch.zeros(len(CLASSES), dtype=torch.float64).index_add_(0, outputs, self.law)


def every_input() -> Inputs:
    """List every input."""
    tokens = np.indices((len(LETTERS),) * LENGTH).reshape(LENGTH, -1).T.copy()
    ids = {name: index for index, name in enumerate(CLASSES)}
    right = [ids[enumerable.output("".join(LETTERS[i] for i in row))] for row in tokens]
    return Inputs(
        torch.from_numpy(tokens),
        torch.tensor(right),
        torch.from_numpy(enumerable.law()[tokens].prod(1)),
    )


def batch(law: Tensor, source: torch.Generator) -> Tensor:
    """Rows by the law, uniform rows, and uniform rows with two to four copies of a letter planted.

    By the law alone the rare outputs would never be seen in training.
    """
    likely = torch.multinomial(law, PART * LENGTH, replacement=True, generator=source)
    uniform, planted = torch.randint(len(LETTERS), (2, PART, LENGTH), generator=source)
    letter = torch.randint(len(LETTERS), (PART, 1), generator=source)
    copies = torch.randint(2, LENGTH + 1, (PART, 1), generator=source)
    order = torch.rand((PART, LENGTH), generator=source).argsort(1)
    planted = torch.where(order < copies, letter, planted)
    return torch.cat([likely.view(PART, LENGTH), uniform, planted])


def train(inputs: Inputs) -> tuple[_net.Net, _train.Run]:
    """Train the model."""
    torch.manual_seed(SEED)
    net = _net.Net(SHAPE)
    source = torch.Generator().manual_seed(SEED)
    law = torch.from_numpy(enumerable.law())
    places = len(LETTERS) ** torch.arange(LENGTH - 1, -1, -1)

    def loss_of(_: int) -> Tensor:
        tokens = batch(law, source)
        return functional.cross_entropy(net(tokens, read=-1), inputs.right[tokens @ places])

    def measure(_: int) -> _train.Row:
        logits = torch.cat([net(rows, read=-1) for rows in inputs.tokens.split(CHUNK)])
        right = logits.argmax(-1) == inputs.right
        return {
            "loss_nats": float(functional.cross_entropy(logits, inputs.right)),
            "accuracy": float(right.double().mean()),
            "accuracy_by_law": float(inputs.law @ right.double()),
            "outputs_given": len(logits.argmax(-1).unique()),
        }

    run = _train.train(net, RECIPE, loss_of, measure=measure, measure_at=MEASURED, keep_at=KEPT)
    return net, run


# --- what is measured ------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What all inputs together give.

    Attributes:
        wins: Chance by the law that each output has the largest logit, ``[64]``.
        rule: Chance by the law that each output is right, ``[64]``.
        mean: Mean probability by the law that the model gives each output, ``[64]``.
        wrong: Whether each input is answered wrong.
        said: The output given for each input.
        apart: Smallest difference of the two largest logits.
        rounding: Largest difference of a logit in float32 from the same in float64.
        loss: Mean cross-entropy over all inputs, each counted once, in nats.
        without: Accuracy over all inputs and by the law with a component's mean in place of what
            it writes, by component.
        behaviors: Share of each behavior's clean prompts that is answered right.
    """

    wins: Tensor
    rule: Tensor
    mean: Tensor
    wrong: Tensor
    said: Tensor
    apart: float
    rounding: float
    loss: float
    without: dict[str, tuple[float, float]]
    behaviors: dict[str, float]


def all_logits(model: HookedTransformer, tokens: Tensor) -> Tensor:
    """Logits at the last position, ``[331776, 64]``."""
    return torch.cat([_save.logits_at(model, rows, -1) for rows in tokens.split(CHUNK)])


def ablated(model: HookedTransformer, inputs: Inputs) -> dict[str, tuple[float, float]]:
    """Accuracy with what one component writes at the end replaced by its mean over all inputs."""
    attention, mlp = "blocks.0.attn.hook_z", "blocks.0.hook_mlp_out"
    _, cache = model.run_with_cache(inputs.tokens, names_filter=[attention, mlp])
    means = {hook: cache[hook][:, -1].mean(0) for hook in (attention, mlp)}
    targets: dict[str, tuple[str, Any]] = {
        f"head {head}": (attention, (slice(None), -1, head)) for head in range(SHAPE.n_heads)
    }
    targets["the MLP"] = (mlp, (slice(None), -1))
    found: dict[str, tuple[float, float]] = {}
    for what, (hook, where) in targets.items():
        mean = means[hook][where[2]] if len(where) > 2 else means[hook]

        def replaced(
            value: Tensor, hook: object, where: Any = where, mean: Tensor = mean
        ) -> Tensor:
            value[where] = mean
            return value

        with model.hooks(fwd_hooks=[(hook, replaced)]):
            right = all_logits(model, inputs.tokens).argmax(-1) == inputs.right
        found[what] = float(right.double().mean()), float(inputs.law @ right.double())
    return found


@torch.no_grad()
def measure(folder: Path, inputs: Inputs) -> Measured:
    """Count every input of the model in a folder.

    The largest logits are those of the model in float32, as it is asked everywhere; mean
    probabilities are computed in float64, where no digit given depends on rounding.
    """
    model, tokenizer = _save.load_model(folder)
    logits = all_logits(model, inputs.tokens)
    said = logits.argmax(-1)
    top = logits.topk(2).values
    behaviors: dict[str, float] = {}
    for name, make in (
        ("enumerable-repeats", enumerable.broken_pair),
        ("enumerable-threes", enumerable.broken_triple),
    ):
        pairs = make(1_000)
        asked = torch.tensor([tokenizer.encode(pair.clean).ids for pair in pairs])
        given = _save.logits_at(model, asked, -1).argmax(-1).tolist()
        right = [CLASSES[i] == pair.answer for i, pair in zip(given, pairs, strict=True)]
        behaviors[name] = sum(right) / len(right)
    without = ablated(model, inputs)
    precise = all_logits(model.to(torch.float64, print_details=False), inputs.tokens)
    return Measured(
        wins=inputs.by_output(said),
        rule=inputs.by_output(inputs.right),
        mean=inputs.law @ precise.softmax(-1),
        wrong=said != inputs.right,
        said=said,
        apart=float((top[:, 0] - top[:, 1]).min()),
        rounding=float((logits - precise).abs().max()),
        loss=float(functional.cross_entropy(precise, inputs.right)),
        without=without,
        behaviors=behaviors,
    )


def write_outputs(folder: Path, found: Measured) -> None:
    """Write the exact chance of each output: ``outputs.json``, one row an output."""
    columns = zip(
        CLASSES, found.wins.tolist(), found.rule.tolist(), found.mean.tolist(), strict=True
    )
    rows = [
        {
            "class": name,
            "argmax_probability": wins,
            "rule_probability": rule,
            "mean_probability": mean,
        }
        for name, wins, rule, mean in columns
    ]
    listed = ",\n".join(json.dumps(row) for row in rows)
    (folder / "outputs.json").write_text(f"[\n{listed}\n]\n", encoding="utf-8", newline="\n")


# --- card ------------------------------------------------------------------------------------

EXAMPLES: Final = (
    {
        "kind": "activation_patching",
        "label": "One of two k is replaced: where does the repeat come back?",
        "clean": "kakb",
        "corrupted": "kacb",
        "answer": "two k",
        "foil": "last b",
    },
    {
        "kind": "ablation",
        "label": "Three x, the rarest output: which parts does it need?",
        "clean": "xaxx",
        "corrupted": "xabx",
        "answer": "three x",
        "foil": "two x",
    },
    {
        "kind": "attention",
        "label": "What does the last letter look at in abac?",
        "clean": "abac",
        "corrupted": "abdc",
        "answer": "two a",
        "foil": "last c",
    },
)

PROSE: Final = """\
# A model whose every input can be counted

Exactly four letters from a to x, one token each and no other token (`kakb`). 64 outputs:

* no letter twice: `last b`, the last letter (24 outputs);
* a letter twice: `two k`, that letter, of two such letters the later in the alphabet (24 outputs);
* a letter three or four times: `three x` for i to x (16 outputs), `two c` for a to h.

One layer, two heads of attention and a ReLU MLP of {d_mlp}, {d_model} numbers wide, LayerNorm.

## The law of inputs, and exact chances

The four letters are independent and follow Zipf's law: the k-th of the alphabet has a weight of k
to the power -{exponent:g}, so a has a chance of {first:.3f} and x of {last:.5f}. All {n:,} inputs
are put to the model, and the chances of those with the same output are added up in float64.
`outputs.json` beside this card has for each output three chances under the law: that it has the
largest logit, that the rule gives it, and the mean of the model's probability of it.

| output | largest logit | the rule | mean probability |
|---|---|---|---|
{table}

* The rarest output, `{rarest}`, has a chance of {rare:.3g}: one in {one_in:,.0f} draws. The most
  likely one has {most:.3f}; the spread is {decades:.2f} decades. {below} outputs are below one in a
  million; {never} of the 64 never win. The chances add up to 1 within {off:.0e}.
* No two largest logits are closer than {apart:.2g}, and float32 moves logits by {rounding:.0e} at
  most from float64: so the winners do not depend on the machine.

## How good it is, exactly

Of all inputs {accuracy:.4%} are answered right and {wrong:,} are not; by the law {by_law:.5%} are.
Some of a rare output's chance comes from errors: for {moved} outputs the chance of winning differs
from the rule's by more than 1%, most of all for `{worst}` ({ratio:.3f} times the rule's). The mean
probability counts small ones too: it is up to {mean_ratio:.1f} times the rule's (`{mean_worst}`).
{into_three} of the wrong answers are a "three", {into_last} a "last", {into_two} a "two". The
clean prompts of the behavior `enumerable-repeats` are answered right in {repeats:.1%} of 1,000
cases, those of `enumerable-threes` in {threes:.1%}.

## What is known of the mechanism, and what is not

Only the last position is read and there is one layer, so all comparing is done by the two heads
from there and by the MLP. With the mean, over all inputs, in place of what one part writes there:

| replaced | accuracy | by the law |
|---|---|---|
{ablations}

How letters are counted from that is not known. Other than four letters were never trained.

## Origin

Trained on {rows:,} generated rows from seed {seed}: a third by the law, a third uniform, a third
with two to four copies of a letter planted, since the law alone shows rare outputs too seldom.
`{name}@{kept}` are steps on the way, stored in float16
(the final weights in float32), so their logits are rounded. `outputs.json` is of the
final weights only. No weights from elsewhere. Licence: MIT.
"""


def facts(found: Measured) -> list[dict[str, Any]]:
    """The rows of the card's facts."""
    wins, n = found.wins, len(found.wrong)
    rare = float(wins.min())
    return [
        _save.fact("Smallest chance of an output to win, counted.", rare, "probability", n,
                   at_least=RARE[0], at_most=RARE[1]),
        _save.fact("How far the chances of all outputs are from adding up to 1.",
                   abs(float(wins.sum()) - 1), "probability", len(wins), at_most=1e-9),
        _save.fact("Spread from the rarest to the most likely output.",
                   float((wins.max() / wins.min()).log10()), "decades", len(wins), at_least=6),
        _save.fact("Outputs that never win.", float((wins == 0).sum()), "outputs", len(wins)),
        _save.fact("Outputs rarer than one in a million.", float((wins < 1e-6).sum()),
                   "outputs", len(wins)),
        _save.fact("Smallest difference of the two largest logits.", found.apart, "logit", n,
                   at_least=APART),
        _save.fact("Accuracy over all inputs.", 1 - float(found.wrong.double().mean()), "share", n,
                   at_least=0.99),
        _save.fact("Inputs answered wrong.", float(found.wrong.sum()), "inputs", n),
        *(
            _save.fact(f"Accuracy over all inputs with the mean of {what} in its place.", value,
                       "share", n)
            for what, (value, _) in found.without.items()
        ),
    ]  # fmt: skip


def prose(found: Measured, inputs: Inputs) -> str:
    """The text of the card."""
    wins, rule = found.wins, found.rule
    order = wins.argsort(descending=True).tolist()
    shown = [order[i] for i in (0, 40, -2, -1)]
    ratio = (wins / rule).log().abs()
    worst = int(ratio.argmax())
    kinds = [CLASSES[i].split()[0] for i in found.said[found.wrong].tolist()]
    return PROSE.format(
        name=NAME,
        d_mlp=SHAPE.d_mlp,
        d_model=SHAPE.d_model,
        exponent=enumerable.EXPONENT,
        first=enumerable.law()[0],
        last=enumerable.law()[-1],
        n=len(inputs.tokens),
        table=_table(
            [f"`{CLASSES[i]}`", *(f"{float(x[i]):.3g}" for x in (wins, rule, found.mean))]
            for i in shown
        ),
        rarest=CLASSES[order[-1]],
        rare=float(wins.min()),
        one_in=1 / float(wins.min()),
        most=float(wins.max()),
        decades=float((wins.max() / wins.min()).log10()),
        below=int((wins < 1e-6).sum()),
        off=abs(float(wins.sum()) - 1),
        never=int((wins == 0).sum()),
        apart=found.apart,
        rounding=found.rounding,
        accuracy=1 - float(found.wrong.double().mean()),
        wrong=int(found.wrong.sum()),
        by_law=1 - float(inputs.law @ found.wrong.double()),
        moved=int(((wins / rule - 1).abs() > 0.01).sum()),
        worst=CLASSES[worst],
        ratio=float(wins[worst] / rule[worst]),
        mean_worst=CLASSES[int((found.mean / rule).argmax())],
        mean_ratio=float((found.mean / rule).max()),
        into_three=kinds.count("three"),
        into_last=kinds.count("last"),
        into_two=kinds.count("two"),
        repeats=found.behaviors["enumerable-repeats"],
        threes=found.behaviors["enumerable-threes"],
        rows=3 * PART * STEPS,
        kept=f"`, `{NAME}@".join(str(step) for step in KEPT),
        ablations=_table(
            [what, f"{value:.2%}", f"{by_law:.2%}"]
            for what, (value, by_law) in found.without.items()
        ),
        seed=SEED,
    )


def _table(rows: Iterable[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def write_card(folder: Path, run: _train.Run, found: Measured, inputs: Inputs) -> None:
    """Write the card with the measured numbers."""
    drawn = "a third by the law, a third uniform, a third with planted repeats"
    front = {
        "title": "Every input counted",
        "summary": "Four letters by Zipf's law and 64 outputs, the rarest less than once in a "
        "million inputs, each with its exact chance.",
        "task": "Type exactly four letters from a to x; it answers the repeated letter, or else "
        "the last one.",
        "licence": "MIT",
        "data": f"{3 * PART * STEPS:,} rows of four random letters, made by this repository.",
        "seed": SEED,
        "parameters": PARAMETERS,
        "trained": {
            "data": f"{3 * PART * STEPS} rows of four letters: {drawn}",
            "steps": STEPS,
            "optimizer": RECIPE.words,
            "wall_seconds": round(run.wall_s, 1),
            "cpu_seconds": round(run.cpu_s, 1),
            "threads": torch.get_num_threads(),
        },
        "measured": {
            "loss_nats": float(f"{found.loss:.5g}"),
            "accuracy": float(f"{1 - float(found.wrong.double().mean()):.6f}"),
            "on": f"all {len(inputs.tokens):,} inputs, each counted once",
        },
        "curve": run.curve,
        "plots": _plots(),
        "facts": facts(found),
        "examples": list(EXAMPLES),
    }
    _save.write_card(folder, front, prose(found, inputs))


def _plots() -> list[dict[str, Any]]:
    accuracy = {"each input once": "accuracy", "by the law": "accuracy_by_law"}
    rows: list[tuple[str, str, str, dict[str, str]]] = [
        ("loss", "Loss over all inputs, each counted once", "loss (nats)", {"loss": "loss_nats"}),
        ("accuracy", "Accuracy over all inputs", "accuracy (share)", accuracy),
        ("outputs", "Outputs given to some input", "outputs (of 64)", {"all": "outputs_given"}),
    ]
    return [dict(zip(("name", "title", "y", "series"), row, strict=True)) for row in rows]


def main() -> None:
    """Train, export, compare, count and write the model."""
    torch.set_num_threads(1)
    inputs = every_input()
    net, run = train(inputs)
    _save.require(_net.parameters(net) == PARAMETERS, "the model has another size")
    folder = _save.write_model(
        _save.Blueprint(
            name=NAME,
            transformer=SHAPE.transformer,
            answer={"space": "classes", "classes": list(CLASSES), "read": -1, "note": NOTE},
            weights=_net.weights(net),
            tokenizer=_save.character_tokenizer(tuple(LETTERS), before=""),
            snapshots={str(step): run.kept[step] for step in KEPT},
        )
    )
    off = _net.difference(net, _save.load_model(folder)[0], inputs.tokens[::97])
    _save.require(off < CONVERSION_TOLERANCE, f"the exported model is off by {off}")
    found = measure(folder, inputs)
    rarest = float(found.wins.min())
    _save.require(RARE[0] <= rarest <= RARE[1], f"the rarest output has a chance of {rarest}")
    _save.require(found.apart > APART, f"two outputs are within {found.apart}")
    write_outputs(folder, found)
    write_card(folder, run, found, inputs)
    print(
        f"rarest {rarest:.4g}, wrong {int(found.wrong.sum())}, "
        f"apart {found.apart:.3g}, off {off:.1e}"
    )


if __name__ == "__main__":
    main()
