"""The model ``max-of-4``: one head of attention that names the largest of four numbers.

The reference model of compact proofs: so small that its accuracy over every input is a count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from interp.behaviors import maximum
from zoo import _enumerate, _net, _save, _train

NAME: Final = "max-of-4"
NOTE: Final = "It was trained on exactly four numbers, and answers at the last one only."
NUMBERS: Final = 64
LENGTH: Final = 4
SEEDS: Final = (1, 2, 3)  # the first is the model, the others are snapshots
STEPS: Final = 3_000
BATCH: Final = 128
KEPT: Final = (100, 300, 1_000)
MEASURED: Final = (0, 50, 100, 200, *range(300, STEPS + 1, 300))
HELD_OUT: Final = 20_000
COMPARED: Final = 10_000
ENOUGH: Final = 0.999
CONVERSION_TOLERANCE: Final = 1e-5  # of the logits' standard deviation
PATHS_TOLERANCE: Final = 1e-5  # likewise

SHAPE: Final = _net.Shape(
    d_vocab=NUMBERS,
    d_out=NUMBERS,
    n_ctx=LENGTH,
    n_layers=1,
    n_heads=1,
    d_model=32,
    d_head=32,
    norm=None,
    biases=False,
)
RECIPE: Final = _train.Recipe(
    STEPS, 1e-3, "constant", warm=0.0, betas=(0.9, 0.999), decay=0.01, clip=0.0
)


def draw(count: int, seed: int) -> Tensor:
    """Rows of four uniform numbers."""
    return torch.randint(NUMBERS, (count, LENGTH), generator=torch.Generator().manual_seed(seed))


def train(seed: int) -> tuple[_net.Net, _train.Run]:
    """Train one model."""
    torch.manual_seed(seed)
    net = _net.Net(SHAPE)
    source = torch.Generator().manual_seed(seed)
    fresh = draw(HELD_OUT, 1_000)

    def loss_of(_: int) -> Tensor:
        tokens = torch.randint(NUMBERS, (BATCH, LENGTH), generator=source)
        return functional.cross_entropy(net(tokens, read=-1), tokens.amax(1))

    def measure(_: int) -> _train.Row:
        logits, right = net(fresh, read=-1), fresh.amax(1)
        return {
            "loss_nats": float(functional.cross_entropy(logits, right)),
            "accuracy": float((logits.argmax(-1) == right).float().mean()),
        }

    run = _train.train(
        net, RECIPE, loss_of, measure=measure, measure_at=MEASURED, keep_at=(*KEPT, STEPS)
    )
    return net, run


# --- what is measured ------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What is known of the shipped weights.

    Attributes:
        exact: All inputs, by seed.
        without: Accuracy over all inputs with a path changed, by what is changed.
        paths: The tables of the first seed.
        alone: Its scores of a query's token with a key's, without the query's position.
        off: Largest difference of the tables' logits from the model's, in their std.
        converted: Likewise of the training net's.
        right: Share of the behavior's clean prompts whose answer is the model's.
    """

    exact: Mapping[int, _enumerate.Exact]
    without: Mapping[str, float]
    paths: _enumerate.Paths
    alone: Tensor
    off: float
    converted: float
    right: float

    @property
    def in_order(self) -> Tensor:
        """Whether the larger of two neighbouring numbers scores higher, ``[query, 63]``."""
        return self.paths.eqke.diff(dim=1) > 0

    @property
    def copies(self) -> Tensor:
        """Whether a number attended to raises its own logit most, ``[64]``."""
        return self.paths.evou.argmax(1) == torch.arange(NUMBERS)

    @property
    def ratios(self) -> tuple[float, float]:
        """First over second singular value of ``paths.eqke`` and of ``alone``."""
        values = [torch.linalg.svdvals(table) for table in (self.paths.eqke, self.alone)]
        with_position, without = (float(each[0] / each[1]) for each in values)
        return with_position, without


