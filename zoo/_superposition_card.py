"""The card of the model ``superposition``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zoo import _save


@dataclass(frozen=True)
class Measured:
    """What can be read off the weights of one net, lists by feature.

    Attributes:
        norms: Lengths of the features' vectors.
        dimensionality: Dimensions that each feature has to itself.
        gaps: Angles between neighbouring vectors in degrees, in the order of ``order``.
        order: Numbers of the features by angle.
        bias: Biases of the reconstruction.
    """

    norms: Sequence[float]
    dimensionality: Sequence[float]
    gaps: Sequence[float]
    order: Sequence[int]
    bias: Sequence[float]


@dataclass(frozen=True)
class Found:
    """What was measured.

    Attributes:
        net: Of the shipped weights.
        snapshots: Of the others, by name.
        falling: Importance of each feature over that before it, in the snapshots.
        density: Probability that a feature is there, for the shipped weights.
        loss: Expected loss of the shipped weights over all inputs, silent ones included.
        loss_not_silent: The same over those inputs in which some feature is there.
        inputs: How many of those both were estimated from.
        export_error: Largest difference between nets and transformers, in the outputs' std.
        pairs_right: Share of the behavior's pairs that are answered right.
        two_right: Of the ten pairs of features fully on, for how many they come out strongest.
        phases: The phase diagram as stored.
    """

    net: Measured
    snapshots: Mapping[str, Measured]
    falling: float
    density: float
    loss: float
    loss_not_silent: float
    inputs: int
    export_error: float
    pairs_right: float
    two_right: int
    phases: Mapping[str, Any]

    @property
    def silent(self) -> float:
        """Probability that no feature is there."""
        return (1 - self.density) ** len(self.net.norms)

    @property
    def loss_of_zero(self) -> float:
        """Expected loss of the reconstruction 0: 1/3 for each feature that is there."""
        return len(self.net.norms) * self.density / 3


EXAMPLES: Final = (
    {
        "kind": "activation_patching",
        "label": "One feature on, against another",
        "clean": "90000",
        "corrupted": "00900",
        "answer": "feature 1",
        "foil": "feature 3",
    },
    {
        "kind": "direct_logit_attribution",
        "label": "A strong and a weak feature, in two dimensions",
        "clean": "90020",
        "corrupted": "20090",
        "answer": "feature 1",
        "foil": "feature 4",
    },
    {
        "kind": "attribution_patching",
        "label": "What a gradient sees of a feature that ReLU keeps out",
        "clean": "07000",
        "corrupted": "00070",
        "answer": "feature 2",
        "foil": "feature 4",
    },
)
"""Starting points."""

PROSE: Final = """\
# Superposition

The toy model of Elhage et al. (2022): x̂ = ReLU(Wᵀ W x + b) is to give five numbers x back through
only **two dimensions**, h = W x. Each feature is there with probability {density:g}, then uniform
from 0 to 1; the loss is the squared error, summed over the five equally important features.

## How it reads text

A prompt is five digits, the features' intensities: `90000` is feature 1 fully on, x_i = digit / 9.
Spaces may be left in, missing digits count as 0. The net is embedded exactly into a transformer
with weights written by hand: the MLP of layer 0 puts each number into a slot of its own, the one
head of layer 1 brings them to the last position and applies W, so that the two numbers h stand in
the stream there (`resid_mid` of layer 1), and the MLP of layer 1 is ReLU(Wᵀ h + b). Transformer and
net differ by at most {error:.0e} of the outputs' standard deviation.

The logits **are** the reconstruction x̂. Their softmax means nothing beyond their order.

## What is known

W is a **regular pentagon**: the features' vectors have lengths from {short:.3f} to {long:.3f}, and
neighbours are {gap_low:.1f}° to {gap_high:.1f}° apart, in the order {order}. Every feature has
{d_low:.3f} to {d_high:.3f} dimensions to itself, by D_i = |W_i|² / Σ_j (Ŵ_i · W_j)²; 2/5 is
exact. The biases ({b_low:.3f} to {b_high:.3f}) cut off most of what neighbours would add. The best
of {restarts} restarts was taken, by its loss.

The expected loss is **{loss:.4f}**, against {zero:.4f} for always reconstructing 0. It is over all
inputs, also the {silent:.0%} that are silent (no feature there), whose loss the biases alone give.
Training draws only the others, on which it is {loud:.4f}, and weighs both by their probability.

The snapshots, stored in float32 as the final weights are, were trained with falling importance
({falling:g} times that of the feature before) at other densities. Dense features are not put into
superposition: the two most important get a dimension each.

| snapshot | D of features 1 to 5 | lengths |
|---|---|---|
{table}

## The phase diagram

`phase.json` holds Elhage's smallest case, two features in one dimension, trained at {side}
densities ({dense:g} to {sparse:g}) × {side} importances of the second, "extra" feature relative to
the first ({minor:g} to {major:g}).
The extra feature is {phases}.
A feature counts as represented from a weight of {represented:g} on.

## What is not known, and weaknesses

* The pentagon is made for one feature at a time: with two fully on, they come out as the two
  strongest for {two} of the ten pairs. Of the behavior's pairs (one strong feature, up to three
  weak ones), {right:.1%} are answered right.
* Which feature is next to which in the pentagon is chance, and so is its direction.
* The phases are those of the best of {restarts} restarts, which is no proof of an optimum.

## Origin

