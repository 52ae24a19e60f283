"""What the card of ``mod-add`` says: measurements of the final weights, phases, and prose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor
from transformer_lens import HookedTransformer

from interp.behaviors import modular
from zoo import _modadd_fourier as fourier
from zoo import _save, _train

P: Final = modular.MODULUS
READ: Final = 2
NEURON_SHARE: Final = 0.85
LEARNT: Final = 0.999
_FORMED: Final = 1.0  # nats of restricted loss, below which the key frequencies alone do well
_EXACT: Final = 0.1  # nats of it, below which they do almost all

EXAMPLES: Final = (
    {
        "kind": "activation_patching",
        "label": "Which heads carry the second number to the equals sign?",
        "clean": "17 30 =",
        "corrupted": "17 41 =",
        "answer": "47",
        "foil": "5",
    },
    {
        "kind": "logit_lens",
        "label": "After which part is the sum there?",
        "clean": "25 40 =",
        "corrupted": "25 3 =",
        "answer": "12",
        "foil": "28",
    },
    {
        "kind": "direct_logit_attribution",
        "label": "Do the heads or the MLP write the sum?",
        "clean": "50 50 =",
        "corrupted": "50 8 =",
        "answer": "47",
        "foil": "5",
    },
)


@dataclass(frozen=True)
class Found:
    """What is measured of the final weights; ``[a, b, c]`` logits are in float64.

    Attributes:
        keys: Key frequencies, the largest first.
        shares: Share of each frequency 1 to 26 in the embedding's Fourier power.
        accuracies: Shares of right answers on sums trained on, on the others, and on all sums with
            only the key frequencies in the embedding and with none of them.
        losses: Mean losses in nats: trained sums, other sums, restricted and excluded.
        logits: Shares of the logits' variance at the key frequencies.
        neurons: Share of the neurons of which one frequency explains ``NEURON_SHARE``.
        behavior: Of each pair of the behavior, whether its clean prompt is answered right.
    """

    keys: list[int]
    shares: Tensor
    accuracies: dict[str, float]
    losses: dict[str, float]
    logits: fourier.Shares
    neurons: float
    behavior: list[bool]


@torch.no_grad()
def measure(model: HookedTransformer, weights: Mapping[str, Tensor], keys: list[int]) -> Found:
    """Measure the exported model on every sum."""
    number = torch.arange(P)
    sums = torch.cat([torch.cartesian_prod(number, number), torch.full((P * P, 1), P)], 1)
    right, trained = fourier.answers().flatten(), torch.from_numpy(modular.trained().copy())
    logits, cache = model.run_with_cache(sums)
    read = _save.tensor(logits)[:, READ]
    hits = (read.argmax(1) == right).double()
    cube = read[:, :P].double().view(P, P, P)
    along, rest = fourier.split(cube, keys)
    accuracies = {
        "trained": float(hits[trained.flatten()].mean()),
        "test": float(hits[~trained.flatten()].mean()),
    }
    for name, keep in (("only_keys", True), ("without_keys", False)):
        model.load_state_dict(fourier.filtered(weights, keys, keep=keep), strict=False)
        changed = _save.logits_at(model, sums, READ).argmax(1)
        accuracies[name] = float((changed == right).double().mean())
    model.load_state_dict(dict(weights), strict=False)
    neurons = cache["post", 0][:, READ].view(P, P, -1)
    pairs = [modular.numbers(pair) for pair in modular.sums().pairs]
    return Found(
        keys,
        fourier.embedding_shares(weights),
        accuracies,
        {
            "trained": fourier.loss(cube, trained),
            "test": fourier.loss(cube, ~trained),
            "every": fourier.loss(cube),
            "restricted": fourier.loss(along),
            "excluded": fourier.loss(rest, trained),
        },
        fourier.shares(cube, keys),
        float((fourier.neuron_shares(neurons) >= NEURON_SHARE).double().mean()),
        [bool(hits[a * P + b]) for a, b in pairs],
    )


def first(curve: Sequence[_train.Row], series: str, reached: float) -> int:
    """The first step of the curve at which a series is at least so high.

    Raises:
        ValueError: It never is.
    """
    for row in curve:
        if row[series] >= reached:
            return int(row["step"])
    raise ValueError(f"{series} never reaches {reached}")


@dataclass(frozen=True)
class About:
    """How the model came about.

    Attributes:
        parameters: How many were trained.
        seed: Of weights.
        error: Of the exported model's logits, as a share of their standard deviation.
        rounding: Largest difference in test accuracy between a stored snapshot and the curve.
        trained: On what, for how long and with what.
        curve: Points of the training curve.
    """

    parameters: int
    seed: int
    error: float
    rounding: float
    trained: dict[str, Any]
    curve: list[_train.Row]

    @property
    def memorised(self) -> int:
        """Step at which the trained sums are known."""
        return first(self.curve, "train_accuracy", LEARNT)

    def restricted(self, nats: float) -> int:
        """First step at which the restricted loss is at most so high."""
        found = (row for row in self.curve if row["restricted_loss"] <= nats)
        return int(next(found)["step"])

    def at(self, step: int) -> _train.Row:
        """The point of the curve at a step."""
        return next(row for row in self.curve if row["step"] == step)

    @property
    def half(self) -> int:
        """Step at which half of the other sums are right."""
        return first(self.curve, "test_accuracy", 0.5)

    @property
    def learnt(self) -> int:
        """Step at which the other sums are right."""
        return first(self.curve, "test_accuracy", LEARNT)


def card(about: About, found: Found) -> tuple[dict[str, Any], str]:
    """Front matter and prose."""
    front = {
        "title": "Addition modulo 53",
        "summary": "One layer that knew its training sums by heart, and then learned to add.",
        "task": "Read two numbers below 53 and an equals sign, and give the sum modulo 53.",
        "licence": "MIT",
        "data": "Every sum of two numbers below 53; no data from elsewhere.",
        "seed": about.seed,
        "parameters": about.parameters,
        "trained": about.trained,
        "measured": {
            "loss_nats": float(f"{found.losses['test']:.5g}"),
            "accuracy": float(f"{found.accuracies['test']:.5g}"),
            "on": f"the {P * P - int(modular.trained().sum())} sums that it was not trained on",
        },
        "curve": about.curve,
        "plots": _plots(),
        "facts": _facts(about, found),
        "examples": list(EXAMPLES),
    }
    return front, _prose(about, found)


def _plots() -> list[dict[str, Any]]:
    drawn = (
        ("loss", "Loss on trained and other sums", "loss (nats)",
         {"trained sums": "train_loss", "other sums": "test_loss"}),
        ("accuracy", "Right answers", "accuracy (share)",
         {"trained sums": "train_accuracy", "other sums": "test_accuracy"}),
        ("parts", "Loss of the key frequencies alone, and without them", "loss (nats)",
         {"restricted (all sums)": "restricted_loss", "excluded (trained sums)": "excluded_loss"}),
        ("gini", "How few frequencies there are", "Gini coefficient (0 to 1)",
         {"embedding": "gini_embedding", "neurons to logits": "gini_neurons_to_logits"}),
        ("weights", "Size of the weights", "sum of squared weights (no unit)",
         {"all weights": "squared_weights"}),
    )  # fmt: skip
    return [
        {"name": name, "title": title, "y": y, "series": series, "log_x": name != "weights"}
        for name, title, y, series in drawn
    ]


def _facts(about: About, found: Found) -> list[dict[str, Any]]:
    every = P * P
    trained = int(modular.trained().sum())
    keys = found.keys
    in_keys = float(found.shares[[k - 1 for k in keys]].sum())
    says, losses, right = _save.fact, found.losses, found.accuracies
    kept = "only the key frequencies in the embedding of the numbers"
    formed = about.restricted(_FORMED)
    when = f"First of the {len(about.curve)} measured steps at which"
    variance = "Share of the logits' variance over sums and answers along"
    return [
        says("Accuracy on sums it was not trained on.", right["test"], "share",
             every - trained, at_least=LEARNT),
        says("Loss on sums it was not trained on.", losses["test"], "nats", every - trained),
        says("Accuracy on sums it was trained on.", right["trained"], "share", trained),
        says("Key frequencies: those with at least "
             f"{fourier.KEY_SHARE:.0%} of the Fourier power of the embedding of the numbers.",
             len(keys), "frequencies", P // 2, at_most=6),
        says("Share of the key frequencies in that power.", in_keys, "share", P // 2,
             at_least=0.9),
        says(f"{variance} cos and sin of w (a + b), w = 2 pi k / 53 for key frequencies k, with "
             "sizes of its own for every answer.", found.logits.directions, "share", P**3,
             at_least=0.9),
        says(f"{variance} cos w (a + b - c), with one size for all answers c.", found.logits.waves,
             "share", P**3, at_least=0.9),
        says("Loss on all sums.", losses["every"], "nats", every),
        says("Restricted loss, on all sums.", losses["restricted"], "nats", every,
             at_most=0.01),
        says("Excluded loss, on trained sums.", losses["excluded"], "nats", trained,
             at_least=2.0),
        says(f"Accuracy on all sums with {kept}.", right["only_keys"], "share", every,
             at_least=0.99),
        says("Accuracy on all sums without the key frequencies there.", right["without_keys"],
             "share", every, at_most=0.1),
        says("Neurons of whose variance at the equals sign one frequency explains "
             f"{NEURON_SHARE:.0%} or more.", found.neurons, "share", 256),
        says(f"{when} {LEARNT:.1%} of the trained sums are right.", about.memorised, "step", 1),
        says("Excluded loss then, on trained sums.",
             about.at(about.memorised)["excluded_loss"], "nats", trained),
        says(f"{when} the restricted loss is below {_FORMED:g} nat.", formed, "step", 1),
        says("Accuracy then, on sums it was not trained on.", about.at(formed)["test_accuracy"],
             "share", every - trained, at_most=0.3),
        says(f"{when} half of the other sums are right.", about.half, "step", 1),
        says(f"{when} {LEARNT:.1%} of the other sums are right.", about.learnt, "step", 1),
        says("Right answers on the clean prompts of mod-add-sums.",
             sum(found.behavior) / len(found.behavior), "share", len(found.behavior)),
    ]  # fmt: skip


PROSE: Final = """\
# Addition modulo 53