@torch.no_grad()
def measure(folder: Path, nets: Mapping[int, _net.Net]) -> Measured:
    """Count all inputs of the models in a folder."""
    model, tokenizer = _save.load_model(folder)
    rows = draw(COMPARED, 1_001)
    converted = _net.difference(nets[SEEDS[0]], model, rows)
    tables = {seed: _enumerate.paths(_net.weights(net)) for seed, net in nets.items()}
    own = tables[SEEDS[0]]
    logits = _save.logits_at(model, rows, -1)
    off = float((own.logits(rows) - logits).abs().max() / logits.std())
    u, s, v = torch.linalg.svd(own.eqke)
    changed = {
        "scores by the key's token cut to rank 1": replace(own, eqke=s[0] * u[:, :1] @ v[:1]),
        "no score by the key's position": replace(own, eqkp=torch.zeros_like(own.eqkp)),
        "no direct path": replace(own, direct=torch.zeros_like(own.direct)),
        "no scores: attention alike everywhere": replace(
            own, eqke=torch.zeros_like(own.eqke), eqkp=torch.zeros_like(own.eqkp)
        ),
    }
    pairs = maximum.lowered(1_000)
    asked = torch.tensor([tokenizer.encode(pair.clean).ids for pair in pairs])
    answers = torch.tensor([int(pair.answer) for pair in pairs])
    said = _save.logits_at(model, asked, -1).argmax(-1)
    return Measured(
        exact={seed: _enumerate.exact(table) for seed, table in tables.items()},
        without={what: _enumerate.exact(table).accuracy for what, table in changed.items()},
        paths=own,
        alone=_enumerate.scores_of_tokens(_net.weights(nets[SEEDS[0]])),
        off=off,
        converted=converted,
        right=float((said == answers).float().mean()),
    )


def inputs_by_gap(gap: int) -> int:
    """Number of inputs whose largest number is ``gap`` above the next smaller one."""
    return sum(
        (m - gap + 2) ** 4 - 2 * (m - gap + 1) ** 4 + (m - gap) ** 4 for m in range(gap, NUMBERS)
    )


def gaps(wrong: Tensor) -> Tensor:
    """How far the largest number of each row is above the next smaller one; 0 if all agree."""
    largest = wrong.amax(1, keepdim=True)
    smaller = wrong.masked_fill(wrong == largest, -1).amax(1)
    return torch.where(smaller < 0, 0, largest[:, 0] - smaller)


# --- card ------------------------------------------------------------------------------------

EXAMPLES: Final = (
    {
        "kind": "attention",
        "label": "Does the last position look at the largest number?",
        "clean": "3 17 60 5",
        "corrupted": "3 17 4 5",
        "answer": "60",
        "foil": "17",
    },
    {
        "kind": "activation_patching",
        "label": "The largest number is made small: where does 52 come back?",
        "clean": "11 52 40 23",
        "corrupted": "11 9 40 23",
        "answer": "52",
        "foil": "40",
    },
    {
        "kind": "direct_logit_attribution",
        "label": "Neighbours, 31 against 30: what do the head and the direct path write?",
        "clean": "31 8 30 2",
        "corrupted": "1 8 30 2",
        "answer": "31",
        "foil": "30",
    },
)