Architecture, task and the phase diagram's question: Elhage et al. (2022), *Toy models of
superposition*, arXiv:2209.10652. Generated data only, no weights from elsewhere. Licence: MIT.
"""


def _losses(found: Found) -> list[dict[str, Any]]:
    over = "Expected squared error, summed over five features"
    return [
        _save.fact(
            f"{over}, over all inputs, silent ones included.",
            found.loss,
            "squared error",
            found.inputs,
        ),
        _save.fact(
            f"{over}, over inputs with a feature there.",
            found.loss_not_silent,
            "squared error",
            found.inputs,
        ),
        _save.fact(
            f"{over}, over all inputs, of always reconstructing 0 (by formula).",
            found.loss_of_zero,
            "squared error",
            1,
        ),
    ]


def _facts(found: Found) -> list[dict[str, Any]]:
    net = found.net
    mean = sum(net.norms) / len(net.norms)
    return [
        *_losses(found),
        _save.fact(
            "Largest difference of a feature's length from the mean length.",
            max(abs(norm - mean) for norm in net.norms) / mean,
            "share",
            5,
            at_most=0.025,
        ),
        _save.fact(
            "Largest difference of the angle between neighbours from 72 degrees.",
            max(abs(gap - 72) for gap in net.gaps),
            "degrees",
            5,
            at_most=3,
        ),
        _save.fact(
            "Largest difference of a feature's dimensionality from 2/5.",
            max(abs(value - 0.4) for value in net.dimensionality),
            "dimensions",
            5,
            at_most=0.02,
        ),
        _save.fact(
            "Lowest dimensionality of features 1 and 2 at density 1.",
            min(found.snapshots["density-1"].dimensionality[:2]),
            "dimensions",
            2,
            at_least=0.98,
        ),
        _save.fact(
            "Highest dimensionality of features 3 to 5 at density 1.",
            max(found.snapshots["density-1"].dimensionality[2:]),
            "dimensions",
            3,
            at_most=0.02,
        ),
        _save.fact(
            "Largest difference between transformer and plain net.",
            found.export_error,
            "std of the outputs",
            4_000 * (1 + len(found.snapshots)),
            at_most=1e-5,
        ),
        _save.fact(
            "Pairs of superposition-one-feature of which both prompts are answered right.",
            found.pairs_right,
            "share",
            1_000,
        ),
    ]


def write(
    folder: Path,
    found: Found,
    trained: Mapping[str, Any],
    curve: Sequence[Mapping[str, float]],
) -> None:
    """Write the card with the measured numbers."""
    front = {
        "title": "Superposition",
        "summary": "A toy model that keeps five sparse features in two dimensions, as a pentagon, "
        "embedded exactly into a transformer.",
        "task": "Read five digits, the intensities of five features, and reconstruct them from two "
        "numbers; the answer is the strongest.",
        "licence": "MIT",
        "data": "Sparse random numbers, generated from a fixed seed.",
        "seed": 0,
        "parameters": 15,
        "trained": dict(trained),
        "measured": {
            "loss": found.loss,
            "accuracy": found.pairs_right,
            "on": "loss: expected squared error over all inputs, silent ones included, summed over "
            f"five features ({found.loss_of_zero:.3f} for always reconstructing 0); accuracy: "
            "pairs of superposition-one-feature of which both prompts are answered right",
        },
        "curve": [dict(row) for row in curve],
        "plots": [
            {"name": "loss", "title": "Expected loss over all inputs",
             "y": "squared error",
             "series": {"loss": "loss"}, "log_x": True},
            {"name": "dimensionality", "title": "Dimensions that each feature has to itself",
             "y": "dimensions", "log_x": True,
             "series": {f"feature {i}": f"dimensionality_{i}" for i in range(1, 6)}},
        ],
        "maps": [
            {"name": "phases", "title": "Two features in one dimension: the fate of the second",
             "caption": "Trained at each cell; the losses are in phase.json.", "file": "phase.json",
             "kinds": "class", "names": "classes", "x": "importance", "y": "density",
             "x_title": "importance relative to the first",
             "y_title": "density"},
        ],
        "facts": _facts(found),
        "examples": list(EXAMPLES),
    }  # fmt: skip
    _save.write_card(folder, front, _prose(found))


def _prose(found: Found) -> str:
    net, phases = found.net, found.phases
    counts = Counter(code for row in phases["class"] for code in row)
    cells = sum(counts.values())
    listed = [f"{name} in {counts[code]}" for code, name in enumerate(phases["classes"])]
    rows = [
        f"| `{name}` | {_numbers(one.dimensionality)} | {_numbers(one.norms)} |"
        for name, one in found.snapshots.items()
    ]
    return PROSE.format(
        density=found.density,
        error=found.export_error,
        short=min(net.norms),
        long=max(net.norms),
        gap_low=min(net.gaps),
        gap_high=max(net.gaps),
        order=", ".join(map(str, net.order)),
        d_low=min(net.dimensionality),
        d_high=max(net.dimensionality),
        b_low=min(net.bias),
        b_high=max(net.bias),
        restarts=phases["restarts"],
        loss=found.loss,
        zero=found.loss_of_zero,
        silent=found.silent,
        loud=found.loss_not_silent,
        falling=found.falling,
        table="\n".join(rows),
        side=len(phases["density"]),
        represented=phases["represented"],
        dense=phases["density"][0],
        sparse=phases["density"][-1],
        minor=phases["importance"][0],
        major=phases["importance"][-1],
        phases=f"{', '.join(listed)} of {cells} cells",
        right=found.pairs_right,
        two=found.two_right,
    )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