One layer without a norm, {n_heads} heads, 256 neurons (ReLU), a stream of 64 numbers. It reads two
numbers from 0 to 52 and an equals sign, with spaces between them, and answers at the equals sign:
after `17 30 =` it says `47`. Every number is one token. There are {every:,} sums; it was trained
on {trained:,} of them, all at once in each of {steps:,} steps, and tested on the other {others:,}.

## What happened in training

Steps are those at which the curve was measured; most plots have a logarithmic axis of steps.

* **By heart.** At step {memorised:,} it knows {learnt:.1%} of the trained sums, and {then:.0%} of
  the others. Weight decay goes on to prefer solutions with smaller weights.
* **A circuit forms.** The restricted loss (below), that of the key frequencies alone, is below
  {formed:g} nat at step {formed_at:,}, where {then_formed:.0%} of the other sums are right, and
  below {exact:g} at step {exact_at:,}, with {then_exact:.0%}: it falls long before test accuracy
  jumps. The excluded loss rises from {excluded_then:.1f} nats at step {memorised:,} to
  {excluded_most:.1f} at step {excluded_at:,}: the trained sums come to lean on these frequencies
  as well.
* **Clean-up.** The sum of squared weights falls from {peak:,.0f} (step {peak_step:,}) to
  {end:,.0f}. While test accuracy jumps, from step {half:,} (half of the other sums right) to
  {done:,} ({learnt:.1%}), it falls from {at_half:,.0f} to {at_done:,.0f}, {fall_in:.0f} in 100
  steps, against {fall_before:.0f} on average from its peak until then and {fall_after:.0f}
  afterwards; the embedding's Gini coefficient rises from {gini_half:.2f} to {gini_done:.2f}
  ({gini_start:.2f} at the start, {gini_end:.2f} at the end).