PROSE: Final = """\
# The largest of four numbers

Four numbers from 0 to 63, typed with spaces between them (`3 17 60 5`); the model answers the
largest, read at the last number. One layer, one head of attention, 32 numbers wide, learned
positions, no MLP, no norm, no bias: the model on which Gross et al. (2024, Compact Proofs of Model
Performance via Mechanistic Interpretability, arXiv:2406.11779) compare proofs, trained anew.

## How good it is, exactly

All 64⁴ = {n:,} inputs were counted through the paths below, in float64: **{accuracy:.4%}** are
answered right, {wrong:,} are not, and the mean loss is {loss:.5f} nats. The paths' logits differ
from the model's by at most {off:.0e} of their standard deviation on {compared:,} random inputs.
{close} of all inputs have a right logit within {close_by:g} of another, where rounding may decide.
Two other seeds, asked as `{name}@seed-2` and `{name}@seed-3`, reach {others}.
Steps of the first seed's training are `{name}@{kept}`.
All of these are stored in float32, as the final weights are.

## The mechanism

Without norm and MLP the logits are a sum of paths, each a table over numbers and positions.

* **Where it looks.** The score of a number for the head grows with its value: of all pairs of
  neighbours, {order:.1%} are in order, over 64 queries; by the mean over queries {mean_order:.1%}.
  Out of order are {falls}. One step is worth {step:.2f} on average: the larger of two neighbours
  gets {times:.1f} times the attention.
* **The same for every query.** The table of scores has rank 1 but for noise: its first singular
  value is {ratio:.0f} times the second. A query is a number at the last position here. Part of the
  ratio is that position, which all queries share; of the numbers alone it is {alone:.0f}.
* **What it copies.** Attending to a number raises its own logit most for {copies} of 64 numbers;
  the others are {not_copied}.
* **What is left over.** Accuracy over all inputs with one path changed:

| changed | accuracy |
|---|---|
{table}

## Where it is wrong

* Half of the errors have a largest number of {median} or less, {low:.1%} of at most {low_max},
  which only {low_share:.3%} of all inputs have. Such numbers were rarely the answer in training.
* {near:.1%} of the errors have a second number right below the largest; of all such inputs
  {near_rate:.3%} are wrong, of all others {far_rate:.4%}.
* In {runner:.1%} of the errors a number that is in the prompt is answered instead.

## What is not known

How much of this a short proof could guarantee: nothing here is a bound. Why just these neighbours
are out of order. With fewer than four numbers the answer is read at a position where the model was
never trained.

The clean prompts of the behavior `max-of-4` are answered right in {right:.1%} of 1,000 cases.

## Origin

Uniform random numbers from seed {seed}; no weights from elsewhere. Licence: MIT.
"""
LOW: Final = 10


def facts(found: Measured) -> list[dict[str, Any]]:
    """The rows of the card's facts."""
    own, everything = found.exact[SEEDS[0]], NUMBERS**LENGTH
    rows = [
        _save.fact("Accuracy over all inputs, counted.", own.accuracy, "share", everything,
                   at_least=ENOUGH),
        _save.fact("Loss over all inputs.", own.loss, "nats", everything),
    ]  # fmt: skip
    rows += [
        _save.fact(f"Accuracy over all inputs of seed {seed}.", found.exact[seed].accuracy,
                   "share", everything)
        for seed in SEEDS[1:]
    ]  # fmt: skip
    rows += [
        _save.fact("Neighbouring numbers whose scores are in order, over all queries.",
                   float(found.in_order.double().mean()), "share", found.in_order.numel()),
        _save.fact("Largest over second singular value of the scores of queries (number and last "
                   "position) with numbers.", found.ratios[0], "ratio", 1),
        _save.fact("Largest over second singular value of the scores of numbers alone.",
                   found.ratios[1], "ratio", 1),
        _save.fact("Numbers that, attended to, raise their own logit most.",
                   float(found.copies.double().mean()), "share", NUMBERS),
    ]  # fmt: skip
    rows += [
        _save.fact(f"Accuracy over all inputs, {what}.", value, "share", everything)
        for what, value in found.without.items()
    ]
    return rows


def prose(found: Measured) -> str:
    """The text of the card."""
    own, everything = found.exact[SEEDS[0]], NUMBERS**LENGTH
    largest, gap = own.wrong.amax(1), gaps(own.wrong)
    near, beside = int((gap == 1).sum()), inputs_by_gap(1)
    mean_scores = found.paths.eqke.mean(0)
    falls = (mean_scores.diff() <= 0).nonzero().flatten().tolist()
    named = (own.wrong == own.said[:, None]).any(1)
    return PROSE.format(
        name=NAME,
        n=everything,
        accuracy=own.accuracy,
        wrong=len(own.wrong),
        loss=own.loss,
        off=found.off,
        compared=COMPARED,
        close=own.close,
        close_by=_enumerate.CLOSE,
        others=" and ".join(f"{found.exact[seed].accuracy:.4%}" for seed in SEEDS[1:]),
        kept=f"`, `{NAME}@".join(str(step) for step in KEPT),
        order=float(found.in_order.double().mean()),
        mean_order=float((mean_scores.diff() > 0).double().mean()),
        falls=", ".join(f"{t} and {t + 1}" for t in falls),
        step=float(mean_scores.diff().mean()),
        times=float(mean_scores.diff().mean().exp()),
        ratio=found.ratios[0],
        alone=found.ratios[1],
        copies=int(found.copies.sum()),
        not_copied=", ".join(str(t) for t in (~found.copies).nonzero().flatten().tolist()),
        table="\n".join(f"| {what} | {value:.4%} |" for what, value in found.without.items()),
        median=int(largest.median()),
        low=float((largest <= LOW).double().mean()),
        low_max=LOW,
        low_share=(LOW + 1) ** LENGTH / everything,
        near=near / len(gap),
        near_rate=near / beside,
        far_rate=(len(gap) - near) / (everything - beside),
        runner=float(named.double().mean()),
        right=found.right,
        seed=SEEDS[0],
    )


def write_card(folder: Path, run: _train.Run, found: Measured) -> None:
    """Write the card with the measured numbers."""
    own = found.exact[SEEDS[0]]
    front = {
        "title": "The largest of four numbers",
        "summary": "One head of attention that names the largest of four numbers, so small that "
        "all 16,777,216 inputs can be counted.",
        "task": "Type four numbers from 0 to 63 with spaces between them; it answers the largest.",
        "licence": "MIT",
        "data": f"{STEPS * BATCH:,} rows of four uniform random numbers, made by this repository.",
        "seed": SEEDS[0],
        "parameters": 8_320,
        "trained": {
            "data": f"{STEPS * BATCH} rows of four uniform numbers",
            "steps": STEPS,
            "optimizer": RECIPE.words,
            "wall_seconds": round(run.wall_s, 1),
            "cpu_seconds": round(run.cpu_s, 1),
            "threads": torch.get_num_threads(),
        },
        "measured": {
            "loss_nats": float(f"{own.loss:.5g}"),
            "accuracy": float(f"{own.accuracy:.6f}"),
            "on": "all 16,777,216 inputs",
        },
        "curve": run.curve,
        "plots": [
            {
                "name": "loss",
                "title": "Loss on 20,000 random inputs",
                "y": "loss (nats)",
                "series": {"loss": "loss_nats"},
            },
            {
                "name": "accuracy",
                "title": "Accuracy on 20,000 random inputs",
                "y": "accuracy (share)",
                "series": {"accuracy": "accuracy"},
            },
        ],
        "facts": facts(found),
        "examples": list(EXAMPLES),
    }
    _save.write_card(folder, front, prose(found))


def main() -> None:
    """Train, export, compare, count and write the model."""
    torch.set_num_threads(1)
    done = {seed: train(seed) for seed in SEEDS}
    nets = {seed: net for seed, (net, _) in done.items()}
    own, run = done[SEEDS[0]]
    _save.require(_net.parameters(own) == 8_320, "the model has another size")
    snapshots = {str(step): run.kept[step] for step in KEPT}
    snapshots |= {f"seed-{seed}": _net.weights(nets[seed]) for seed in SEEDS[1:]}
    folder = _save.write_model(
        _save.Blueprint(
            name=NAME,
            transformer=SHAPE.transformer,
            answer={"space": "tokens", "read": -1, "note": NOTE},
            weights=_net.weights(own),
            tokenizer=_save.word_tokenizer([str(number) for number in range(NUMBERS)]),
            snapshots=snapshots,
            half=False,
        )
    )
    found = measure(folder, nets)
    _save.require(found.converted < CONVERSION_TOLERANCE, f"the export is off: {found.converted}")
    _save.require(found.off < PATHS_TOLERANCE, f"the paths are off: {found.off}")
    for seed, exact in found.exact.items():
        print(f"seed {seed}: {exact.accuracy:.6f} of {exact.n} inputs, loss {exact.loss:.6f}")
    _save.require(found.exact[SEEDS[0]].accuracy >= ENOUGH, "too many inputs are wrong")
    write_card(folder, run, found)
    print(found.without, f"off {found.off:.1e}, converted {found.converted:.1e}")


if __name__ == "__main__":
    main()