The phases overlap: while the circuit forms the weights shrink as well, by {early:.0f} in the 100
steps up to {early_at:,}. There are snapshots over all phases, stored in float16 whereas the curve
was measured on unrounded weights: accuracy on the other sums differs by {rounding:.4f} at most.

## The mechanism, as far as it is known

By the account of Nanda et al. numbers become points on circles: the embedding of n is made of
cos(2 pi k n / 53) and sin(2 pi k n / 53) for few frequencies k. The heads bring both numbers to
the equals sign, the neurons multiply such waves, and each answer c gets the logit
cos(2 pi k (a + b - c) / 53), summed over k: only the right answer does well for every k. Here:

* **Key frequencies** are those with at least {share:.0%} of the Fourier power of the embedding of
  the numbers (their mean left out): {keys}. They have {in_keys:.1%} of it.
* The logits of each answer c are projected, as functions of a and b, on cos w (a + b) and
  sin w (a + b), w = 2 pi k / 53 for key frequencies k. The projections have {directions:.1%} of
  the logits' variance over sums and answers; cos w (a + b - c), one size for all c, {waves:.1%}.
* **Restricted loss**: with only these projections and each answer's mean as logits, the loss on
  all sums is {restricted:.0e} nats (with the whole logits {whole:.0e}).
* **Excluded loss**: with only these projections taken out, the loss on the trained sums is
  {excluded_end:.2f} nats, that of a guess is {guess:.2f}.
* With only the key frequencies left in the embedding, {only:.1%} of all sums are right; with only
  these taken out, {without:.1%}.
* In {neurons:.0%} of the neurons one frequency explains {neuron_share:.0%} or more of the variance
  at the equals sign.

Restricted and excluded loss use the key frequencies of the final weights at every step, and the 53
numbers as answers, not the equals sign.

## What is not known, and weaknesses

* Which head or neuron does what was not worked out, nor why these frequencies: another seed may
  take others.
* The variance that the projections leave is not explained here. It may be noise or help.
* Of the other sums {mirrored:.0%} were trained on in the other order, as b + a.
* "Seen in training" is a feature of the behavior mod-add-sums, made from the split's fixed seed.
* Anything but two numbers and an equals sign was never trained: the model still answers.

## Origin

Every sum of two numbers below 53, no data and no weights from elsewhere; seed {seed}. {optimizer}.
The phenomenon is that of Power et al. (2022), Grokking. Restricted and excluded loss, the Gini
coefficients and the names of the phases are those of Nanda et al. (2023), Progress measures for
grokking via mechanistic interpretability; the threshold of key frequencies is ours. The export
reproduces the training code within {error:.0e} of the logits' standard deviation. Licence: MIT.
"""


def _fall(start: _train.Row, end: _train.Row) -> float:
    """By how much the sum of squared weights falls in 100 steps."""
    steps = end["step"] - start["step"]
    return 100 * (start["squared_weights"] - end["squared_weights"]) / steps


def _circuit(about: About) -> dict[str, float]:
    """What the prose says of the key frequencies in training."""
    formed, exact = about.restricted(_FORMED), about.restricted(_EXACT)
    most = max(about.curve, key=lambda row: row["excluded_loss"])
    return {
        "formed": _FORMED,
        "formed_at": formed,
        "then_formed": about.at(formed)["test_accuracy"],
        "exact": _EXACT,
        "exact_at": exact,
        "then_exact": about.at(exact)["test_accuracy"],
        "excluded_then": about.at(about.memorised)["excluded_loss"],
        "excluded_most": most["excluded_loss"],
        "excluded_at": int(most["step"]),
    }


def _clean_up(about: About) -> dict[str, float]:
    """What the prose says of weights in training."""
    peak = max(about.curve, key=lambda row: row["squared_weights"])
    half, done, end = about.at(about.half), about.at(about.learnt), about.curve[-1]
    before = [row for row in about.curve if peak["step"] <= row["step"] <= half["step"]]
    early = {int(two["step"]): _fall(one, two) for one, two in pairwise(before)}
    return {
        "peak": peak["squared_weights"],
        "peak_step": int(peak["step"]),
        "half": about.half,
        "at_half": half["squared_weights"],
        "done": about.learnt,
        "at_done": done["squared_weights"],
        "end": end["squared_weights"],
        "fall_before": _fall(peak, half),
        "fall_in": _fall(half, done),
        "fall_after": _fall(done, end),
        "early": max(early.values()),
        "early_at": max(early, key=early.__getitem__),
        "gini_start": about.curve[0]["gini_embedding"],
        "gini_half": half["gini_embedding"],
        "gini_done": done["gini_embedding"],
        "gini_end": end["gini_embedding"],
    }


def _prose(about: About, found: Found) -> str:
    trained = modular.trained()
    return PROSE.format(
        **_circuit(about),
        **_clean_up(about),
        n_heads=4,
        every=P * P,
        trained=int(trained.sum()),
        others=int((~trained).sum()),
        mirrored=float(trained.T[~trained].mean()),
        steps=about.trained["steps"],
        memorised=about.memorised,
        learnt=LEARNT,
        then=about.at(about.memorised)["test_accuracy"],
        rounding=about.rounding,
        share=fourier.KEY_SHARE,
        keys=", ".join(map(str, found.keys)),
        in_keys=float(found.shares[[k - 1 for k in found.keys]].sum()),
        directions=found.logits.directions,
        waves=found.logits.waves,
        restricted=found.losses["restricted"],
        whole=found.losses["every"],
        excluded_end=found.losses["excluded"],
        guess=math.log(P),
        only=found.accuracies["only_keys"],
        without=found.accuracies["without_keys"],
        neurons=found.neurons,
        neuron_share=NEURON_SHARE,
        seed=about.seed,
        optimizer=about.trained["optimizer"],
        error=about.error,
    )
